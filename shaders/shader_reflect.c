// Build tool: reads SPIR-V modules and writes shader_table.h and shader_table.c, which embed them together with what
// the host must know of them (see write_header for the result).
//
//   shader_reflect OUTPUT_PREFIX {CONTRACT.spv MODULE.spv}...
//
// Each module comes twice: CONTRACT as the source declares it, MODULE optimised. The first is reflected, because the
// optimiser drops bindings and constants that one variant happens not to use; the second is embedded, under its file
// name.
#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BINDINGS_MAX = 16,
    ARRAY_BUFFERS = 16, // of binding 0, where that is an array
    BUFFERS_MAX = 24,   // of all bindings
    CONSTANTS_MAX = 12,
    MODULE_WORDS_MAX = 1 << 20,
    DEPTH_MAX = 8,
    NAME_MAX_BYTES = 64
};

// Numbers of the SPIR-V specification, section 3.
// clang-format off
enum {
    OP_EXECUTION_MODE = 16, OP_CAPABILITY = 17, OP_TYPE_VOID = 19, OP_TYPE_INT = 21, OP_TYPE_FLOAT = 22,
    OP_TYPE_VECTOR = 23, OP_TYPE_ARRAY = 28, OP_TYPE_STRUCT = 30, OP_TYPE_POINTER = 32, OP_CONSTANT_TRUE = 41,
    OP_CONSTANT = 43, OP_CONSTANT_COMPOSITE = 44, OP_SPEC_CONSTANT_TRUE = 48, OP_SPEC_CONSTANT_FALSE = 49,
    OP_SPEC_CONSTANT = 50, OP_SPEC_CONSTANT_COMPOSITE = 51, OP_VARIABLE = 59, OP_DECORATE = 71, OP_MEMBER_DECORATE = 72,
    MODE_LOCAL_SIZE = 17, BUILTIN_WORKGROUP_SIZE = 25,
    SPEC_ID = 1, ARRAY_STRIDE = 6, BUILTIN = 11, NON_WRITABLE = 24, NON_READABLE = 25, BINDING = 33, SET = 34, OFFSET = 35,
    CLASS_UNIFORM_CONSTANT = 0, CLASS_UNIFORM = 2, CLASS_PUSH = 9, CLASS_STORAGE = 12,
};
// clang-format on

enum { FLOAT16 = 9, VULKAN_MEMORY_MODEL = 5345, COOPERATIVE_MATRIX = 6022 }; // capabilities

// What modules may use; each needs its feature to be required in runtime/gpu/device_caps.c.
static const uint32_t capabilities_allowed[] = {
    1,    // Shader
    30,   // StorageBufferArrayDynamicIndexing
    11,   // Int64: only the kernels for drivers that have it, see runtime/ops/tuning.c
    61,   // GroupNonUniform: subgroup numbers, which every Vulkan 1.1 device has in compute shaders
    6018, // DotProductInput4x8BitPacked
    6019, // DotProduct
    // Only in modules with matrix cores, which run only where gpu_caps.matrix_cores says so.
    FLOAT16,
    VULKAN_MEMORY_MODEL,
    COOPERATIVE_MATRIX,
};

struct module {
    char name[NAME_MAX_BYTES];
    const char *path;
    uint32_t *words;
    size_t word_count;
    uint32_t bound;    // ids are below it
    size_t *id_offset; // [bound] word offset of the instruction that makes the id; 0: none that matters
    unsigned binding_count, push_bytes, constant_count;
    unsigned array_count; // buffers of binding 0
    uint32_t written_mask, read_mask;
    uint32_t local_size[3], constants[CONSTANTS_MAX];
    bool uses_matrix_cores;
};

static _Noreturn void fail(const struct module *m, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "shader_reflect: %s: ", m->path);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void *allocate(const struct module *m, size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory)
        fail(m, "out of memory");
    return memory;
}

