// Cooperative matrices: products of small matrices that a whole subgroup holds, on the device's matrix cores.
// SPV_KHR_cooperative_matrix is used by number, because not every glslc knows GL_KHR_cooperative_matrix. What cannot be
// said that way - types and specialization constants as operands of a type - is written as placeholders here, which the
// build step coop_resolve.c replaces.
//
// Where the elements of a matrix lie is the driver's secret: they go to and come from shared memory. A barrier() belongs
// between every store and the loads of what it wrote.
#pragma use_vulkan_memory_model
#extension GL_EXT_spirv_intrinsics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_shader_subgroup_basic : require

// The shape, one of those that the device reports: a is [m, k], b is [k, n], c is [m, n].
layout(constant_id = 0) const uint coop_m = 16;
layout(constant_id = 1) const uint coop_n = 16;
layout(constant_id = 2) const uint coop_k = 16;

// Placeholders of coop_resolve.c: the constants 0, 1 and 2, and the types of the elements.
const uint COOP_M = 0xC0090000u, COOP_N = 0xC0090001u, COOP_K = 0xC0090002u;
const uint COOP_F16 = 0xC00A0010u, COOP_F32 = 0xC00A0020u;
// Numbers of the SPIR-V specification.
const uint COOP_SUBGROUP = 3u, COOP_USE_A = 0u, COOP_USE_B = 1u, COOP_USE_C = 2u;
const uint COOP_ROWS = 0u, COOP_COLUMNS = 1u; // what lies `stride` elements of the array apart
const uint COOP_WORKGROUP = 2u;
#define COOP_VISIBLE 0x30   // MakePointerVisible, NonPrivatePointer
#define COOP_AVAILABLE 0x28 // MakePointerAvailable, NonPrivatePointer

#define COOP_NEEDS extensions = ["SPV_KHR_cooperative_matrix"], capabilities = [6022]
#define coop_a spirv_type(COOP_NEEDS, id = 4456, COOP_F16, COOP_SUBGROUP, COOP_M, COOP_K, COOP_USE_A)
#define coop_b spirv_type(COOP_NEEDS, id = 4456, COOP_F16, COOP_SUBGROUP, COOP_K, COOP_N, COOP_USE_B)
#define coop_c spirv_type(COOP_NEEDS, id = 4456, COOP_F32, COOP_SUBGROUP, COOP_M, COOP_N, COOP_USE_C)

// From and to an array in shared memory; `first` is the array element of row 0, column 0, `stride` counts elements of
// the array. operands and scope are COOP_VISIBLE or COOP_AVAILABLE and COOP_WORKGROUP.
spirv_instruction(COOP_NEEDS, id = 4457)
coop_a coop_load_a_(spirv_by_reference f16vec4 first, uint order, uint stride, spirv_literal uint operands, uint scope);
spirv_instruction(COOP_NEEDS, id = 4457)
coop_b coop_load_b_(spirv_by_reference f16vec4 first, uint order, uint stride, spirv_literal uint operands, uint scope);
spirv_instruction(COOP_NEEDS, id = 4457)
coop_c coop_load_c_(spirv_by_reference float first, uint order, uint stride, spirv_literal uint operands, uint scope);
spirv_instruction(COOP_NEEDS, id = 4458)
void coop_store_(spirv_by_reference float first, coop_c c, uint order, uint stride, spirv_literal uint operands,
                 uint scope);
#define coop_load_a(first, order, stride) coop_load_a_(first, order, stride, COOP_VISIBLE, COOP_WORKGROUP)
#define coop_load_b(first, order, stride) coop_load_b_(first, order, stride, COOP_VISIBLE, COOP_WORKGROUP)
#define coop_load_c(first, order, stride) coop_load_c_(first, order, stride, COOP_VISIBLE, COOP_WORKGROUP)
#define coop_store(first, c, order, stride) coop_store_(first, c, order, stride, COOP_AVAILABLE, COOP_WORKGROUP)

// a * b + c
spirv_instruction(COOP_NEEDS, id = 4459) coop_c coop_multiply_add(coop_a a, coop_b b, coop_c c);
// OpCompositeConstruct: all elements are `value`.
spirv_instruction(COOP_NEEDS, id = 80) coop_c coop_fill(float value);
// OpFMul, element by element.
spirv_instruction(COOP_NEEDS, id = 133) coop_c coop_scale(coop_c a, coop_c b);
