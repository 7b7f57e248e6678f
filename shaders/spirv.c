#include "shaders/spirv.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { WORDS_MAX = 1 << 20 };

_Noreturn void spirv_fail(const struct spirv *m, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: %s: ", m->program, m->path);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

void *spirv_allocate(const struct spirv *m, size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory)
        spirv_fail(m, "out of memory");
    return memory;
}

void spirv_read(struct spirv *m)
{
    FILE *file = fopen(m->path, "rb");
    if (!file)
        spirv_fail(m, "cannot open");
    m->words = spirv_allocate(m, WORDS_MAX, sizeof *m->words);
    size_t bytes = fread(m->words, 1, WORDS_MAX * sizeof *m->words, file);
    fclose(file);
    m->count = bytes / sizeof *m->words;
    if (bytes % 4 || m->count < 5 || m->count == WORDS_MAX || m->words[0] != 0x07230203)
        spirv_fail(m, "not a SPIR-V module");
    m->bound = m->words[3];
    if (m->bound == 0 || m->bound > WORDS_MAX)
        spirv_fail(m, "id bound %u", m->bound);
    for (size_t at = 0; spirv_next(m, &at);)
        if (spirv_length(m, at) == 0 || spirv_length(m, at) > m->count - at)
            spirv_fail(m, "broken instruction at word %zu", at);
}

uint32_t spirv_operand(const struct spirv *m, size_t at, unsigned index)
{
    if (index >= spirv_length(m, at))
        spirv_fail(m, "instruction at word %zu is too short", at);
    return m->words[at + index];
}

void spirv_index(struct spirv *m)
{
    m->definitions = spirv_allocate(m, m->bound, sizeof *m->definitions);
    for (size_t at = 0; spirv_next(m, &at);) {
        bool type = spirv_op(m, at) >= OP_TYPE_VOID && spirv_op(m, at) <= OP_TYPE_POINTER;
        bool value = spirv_op(m, at) >= OP_CONSTANT_TRUE && spirv_op(m, at) <= OP_SPEC_CONSTANT_COMPOSITE;
        if (!type && !value && spirv_op(m, at) != OP_VARIABLE)
            continue;
        uint32_t id = spirv_operand(m, at, type ? 1 : 2);
        if (id >= m->bound)
            spirv_fail(m, "id %u out of bounds", id);
        m->definitions[id] = at;
    }
}

size_t spirv_definition(const struct spirv *m, uint32_t id)
{
    if (id >= m->bound || !m->definitions[id])
        spirv_fail(m, "id %u is not a type, constant or variable", id);
    return m->definitions[id];
}

bool spirv_decoration(const struct spirv *m, uint32_t id, int member, uint32_t kind, uint32_t *value)
{
    unsigned place = member < 0 ? 2 : 3;
    for (size_t at = 0; spirv_next(m, &at);) {
        if (spirv_op(m, at) != (member < 0 ? OP_DECORATE : OP_MEMBER_DECORATE) || spirv_operand(m, at, 1) != id ||
            spirv_operand(m, at, place) != kind || (member >= 0 && spirv_operand(m, at, 2) != (uint32_t)member))
            continue;
        if (value)
            *value = spirv_operand(m, at, place + 1);
        return true;
    }
    return false;
}
