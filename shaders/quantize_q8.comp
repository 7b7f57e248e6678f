// Rounds x to 8 bits: blocks of 32 columns with step d = max|x| / 127, q = x / d to the nearest even integer. An
// invocation owns one block at a time: reads 128 bytes, writes 32 and 8.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "matrix_params.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint lanes = 32;

layout(push_constant) uniform push_block { quantize_q8_push push; };
layout(binding = 0, std430) readonly buffer x_buffer { vec4 x[]; };
layout(binding = 1, std430) writeonly buffer q_buffer { uint q[]; };
layout(binding = 2, std430) writeonly buffer scale_buffer { vec2 scales[]; };

float largest(uint block)
{
    vec4 m = abs(x[block * 8u]);
    for (uint i = 1; i < 8; i++)
        m = max(m, abs(x[block * 8u + i]));
    return max(max(m.x, m.y), max(m.z, m.w));
}

void quantize(uint block)
{
    precise float d = largest(block) / 127.0;
    float divisor = d > 0.0 ? d : 1.0;
    int sum = 0;
    for (uint i = 0; i < 8; i++) {
        ivec4 v = ivec4(clamp(roundEven(x[block * 8u + i] / divisor), -127.0, 127.0));
        sum += v.x + v.y + v.z + v.w;
        q[block * 8u + i] = (v.x & 255) | (v.y & 255) << 8 | (v.z & 255) << 16 | v.w << 24;
    }
    scales[block] = vec2(d, d * float(sum));
}

void main()
{
    uint stride = gl_NumWorkGroups.x * lanes; // a grid has a largest size
    for (uint block = gl_GlobalInvocationID.x; block < push.block_count; block += stride)
        quantize(block);
}
