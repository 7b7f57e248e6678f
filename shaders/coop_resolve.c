// Build tool: finishes a SPIR-V module that uses shaders/coop.glsl. GL_EXT_spirv_intrinsics of older glslc takes only
// plain constants as operands of a type, so the source has placeholders there:
//
//   0xC0090000 + i   the specialization constant i            0xC00A0010, 0xC00A0020   the types f16 and f32
//
//   coop_resolve IN.spv OUT.spv
//
// In every OpTypeCooperativeMatrixKHR the placeholders become the ids of what they stand for, whose definitions move to
// the front, since glslc may have put them behind the type. Names are dropped.
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { MODULE_WORDS_MAX = 1 << 20, HOISTED_MAX = 16 };
enum { PLACE_CONSTANT = 0xC009, PLACE_TYPE = 0xC00A };

// Numbers of the SPIR-V specification, section 3.
// clang-format off
enum {
    OP_SOURCE_CONTINUED = 2, OP_SOURCE = 3, OP_SOURCE_EXTENSION = 4, OP_NAME = 5, OP_MEMBER_NAME = 6, OP_TYPE_VOID = 19,
    OP_TYPE_INT = 21, OP_TYPE_FLOAT = 22, OP_CONSTANT = 43, OP_SPEC_CONSTANT = 50, OP_DECORATE = 71,
    OP_TYPE_COOPERATIVE_MATRIX = 4456, SPEC_ID = 1,
};
// clang-format on

struct module {
    uint32_t *words;
    size_t count;
    size_t hoisted[HOISTED_MAX]; // places of definitions that move, in order
    unsigned hoisted_count;
};

static const char *path;

static _Noreturn void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "coop_resolve: %s: ", path);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void module_read(struct module *m)
{
    FILE *file = fopen(path, "rb");
    m->words = malloc(MODULE_WORDS_MAX * sizeof *m->words);
    if (!file || !m->words)
        fail("cannot read");
    m->count = fread(m->words, sizeof *m->words, MODULE_WORDS_MAX, file);
    fclose(file);
    if (m->count < 5 || m->count == MODULE_WORDS_MAX || m->words[0] != 0x07230203)
        fail("not a SPIR-V module");
    for (size_t at = 5; at < m->count; at += m->words[at] >> 16)
        if (m->words[at] >> 16 == 0 || m->words[at] >> 16 > m->count - at)
            fail("broken instruction at word %zu", at);
}

static unsigned op(const struct module *m, size_t at)
{
    return m->words[at] & 0xffff;
}

static size_t length(const struct module *m, size_t at)
{
    return m->words[at] >> 16;
}

// The first instruction `code` whose word `index` is `value`; fails if there is none.
static size_t find(const struct module *m, unsigned code, unsigned index, uint32_t value)
{
    for (size_t at = 5; at < m->count; at += length(m, at))
        if (op(m, at) == code && length(m, at) > index && m->words[at + index] == value)
            return at;
    fail("no instruction %u with operand %u = %u", code, index, value);
}

static void hoist(struct module *m, size_t at)
{
    for (unsigned i = 0; i < m->hoisted_count; i++)
        if (m->hoisted[i] == at)
            return;
    if (m->hoisted_count == HOISTED_MAX)
        fail("too many definitions");
    m->hoisted[m->hoisted_count++] = at;
}

static size_t spec_constant(const struct module *m, uint32_t spec_id)
{
    for (size_t at = 5; at < m->count; at += length(m, at))
        if (op(m, at) == OP_DECORATE && length(m, at) == 4 && m->words[at + 2] == SPEC_ID &&
            m->words[at + 3] == spec_id)
            return find(m, OP_SPEC_CONSTANT, 2, m->words[at + 1]);
    fail("no specialization constant %u", spec_id);
}

// The id that the placeholder constant `id` stands for; any other id stands for itself.
static uint32_t resolve(struct module *m, uint32_t id)
{
    size_t at = find(m, OP_CONSTANT, 2, id);
    uint32_t value = m->words[at + 3], low = value & 0xffff;
    if (value >> 16 == PLACE_CONSTANT) {
        size_t constant = spec_constant(m, low);
        size_t type = find(m, OP_TYPE_INT, 1, m->words[constant + 1]);
        hoist(m, type);
        hoist(m, constant);
        return m->words[constant + 2];
    }
    if (value >> 16 == PLACE_TYPE) {
        size_t type = find(m, OP_TYPE_FLOAT, 2, low == 0x10 ? 16 : 32);
        hoist(m, type);
        return m->words[type + 1];
    }
    return id;
}

static void resolve_types(struct module *m)
{
    unsigned types = 0;
    for (size_t at = 5; at < m->count; at += length(m, at)) {
        if (op(m, at) != OP_TYPE_COOPERATIVE_MATRIX)
            continue;
        if (length(m, at) != 7)
            fail("a cooperative matrix type has %zu words instead of 7", length(m, at));
        types++;
        for (unsigned i = 2; i < 7; i++)
            m->words[at + i] = resolve(m, m->words[at + i]);
    }
    if (types == 0)
        fail("no cooperative matrix type");
}

static bool dropped(const struct module *m, size_t at)
{
    for (unsigned i = 0; i < m->hoisted_count; i++)
        if (m->hoisted[i] == at)
            return true;
    return op(m, at) >= OP_SOURCE_CONTINUED && op(m, at) <= OP_MEMBER_NAME;
}

static void write_words(FILE *out, const struct module *m, size_t at, size_t count)
{
    fwrite(m->words + at, sizeof *m->words, count, out);
}

static void module_write(const struct module *m, const char *to)
{
    FILE *out = fopen(to, "wb");
    if (!out)
        fail("cannot write %s", to);
    bool hoisted = false;
    write_words(out, m, 0, 5);
    for (size_t at = 5; at < m->count; at += length(m, at)) {
        if (!hoisted && op(m, at) == OP_TYPE_VOID) { // the first definition of every module of glslc
            for (unsigned i = 0; i < m->hoisted_count; i++)
                write_words(out, m, m->hoisted[i], length(m, m->hoisted[i]));
            hoisted = true;
        }
        if (!dropped(m, at))
            write_words(out, m, at, length(m, at));
    }
    bool broken = ferror(out) != 0;
    if (fclose(out) != 0 || broken || !hoisted)
        fail("cannot write %s", to);
}

int main(int argc, char **argv)
{
    struct module m = {0};
    if (argc != 3) {
        fprintf(stderr, "usage: coop_resolve IN.spv OUT.spv\n");
        return 1;
    }
    path = argv[1];
    module_read(&m);
    resolve_types(&m);
    module_write(&m, argv[2]);
    free(m.words);
    return 0;
}