static void module_read(struct module *m)
{
    FILE *file = fopen(m->path, "rb");
    if (!file)
        fail(m, "cannot open");
    m->words = allocate(m, MODULE_WORDS_MAX, sizeof *m->words);
    size_t bytes = fread(m->words, 1, MODULE_WORDS_MAX * sizeof *m->words, file);
    fclose(file);
    m->word_count = bytes / sizeof *m->words;
    if (bytes % 4 || m->word_count < 5 || m->word_count == MODULE_WORDS_MAX || m->words[0] != 0x07230203)
        fail(m, "not a SPIR-V module");
    m->bound = m->words[3];
    if (m->bound == 0 || m->bound > MODULE_WORDS_MAX)
        fail(m, "id bound %u", m->bound);
}

// Moves `at` to the instruction behind it; false at the end. Start with at = 0.
static bool next(const struct module *m, size_t *at)
{
    *at += *at ? m->words[*at] >> 16 : 5;
    if (*at == m->word_count)
        return false;
    if (m->words[*at] >> 16 == 0 || m->words[*at] >> 16 > m->word_count - *at)
        fail(m, "broken instruction at word %zu", *at);
    return true;
}

static unsigned op(const struct module *m, size_t at)
{
    return m->words[at] & 0xffff;
}

static unsigned length(const struct module *m, size_t at)
{
    return m->words[at] >> 16;
}

static uint32_t operand(const struct module *m, size_t at, unsigned index)
{
    if (index >= length(m, at))
        fail(m, "instruction at word %zu is too short", at);
    return m->words[at + index];
}

static size_t definition(const struct module *m, uint32_t id)
{
    if (id >= m->bound || !m->id_offset[id])
        fail(m, "id %u is not a type, constant or variable", id);
    return m->id_offset[id];
}

static void module_index(struct module *m)
{
    m->id_offset = allocate(m, m->bound, sizeof *m->id_offset);
    for (size_t at = 0; next(m, &at);) {
        bool type = op(m, at) >= OP_TYPE_VOID && op(m, at) <= OP_TYPE_POINTER;
        bool value = op(m, at) >= OP_CONSTANT_TRUE && op(m, at) <= OP_SPEC_CONSTANT_COMPOSITE;
        if (!type && !value && op(m, at) != OP_VARIABLE)
            continue;
        uint32_t id = operand(m, at, type ? 1 : 2);
        if (id >= m->bound)
            fail(m, "id %u out of bounds", id);
        m->id_offset[id] = at;
    }
}

// The decoration `kind` of `id`, or of its member where member >= 0. `value` may be NULL.
static bool decoration(const struct module *m, uint32_t id, int member, uint32_t kind, uint32_t *value)
{
    unsigned place = member < 0 ? 2 : 3;
    for (size_t at = 0; next(m, &at);) {
        if (op(m, at) != (member < 0 ? OP_DECORATE : OP_MEMBER_DECORATE) || operand(m, at, 1) != id ||
            operand(m, at, place) != kind || (member >= 0 && operand(m, at, 2) != (uint32_t)member))
            continue;
        if (value)
            *value = operand(m, at, place + 1);
        return true;
    }
    return false;
}

// Bytes of a type in a block with explicit layout.
static uint64_t type_bytes(const struct module *m, uint32_t type, int depth)
{
    size_t at = definition(m, type);
    uint32_t stride, offset;
    uint64_t bytes = 0;
    if (depth > DEPTH_MAX)
        fail(m, "types nest too deep");
    switch (op(m, at)) {
    case OP_TYPE_INT:
    case OP_TYPE_FLOAT:
        return operand(m, at, 2) / 8;
    case OP_TYPE_VECTOR:
        return operand(m, at, 3) * type_bytes(m, operand(m, at, 2), depth + 1);
    case OP_TYPE_ARRAY:
        if (!decoration(m, type, -1, ARRAY_STRIDE, &stride))
            fail(m, "array without stride");
        return (uint64_t)operand(m, definition(m, operand(m, at, 3)), 3) * stride;
    case OP_TYPE_STRUCT:
        for (unsigned i = 2; i < length(m, at); i++) {
            if (!decoration(m, type, (int)i - 2, OFFSET, &offset))
                fail(m, "struct member without offset");
            uint64_t end = offset + type_bytes(m, operand(m, at, i), depth + 1);
            bytes = end > bytes ? end : bytes;
        }
        return (bytes + 3) / 4 * 4;
    }
    fail(m, "a block holds a type that the host cannot share (operation %u)", op(m, at));
}

