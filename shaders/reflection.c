#include "shaders/reflection.h"

#include <stdlib.h>

enum { DEPTH_MAX = 8 };

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

// Bytes of a type in a block with explicit layout.
static uint64_t type_bytes(const struct spirv *m, uint32_t type, int depth)
{
    size_t at = spirv_definition(m, type);
    uint32_t stride, offset;
    uint64_t bytes = 0;
    if (depth > DEPTH_MAX)
        spirv_fail(m, "types nest too deep");
    switch (spirv_op(m, at)) {
    case OP_TYPE_INT:
    case OP_TYPE_FLOAT:
        return spirv_operand(m, at, 2) / 8;
    case OP_TYPE_VECTOR:
        return spirv_operand(m, at, 3) * type_bytes(m, spirv_operand(m, at, 2), depth + 1);
    case OP_TYPE_ARRAY:
        if (!spirv_decoration(m, type, -1, ARRAY_STRIDE, &stride))
            spirv_fail(m, "array without stride");
        return (uint64_t)spirv_operand(m, spirv_definition(m, spirv_operand(m, at, 3)), 3) * stride;
    case OP_TYPE_STRUCT:
        for (unsigned i = 2; i < spirv_length(m, at); i++) {
            if (!spirv_decoration(m, type, (int)i - 2, OFFSET, &offset))
                spirv_fail(m, "struct member without offset");
            uint64_t end = offset + type_bytes(m, spirv_operand(m, at, i), depth + 1);
            bytes = end > bytes ? end : bytes;
        }
        return (bytes + 3) / 4 * 4;
    }
    spirv_fail(m, "a block holds a type that the host cannot share (operation %u)", spirv_op(m, at));
}

// Whether the block variable has `kind` (NonWritable or NonReadable), itself or on all its members.
static bool block_has(const struct spirv *m, uint32_t variable, uint32_t block, uint32_t kind)
{
    if (spirv_decoration(m, variable, -1, kind, NULL))
        return true;
    unsigned members = spirv_length(m, spirv_definition(m, block)) - 2;
    for (unsigned i = 0; i < members; i++)
        if (!spirv_decoration(m, block, (int)i, kind, NULL))
            return false;
    return members > 0;
}

// Binding 0 may be an array of REFLECTION_ARRAY_BUFFERS buffers. The type of one.
static uint32_t reflect_array(const struct spirv *m, struct reflection *r, uint32_t type, uint32_t binding)
{
    size_t at = spirv_definition(m, type);
    unsigned count = 1;
    if (spirv_op(m, at) == OP_TYPE_ARRAY) {
        count = spirv_operand(m, spirv_definition(m, spirv_operand(m, at, 3)), 3);
        type = spirv_operand(m, at, 2);
        if (binding != 0 || count != REFLECTION_ARRAY_BUFFERS)
            spirv_fail(m, "binding %u is an array of %u buffers; only binding 0 may be one, of %d", binding, count,
                       REFLECTION_ARRAY_BUFFERS);
    }
    if (binding == 0 && r->array_count && r->array_count != count)
        spirv_fail(m, "binding 0 is an array and not");
    if (binding == 0)
        r->array_count = count;
    return type;
}

static void reflect_buffer(const struct spirv *m, struct reflection *r, uint32_t variable, uint32_t type,
                           uint32_t *seen)
{
    uint32_t set = 0, binding;
    spirv_decoration(m, variable, -1, SET, &set);
    if (set != 0 || !spirv_decoration(m, variable, -1, BINDING, &binding) || binding >= REFLECTION_BINDINGS_MAX)
        spirv_fail(m, "storage buffers must be in set 0 with a binding below %d", REFLECTION_BINDINGS_MAX);
    uint32_t block = reflect_array(m, r, type, binding);
    if (spirv_op(m, spirv_definition(m, block)) != OP_TYPE_STRUCT)
        spirv_fail(m, "binding %u is no buffer", binding);
    *seen |= 1u << binding;
    if (!block_has(m, variable, block, NON_WRITABLE))
        r->written_mask |= 1u << binding;
    if (!block_has(m, variable, block, NON_READABLE))
        r->read_mask |= 1u << binding;
}

static void reflect_variables(const struct spirv *m, struct reflection *r)
{
    uint32_t seen = 0;
    for (size_t at = 0; spirv_next(m, &at);) {
        if (spirv_op(m, at) != OP_VARIABLE)
            continue;
        uint32_t storage = spirv_operand(m, at, 3);
        uint32_t type = spirv_operand(m, spirv_definition(m, spirv_operand(m, at, 1)), 3);
        if (storage == CLASS_UNIFORM || storage == CLASS_UNIFORM_CONSTANT)
            spirv_fail(m, "only storage buffers and push constants are supported");
        if (storage == CLASS_PUSH)
            r->push_bytes = (unsigned)type_bytes(m, type, 0);
        if (storage == CLASS_STORAGE)
            reflect_buffer(m, r, spirv_operand(m, at, 2), type, &seen);
    }
    while (seen >> r->binding_count & 1)
        r->binding_count++;
    if (r->binding_count < REFLECTION_BINDINGS_MAX && seen >> r->binding_count)
        spirv_fail(m, "binding %u is missing: bindings must count from 0 without a gap", r->binding_count);
    // The host tells sets with an array by their having more than REFLECTION_BINDINGS_MAX buffers.
    if (r->array_count > 1 &&
        (r->binding_count < 2 || r->binding_count - 1 + REFLECTION_ARRAY_BUFFERS > REFLECTION_BUFFERS_MAX))
        spirv_fail(m, "%u bindings beside an array; 1 to %d are supported", r->binding_count - 1,
                   REFLECTION_BUFFERS_MAX - REFLECTION_ARRAY_BUFFERS);
    if (r->push_bytes > 128)
        spirv_fail(m, "%u bytes of push constants; every device has 128, some no more", r->push_bytes);
}

