// Rounds x to 8 bits, blocks of 32 columns. An invocation owns one block at a time: reads 128 bytes, writes 32 and 8.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "matrix_params.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint lanes = 32;

layout(push_constant) uniform push_block { quantize_q8_push push; };
layout(binding = 0, std430) readonly buffer x_buffer { vec4 x[]; };
layout(binding = 1, std430) writeonly buffer q_buffer { uint q[]; };
layout(binding = 2, std430) writeonly buffer scale_buffer { vec2 scales[]; };

#include "quantize.glsl"

void quantize(uint block)
{
    vec4 v[8];
    for (uint i = 0; i < 8; i++)
        v[i] = x[block * 8u + i];
    quantize_block(v, block);
}

void main()
{
    uint stride = gl_NumWorkGroups.x * lanes; // a grid has a largest size
    for (uint block = gl_GlobalInvocationID.x; block < push.block_count; block += stride)
        quantize(block);
}
