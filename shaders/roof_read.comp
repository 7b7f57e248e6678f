// How fast a device reads: every lane reads 16 bytes at a time, neighbours in a workgroup side by side, each workgroup its
// own contiguous chunk. Reads chunk_loads * 16 bytes per lane and writes 4.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "roof_params.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint lanes = 64;
layout(constant_id = 1) const bool read_ahead = false; // touch each cache line of the next round, as matmul.comp can

layout(push_constant) uniform push_block { roof_read_push push; };
layout(binding = 0, std430) readonly buffer x_buffer { uvec4 x[]; };
layout(binding = 0, std430) readonly buffer x_word_buffer { uint x_words[]; };
layout(binding = 1, std430) writeonly buffer y_buffer { uint y[]; };

void main()
{
    const uint round_words = ROOF_LOADS * lanes * 4u, line_words = 16u;
    uint chunk = gl_WorkGroupID.x * push.chunk_loads * lanes, touched = 0u;
    uint last_word = (chunk + push.chunk_loads * lanes) * 4u - 1u;
    uint base = gl_WorkGroupID.x * push.chunk_loads * lanes + gl_LocalInvocationID.x;
    uvec4 sum[ROOF_LOADS];
    [[unroll]] for (uint k = 0; k < ROOF_LOADS; k++)
        sum[k] = uvec4(0);
    for (uint i = 0; i < push.chunk_loads; i += ROOF_LOADS) {
        if (read_ahead)
            [[unroll]] for (uint k = 0; k < round_words; k += line_words)
                touched |= x_words[min((chunk + (i + ROOF_LOADS) * lanes) * 4u + k, last_word)];
        [[unroll]] for (uint k = 0; k < ROOF_LOADS; k++)
            sum[k] ^= x[base + (i + k) * lanes];
    }
    uvec4 all = sum[0];
    [[unroll]] for (uint k = 1; k < ROOF_LOADS; k++)
        all ^= sum[k];
    y[gl_GlobalInvocationID.x] = all.x ^ all.y ^ all.z ^ all.w ^ (push.chunk_loads == 0u ? touched : 0u);
}
