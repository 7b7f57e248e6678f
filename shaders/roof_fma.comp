// How many f32 multiply-adds a device does: ROOF_FMA_CHAINS independent chains per lane, nothing read. Two
// operations per multiply-add.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "roof_params.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint lanes = 64;

layout(push_constant) uniform push_block { roof_compute_push push; };
layout(binding = 0, std430) writeonly buffer y_buffer { float y[]; };

#define DECLARE(k) float chain##k = float(gl_GlobalInvocationID.x + k);
#define STEP(k) chain##k = fma(chain##k, a, b);
#define ADD(k) sum += chain##k;

void main()
{
    float a = uintBitsToFloat(push.a), b = uintBitsToFloat(push.b), sum = 0.0;
    ROOF_EACH_FMA(DECLARE)
    for (uint i = 0; i < push.rounds; i++) {
        ROOF_REPEAT(ROOF_EACH_FMA(STEP))
    }
    ROOF_EACH_FMA(ADD)
    y[gl_GlobalInvocationID.x] = sum;
}