static uint32_t constant_default(const struct spirv *m, uint32_t id)
{
    size_t at = spirv_definition(m, id);
    if (spirv_op(m, at) == OP_SPEC_CONSTANT_TRUE || spirv_op(m, at) == OP_SPEC_CONSTANT_FALSE)
        return spirv_op(m, at) == OP_SPEC_CONSTANT_TRUE;
    if ((spirv_op(m, at) != OP_SPEC_CONSTANT && spirv_op(m, at) != OP_CONSTANT) || spirv_length(m, at) != 4)
        spirv_fail(m, "constant %u does not have 4 bytes", id);
    return spirv_operand(m, at, 3);
}

static void reflect_constants(const struct spirv *m, struct reflection *r)
{
    uint32_t seen = 0;
    for (size_t at = 0; spirv_next(m, &at);) {
        if (spirv_op(m, at) != OP_DECORATE || spirv_operand(m, at, 2) != SPEC_ID)
            continue;
        uint32_t spec_id = spirv_operand(m, at, 3);
        if (spec_id >= REFLECTION_CONSTANTS_MAX)
            spirv_fail(m, "specialization constant %u: only 0..%d are supported", spec_id,
                       REFLECTION_CONSTANTS_MAX - 1);
        seen |= 1u << spec_id;
        r->constants[spec_id] = constant_default(m, spirv_operand(m, at, 1));
    }
    while (seen >> r->constant_count & 1)
        r->constant_count++;
    if (seen >> r->constant_count)
        spirv_fail(m, "specialization constant %u is missing: ids must count from 0 without a gap", r->constant_count);
}

// A WorkgroupSize built-in, which local_size_x_id makes, overrides the execution mode.
static void reflect_local_size(const struct spirv *m, struct reflection *r)
{
    for (size_t at = 0; spirv_next(m, &at);) {
        uint32_t builtin;
        if (spirv_op(m, at) == OP_EXECUTION_MODE && spirv_operand(m, at, 2) == MODE_LOCAL_SIZE)
            for (unsigned i = 0; i < 3; i++)
                r->local_size[i] = spirv_operand(m, at, 3 + i);
        bool composite = spirv_op(m, at) == OP_SPEC_CONSTANT_COMPOSITE || spirv_op(m, at) == OP_CONSTANT_COMPOSITE;
        if (composite && spirv_decoration(m, spirv_operand(m, at, 2), -1, BUILTIN, &builtin) &&
            builtin == BUILTIN_WORKGROUP_SIZE)
            for (unsigned i = 0; i < 3; i++)
                r->local_size[i] = constant_default(m, spirv_operand(m, at, 3 + i));
    }
    if (r->local_size[0] == 0)
        spirv_fail(m, "no local size: is it a compute shader?");
}

static bool has_capability(const struct spirv *m, uint32_t capability)
{
    for (size_t at = 0; spirv_next(m, &at);)
        if (spirv_op(m, at) == OP_CAPABILITY && spirv_operand(m, at, 1) == capability)
            return true;
    return false;
}

static void check_capabilities(const struct spirv *m, struct reflection *r)
{
    const size_t count = sizeof capabilities_allowed / sizeof capabilities_allowed[0];
    r->uses_matrix_cores = has_capability(m, COOPERATIVE_MATRIX);
    if (!r->uses_matrix_cores && (has_capability(m, FLOAT16) || has_capability(m, VULKAN_MEMORY_MODEL)))
        spirv_fail(m, "16-bit arithmetic and Vulkan's memory model are for modules with matrix cores only");
    for (size_t at = 0; spirv_next(m, &at);) {
        size_t i = 0;
        while (spirv_op(m, at) == OP_CAPABILITY && i < count && capabilities_allowed[i] != spirv_operand(m, at, 1))
            i++;
        if (i == count)
            spirv_fail(m, "SPIR-V capability %u is not one of shaders/reflection.c", spirv_operand(m, at, 1));
    }
}

void reflection_read(const char *program, const char *path, struct reflection *r)
{
    struct spirv module = {.program = program, .path = path}, *m = &module;
    spirv_read(m);
    spirv_index(m);
    check_capabilities(m, r);
    reflect_variables(m, r);
    reflect_constants(m, r);
    reflect_local_size(m, r);
    free(module.words);
    free(module.definitions);
}
