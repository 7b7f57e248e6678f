// As roof_dot.comp, four products to a 64-bit multiplication, as matmul_quads.glsl does them: eight operations per
// multiply-add, without what packing and unpacking cost, but with an
// exclusive or.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#include "roof_params.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint lanes = 64;

layout(push_constant) uniform push_block { roof_compute_push push; };
layout(binding = 0, std430) writeonly buffer y_buffer { int y[]; };

// The exclusive or keeps compilers from making one multiplication of many.
#define DECLARE(k) int64_t chain##k = int64_t(gl_GlobalInvocationID.x + k);
#define STEP(k) chain##k += (chain##k ^ salt) * factor;
#define ADD(k) sum += chain##k;

void main()
{
    int64_t factor = (int64_t(push.a) << 16) + int64_t(push.b), salt = int64_t(push.b), sum = 0l;
    ROOF_EACH_DOT(DECLARE)
    for (uint i = 0; i < push.rounds; i++) {
        ROOF_REPEAT(ROOF_EACH_DOT(STEP))
    }
    ROOF_EACH_DOT(ADD)
    y[gl_GlobalInvocationID.x] = int(sum >> 32) ^ int(sum);
}
