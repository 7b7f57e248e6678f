// Build tool: finishes a SPIR-V module that uses shaders/coop.glsl. GL_EXT_spirv_intrinsics of older glslc takes only
// plain constants as operands of a type, so the source has placeholders there:
//
//   0xC0090000 + i   the specialization constant i            0xC00A0010, 0xC00A0020   the types f16 and f32
//
//   coop_resolve IN.spv OUT.spv
//
// In every OpTypeCooperativeMatrixKHR the placeholders become the ids of what they stand for, whose definitions move to
// the front, since glslc may have put them behind the type. Names are dropped.
#include <stdio.h>
#include <stdlib.h>

#include "shaders/spirv.h"

enum { HOISTED_MAX = 16 };
enum { PLACE_CONSTANT = 0xC009, PLACE_TYPE = 0xC00A };

struct module {
    struct spirv spirv;
    size_t hoisted[HOISTED_MAX]; // places of definitions that move, in order
    unsigned hoisted_count;
};

// The first instruction `code` whose word `index` is `value`; fails if there is none.
static size_t find(const struct module *m, unsigned code, unsigned index, uint32_t value)
{
    for (size_t at = 0; spirv_next(&m->spirv, &at);)
        if (spirv_op(&m->spirv, at) == code && spirv_length(&m->spirv, at) > index &&
            m->spirv.words[at + index] == value)
            return at;
    spirv_fail(&m->spirv, "no instruction %u with operand %u = %u", code, index, value);
}

static void hoist(struct module *m, size_t at)
{
    for (unsigned i = 0; i < m->hoisted_count; i++)
        if (m->hoisted[i] == at)
            return;
    if (m->hoisted_count == HOISTED_MAX)
        spirv_fail(&m->spirv, "too many definitions");
    m->hoisted[m->hoisted_count++] = at;
}

static size_t spec_constant(const struct module *m, uint32_t spec_id)
{
    for (size_t at = 0; spirv_next(&m->spirv, &at);)
        if (spirv_op(&m->spirv, at) == OP_DECORATE && spirv_length(&m->spirv, at) == 4 &&
            m->spirv.words[at + 2] == SPEC_ID && m->spirv.words[at + 3] == spec_id)
            return find(m, OP_SPEC_CONSTANT, 2, m->spirv.words[at + 1]);
    spirv_fail(&m->spirv, "no specialization constant %u", spec_id);
}

// The id that the placeholder constant `id` stands for; any other id stands for itself.
static uint32_t resolve(struct module *m, uint32_t id)
{
    size_t at = find(m, OP_CONSTANT, 2, id);
    uint32_t value = m->spirv.words[at + 3], low = value & 0xffff;
    if (value >> 16 == PLACE_CONSTANT) {
        size_t constant = spec_constant(m, low);
        size_t type = find(m, OP_TYPE_INT, 1, m->spirv.words[constant + 1]);
        hoist(m, type);
        hoist(m, constant);
        return m->spirv.words[constant + 2];
    }
    if (value >> 16 == PLACE_TYPE) {
        size_t type = find(m, OP_TYPE_FLOAT, 2, low == 0x10 ? 16 : 32);
        hoist(m, type);
        return m->spirv.words[type + 1];
    }
    return id;
}

static void resolve_types(struct module *m)
{
    unsigned types = 0;
    for (size_t at = 0; spirv_next(&m->spirv, &at);) {
        if (spirv_op(&m->spirv, at) != OP_TYPE_COOPERATIVE_MATRIX)
            continue;
        if (spirv_length(&m->spirv, at) != 7)
            spirv_fail(&m->spirv, "a cooperative matrix type has %u words instead of 7", spirv_length(&m->spirv, at));
        types++;
        for (unsigned i = 2; i < 7; i++)
            m->spirv.words[at + i] = resolve(m, m->spirv.words[at + i]);
    }
    if (types == 0)
        spirv_fail(&m->spirv, "no cooperative matrix type");
}

static bool dropped(const struct module *m, size_t at)
{
    for (unsigned i = 0; i < m->hoisted_count; i++)
        if (m->hoisted[i] == at)
            return true;
    return spirv_op(&m->spirv, at) >= OP_SOURCE_CONTINUED && spirv_op(&m->spirv, at) <= OP_MEMBER_NAME;
}

static void write_words(FILE *out, const struct module *m, size_t at, size_t count)
{
    fwrite(m->spirv.words + at, sizeof *m->spirv.words, count, out);
}

static void module_write(const struct module *m, const char *to)
{
    FILE *out = fopen(to, "wb");
    if (!out)
        spirv_fail(&m->spirv, "cannot write %s", to);
    bool hoisted = false;
    write_words(out, m, 0, 5);
    for (size_t at = 0; spirv_next(&m->spirv, &at);) {
        if (!hoisted && spirv_op(&m->spirv, at) == OP_TYPE_VOID) { // the first definition of every module of glslc
            for (unsigned i = 0; i < m->hoisted_count; i++)
                write_words(out, m, m->hoisted[i], spirv_length(&m->spirv, m->hoisted[i]));
            hoisted = true;
        }
        if (!dropped(m, at))
            write_words(out, m, at, spirv_length(&m->spirv, at));
    }
    bool broken = ferror(out) != 0;
    if (fclose(out) != 0 || broken || !hoisted)
        spirv_fail(&m->spirv, "cannot write %s", to);
}

int main(int argc, char **argv)
{
    struct module m = {0};
    if (argc != 3) {
        fprintf(stderr, "usage: coop_resolve IN.spv OUT.spv\n");
        return 1;
    }
    m.spirv = (struct spirv){.program = "coop_resolve", .path = argv[1]};
    spirv_read(&m.spirv);
    resolve_types(&m);
    module_write(&m, argv[2]);
    free(m.spirv.words);
    return 0;
}