// Whether the block variable has `kind` (NonWritable or NonReadable), itself or on all its members.
static bool block_has(const struct module *m, uint32_t variable, uint32_t block, uint32_t kind)
{
    if (decoration(m, variable, -1, kind, NULL))
        return true;
    unsigned members = length(m, definition(m, block)) - 2;
    for (unsigned i = 0; i < members; i++)
        if (!decoration(m, block, (int)i, kind, NULL))
            return false;
    return members > 0;
}

// Binding 0 may be an array of ARRAY_BUFFERS buffers. The type of one.
static uint32_t reflect_array(struct module *m, uint32_t type, uint32_t binding)
{
    size_t at = definition(m, type);
    unsigned count = 1;
    if (op(m, at) == OP_TYPE_ARRAY) {
        count = operand(m, definition(m, operand(m, at, 3)), 3);
        type = operand(m, at, 2);
        if (binding != 0 || count != ARRAY_BUFFERS)
            fail(m, "binding %u is an array of %u buffers; only binding 0 may be one, of %d", binding, count,
                 ARRAY_BUFFERS);
    }
    if (binding == 0 && m->array_count && m->array_count != count)
        fail(m, "binding 0 is an array and not");
    if (binding == 0)
        m->array_count = count;
    return type;
}

static void reflect_buffer(struct module *m, uint32_t variable, uint32_t type, uint32_t *seen)
{
    uint32_t set = 0, binding;
    decoration(m, variable, -1, SET, &set);
    if (set != 0 || !decoration(m, variable, -1, BINDING, &binding) || binding >= BINDINGS_MAX)
        fail(m, "storage buffers must be in set 0 with a binding below %d", BINDINGS_MAX);
    uint32_t block = reflect_array(m, type, binding);
    if (op(m, definition(m, block)) != OP_TYPE_STRUCT)
        fail(m, "binding %u is no buffer", binding);
    *seen |= 1u << binding;
    if (!block_has(m, variable, block, NON_WRITABLE))
        m->written_mask |= 1u << binding;
    if (!block_has(m, variable, block, NON_READABLE))
        m->read_mask |= 1u << binding;
}

static void reflect_variables(struct module *m)
{
    uint32_t seen = 0;
    for (size_t at = 0; next(m, &at);) {
        if (op(m, at) != OP_VARIABLE)
            continue;
        uint32_t storage = operand(m, at, 3);
        uint32_t type = operand(m, definition(m, operand(m, at, 1)), 3);
        if (storage == CLASS_UNIFORM || storage == CLASS_UNIFORM_CONSTANT)
            fail(m, "only storage buffers and push constants are supported");
        if (storage == CLASS_PUSH)
            m->push_bytes = (unsigned)type_bytes(m, type, 0);
        if (storage == CLASS_STORAGE)
            reflect_buffer(m, operand(m, at, 2), type, &seen);
    }
    while (seen >> m->binding_count & 1)
        m->binding_count++;
    if (m->binding_count < BINDINGS_MAX && seen >> m->binding_count)
        fail(m, "binding %u is missing: bindings must count from 0 without a gap", m->binding_count);
    // The host tells sets with an array by their having more than BINDINGS_MAX buffers.
    if (m->array_count > 1 && (m->binding_count < 2 || m->binding_count - 1 + ARRAY_BUFFERS > BUFFERS_MAX))
        fail(m, "%u bindings beside an array; 1 to %d are supported", m->binding_count - 1, BUFFERS_MAX - ARRAY_BUFFERS);
    if (m->push_bytes > 128)
        fail(m, "%u bytes of push constants; every device has 128, some no more", m->push_bytes);
}

static uint32_t constant_default(const struct module *m, uint32_t id)
{
    size_t at = definition(m, id);
    if (op(m, at) == OP_SPEC_CONSTANT_TRUE || op(m, at) == OP_SPEC_CONSTANT_FALSE)
        return op(m, at) == OP_SPEC_CONSTANT_TRUE;
    if ((op(m, at) != OP_SPEC_CONSTANT && op(m, at) != OP_CONSTANT) || length(m, at) != 4)
        fail(m, "constant %u does not have 4 bytes", id);
    return operand(m, at, 3);
}

