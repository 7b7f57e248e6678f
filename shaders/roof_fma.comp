// How many f32 multiply-adds a device does: ROOF_CHAINS independent chains of 4-vectors per lane, nothing read. Two
// operations per multiply-add.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "roof_params.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint lanes = 64;

layout(push_constant) uniform push_block { roof_compute_push push; };
layout(binding = 0, std430) writeonly buffer y_buffer { float y[]; };

void main()
{
    vec4 chain[ROOF_CHAINS], a = vec4(uintBitsToFloat(push.a)), b = vec4(uintBitsToFloat(push.b));
    [[unroll]] for (uint k = 0; k < ROOF_CHAINS; k++)
        chain[k] = vec4(gl_GlobalInvocationID.x + k);
    for (uint i = 0; i < push.rounds; i++)
        [[unroll]] for (uint k = 0; k < ROOF_CHAINS; k++)
            chain[k] = fma(chain[k], a, b);
    vec4 sum = chain[0];
    [[unroll]] for (uint k = 1; k < ROOF_CHAINS; k++)
        sum += chain[k];
    y[gl_GlobalInvocationID.x] = sum.x + sum.y + sum.z + sum.w;
}
