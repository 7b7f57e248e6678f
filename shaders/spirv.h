// The words of a SPIR-V module, for the programs of the build: an instruction begins with its length in words and its
// operation (specification, section 2.3). A program that finds a module wrong says what is wrong and ends.
#ifndef SLUICE_SHADERS_SPIRV_H
#define SLUICE_SHADERS_SPIRV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Numbers of the SPIR-V specification, section 3.
// clang-format off
enum {
    OP_SOURCE_CONTINUED = 2, OP_SOURCE = 3, OP_SOURCE_EXTENSION = 4, OP_NAME = 5, OP_MEMBER_NAME = 6,
    OP_EXECUTION_MODE = 16, OP_CAPABILITY = 17, OP_TYPE_VOID = 19, OP_TYPE_INT = 21, OP_TYPE_FLOAT = 22,
    OP_TYPE_VECTOR = 23, OP_TYPE_ARRAY = 28, OP_TYPE_STRUCT = 30, OP_TYPE_POINTER = 32, OP_CONSTANT_TRUE = 41,
    OP_CONSTANT = 43, OP_CONSTANT_COMPOSITE = 44, OP_SPEC_CONSTANT_TRUE = 48, OP_SPEC_CONSTANT_FALSE = 49,
    OP_SPEC_CONSTANT = 50, OP_SPEC_CONSTANT_COMPOSITE = 51, OP_VARIABLE = 59, OP_DECORATE = 71, OP_MEMBER_DECORATE = 72,
    OP_TYPE_COOPERATIVE_MATRIX = 4456,
    MODE_LOCAL_SIZE = 17, BUILTIN_WORKGROUP_SIZE = 25,
    SPEC_ID = 1, ARRAY_STRIDE = 6, BUILTIN = 11, NON_WRITABLE = 24, NON_READABLE = 25, BINDING = 33, SET = 34, OFFSET = 35,
    CLASS_UNIFORM_CONSTANT = 0, CLASS_UNIFORM = 2, CLASS_PUSH = 9, CLASS_STORAGE = 12,
};
// clang-format on

struct spirv {
    const char *program, *path; // for messages
    uint32_t *words;            // [count], malloc
    size_t count;
    uint32_t bound;      // ids are below it
    size_t *definitions; // [bound] of spirv_index, malloc; or NULL
};

// "PROGRAM: PATH: ..." to stderr, exit status 1.
_Noreturn void spirv_fail(const struct spirv *m, const char *format, ...) __attribute__((format(printf, 2, 3)));

void *spirv_allocate(const struct spirv *m, size_t count, size_t size); // zeros; free

// Reads m->path and checks that it is whole instructions to the end. The caller frees m->words.
void spirv_read(struct spirv *m);

// Moves `at` to the instruction behind it; false at the end. Start with at = 0.
static inline bool spirv_next(const struct spirv *m, size_t *at)
{
    *at += *at ? m->words[*at] >> 16 : 5;
    return *at < m->count;
}

static inline unsigned spirv_op(const struct spirv *m, size_t at)
{
    return m->words[at] & 0xffff;
}

static inline unsigned spirv_length(const struct spirv *m, size_t at) // in words
{
    return m->words[at] >> 16;
}

// Word `index` of the instruction; fails if it is shorter.
uint32_t spirv_operand(const struct spirv *m, size_t at, unsigned index);

// Notes where types, constants and variables are made, for the two below. The caller frees m->definitions.
void spirv_index(struct spirv *m);

// The instruction that makes `id`; fails if that is no type, constant or variable.
size_t spirv_definition(const struct spirv *m, uint32_t id);

// The decoration `kind` of `id`, or of its member where member >= 0. `value` may be NULL.
bool spirv_decoration(const struct spirv *m, uint32_t id, int member, uint32_t kind, uint32_t *value);

#endif