static void reflect_constants(struct module *m)
{
    uint32_t seen = 0;
    for (size_t at = 0; next(m, &at);) {
        if (op(m, at) != OP_DECORATE || operand(m, at, 2) != SPEC_ID)
            continue;
        uint32_t spec_id = operand(m, at, 3);
        if (spec_id >= CONSTANTS_MAX)
            fail(m, "specialization constant %u: only 0..%d are supported", spec_id, CONSTANTS_MAX - 1);
        seen |= 1u << spec_id;
        m->constants[spec_id] = constant_default(m, operand(m, at, 1));
    }
    while (seen >> m->constant_count & 1)
        m->constant_count++;
    if (seen >> m->constant_count)
        fail(m, "specialization constant %u is missing: ids must count from 0 without a gap", m->constant_count);
}

// A WorkgroupSize built-in, which local_size_x_id makes, overrides the execution mode.
static void reflect_local_size(struct module *m)
{
    for (size_t at = 0; next(m, &at);) {
        uint32_t builtin;
        if (op(m, at) == OP_EXECUTION_MODE && operand(m, at, 2) == MODE_LOCAL_SIZE)
            for (unsigned i = 0; i < 3; i++)
                m->local_size[i] = operand(m, at, 3 + i);
        bool composite = op(m, at) == OP_SPEC_CONSTANT_COMPOSITE || op(m, at) == OP_CONSTANT_COMPOSITE;
        if (composite && decoration(m, operand(m, at, 2), -1, BUILTIN, &builtin) && builtin == BUILTIN_WORKGROUP_SIZE)
            for (unsigned i = 0; i < 3; i++)
                m->local_size[i] = constant_default(m, operand(m, at, 3 + i));
    }
    if (m->local_size[0] == 0)
        fail(m, "no local size: is it a compute shader?");
}

static bool has_capability(const struct module *m, uint32_t capability)
{
    for (size_t at = 0; next(m, &at);)
        if (op(m, at) == OP_CAPABILITY && operand(m, at, 1) == capability)
            return true;
    return false;
}

static void check_capabilities(struct module *m)
{
    const size_t count = sizeof capabilities_allowed / sizeof capabilities_allowed[0];
    m->uses_matrix_cores = has_capability(m, COOPERATIVE_MATRIX);
    if (!m->uses_matrix_cores && (has_capability(m, FLOAT16) || has_capability(m, VULKAN_MEMORY_MODEL)))
        fail(m, "16-bit arithmetic and Vulkan's memory model are for modules with matrix cores only");
    for (size_t at = 0; next(m, &at);) {
        size_t i = 0;
        while (op(m, at) == OP_CAPABILITY && i < count && capabilities_allowed[i] != operand(m, at, 1))
            i++;
        if (i == count)
            fail(m, "SPIR-V capability %u is not one of shaders/shader_reflect.c", operand(m, at, 1));
    }
}

static void module_reflect(struct module *m, const char *contract, const char *path)
{
    m->path = contract;
    module_read(m);
    module_index(m);
    check_capabilities(m);
    reflect_variables(m);
    reflect_constants(m);
    reflect_local_size(m);
    free(m->words);
    free(m->id_offset);
    m->path = path;
    module_read(m);
    const char *slash = strrchr(path, '/');
    snprintf(m->name, sizeof m->name, "%s", slash ? slash + 1 : path);
    m->name[strcspn(m->name, ".")] = '\0';
}

static FILE *create(const char *prefix, const char *suffix)
{
    char path[4096];
    snprintf(path, sizeof path, "%s%s", prefix, suffix);
    FILE *file = fopen(path, "w");
    if (!file) {
        fprintf(stderr, "shader_reflect: cannot write %s\n", path);
        exit(1);
    }
    return file;
}

