// How many 8-bit multiply-adds a device does: ROOF_DOT_CHAINS independent chains of dot products of 4 signed bytes with a
// 32-bit sum per lane, nothing read. Eight operations per dot product. With the instruction, or by shifts and multiplies
// as the kernels do without it.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_spirv_intrinsics : require
#include "roof_params.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint lanes = 64;
layout(constant_id = 1) const bool integer_dot = true;

layout(push_constant) uniform push_block { roof_compute_push push; };
layout(binding = 0, std430) writeonly buffer y_buffer { int y[]; };

// See matmul_q8.glsl.
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018], id = 4450)
int sdot_packed(int a, int b, spirv_literal int format);

int byte_of(int packed, int k)
{
    return bitfieldExtract(packed, 8 * k, 8);
}

int dot_bytes(int a, int b)
{
    if (integer_dot)
        return sdot_packed(a, b, 0);
    return byte_of(a, 0) * byte_of(b, 0) + byte_of(a, 1) * byte_of(b, 1) + byte_of(a, 2) * byte_of(b, 2) +
           byte_of(a, 3) * byte_of(b, 3);
}

// The factor is the sum itself, so that no product is the same twice.
#define DECLARE(k) int chain##k = int(gl_GlobalInvocationID.x + k);
#define STEP(k) chain##k = chain##k + dot_bytes(chain##k, int(push.a));
#define ADD(k) sum += chain##k;

void main()
{
    int sum = int(push.b);
    ROOF_EACH_DOT(DECLARE)
    for (uint i = 0; i < push.rounds; i++) {
        ROOF_REPEAT(ROOF_EACH_DOT(STEP))
    }
    ROOF_EACH_DOT(ADD)
    y[gl_GlobalInvocationID.x] = sum;
}