static void write_header(FILE *out, const struct module *modules, int count)
{
    fprintf(out,
            "// Generated by shaders/shader_reflect.c from shaders/manifest.cmake.\n"
            "#ifndef SLUICE_SHADERS_SHADER_TABLE_H\n#define SLUICE_SHADERS_SHADER_TABLE_H\n\n"
            "#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n\n"
            "enum { SHADER_BINDINGS_MAX = %d, SHADER_ARRAY_BUFFERS = %d, SHADER_BUFFERS_MAX = %d };\n"
            "enum { SHADER_CONSTANTS_MAX = %d };\n\nenum shader_id {\n",
            BINDINGS_MAX, ARRAY_BUFFERS, BUFFERS_MAX, CONSTANTS_MAX);
    for (int i = 0; i < count; i++) {
        fprintf(out, "    SHADER_");
        for (const char *c = modules[i].name; *c; c++)
            fputc(toupper((unsigned char)*c), out);
        fprintf(out, ",\n");
    }
    fprintf(out, "    SHADER_COUNT\n};\n\n"
                 "struct shader_module {\n"
                 "    const char *name;\n"
                 "    const uint32_t *words; // SPIR-V; entry point \"main\"\n"
                 "    size_t word_count;\n"
                 "    unsigned binding_count;  // storage buffers of set 0, bindings 0..binding_count-1\n"
                 "    unsigned array_count;    // buffers of binding 0: 1, or an array of SHADER_ARRAY_BUFFERS\n"
                 "    uint32_t written_mask;   // bit i: binding i may be written\n"
                 "    uint32_t read_mask;      // bit i: binding i may be read\n"
                 "    unsigned push_bytes;     // size of the push constant block, from offset 0\n"
                 "    unsigned constant_count; // specialization constants, ids 0..constant_count-1, 4 bytes each\n"
                 "    uint32_t constants[SHADER_CONSTANTS_MAX]; // their defaults\n"
                 "    uint32_t local_size[3];  // with the defaults\n"
                 "    bool uses_matrix_cores;  // needs gpu_caps.matrix_cores\n"
                 "};\n\n"
                 "const struct shader_module *shader_module_get(enum shader_id shader);\n\n#endif\n");
}

static void write_words(FILE *out, const struct module *m)
{
    fprintf(out, "static const uint32_t %s_words[%zu] = {", m->name, m->word_count);
    for (size_t i = 0; i < m->word_count; i++)
        fprintf(out, "%s0x%x,", i % 10 ? " " : "\n    ", m->words[i]);
    fprintf(out, "\n};\n\n");
}

static void write_source(FILE *out, const struct module *modules, int count)
{
    fprintf(out, "#include \"shaders/shader_table.h\"\n\n");
    for (int i = 0; i < count; i++)
        write_words(out, &modules[i]);
    fprintf(out, "static const struct shader_module modules[SHADER_COUNT] = {\n");
    for (int i = 0; i < count; i++) {
        const struct module *m = &modules[i];
        fprintf(out, "    {\"%s\", %s_words, %zu, %u, %u, 0x%xu, 0x%xu, %u, %u, {", m->name, m->name, m->word_count,
                m->binding_count, m->array_count ? m->array_count : 1, m->written_mask, m->read_mask, m->push_bytes,
                m->constant_count);
        for (int c = 0; c < CONSTANTS_MAX; c++)
            fprintf(out, "%uu%s", m->constants[c], c + 1 < CONSTANTS_MAX ? ", " : "}, ");
        fprintf(out, "{%u, %u, %u}, %d},\n", m->local_size[0], m->local_size[1], m->local_size[2],
                m->uses_matrix_cores);
    }
    fprintf(out, "};\n\nconst struct shader_module *shader_module_get(enum shader_id shader)\n"
                 "{\n    return &modules[shader];\n}\n");
}

int main(int argc, char **argv)
{
    int count = (argc - 2) / 2;
    if (count < 1 || argc != 2 + 2 * count) {
        fprintf(stderr, "usage: shader_reflect OUTPUT_PREFIX {CONTRACT.spv MODULE.spv}...\n");
        return 1;
    }
    struct module *modules = calloc((size_t)count, sizeof *modules);
    if (!modules)
        return 1;
    for (int i = 0; i < count; i++)
        module_reflect(&modules[i], argv[2 + 2 * i], argv[3 + 2 * i]);

    FILE *header = create(argv[1], ".h");
    write_header(header, modules, count);
    FILE *source = create(argv[1], ".c");
    write_source(source, modules, count);
    int broken = ferror(header) | fclose(header) | ferror(source) | fclose(source);
    for (int i = 0; i < count; i++)
        free(modules[i].words);
    free(modules);
    return broken ? 1 : 0;
}
