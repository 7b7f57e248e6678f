// y = x / sqrt(mean(x^2) + eps) * (1 + w), per row. One workgroup owns a row and reads it twice (the second time from
// cache). Every lane adds up the lanes' partial sums itself in the same order: one barrier, and no dependence on the
// device's subgroups. 8 bytes read and 4 written per output. With QUANTISE y is also rounded to 8 bits, and a lane owns
// blocks of 32 columns in the second pass.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "mixer_params.h"

layout(local_size_x = 64) in;

layout(push_constant) uniform push_block { norm_push push; };
layout(binding = 0, std430) readonly buffer x_buffer { vec4 x[]; };
layout(binding = 1, std430) readonly buffer w_buffer { vec4 w[]; };
layout(binding = 2, std430) writeonly buffer y_buffer { vec4 y[]; };

#if defined QUANTISE
layout(binding = 3, std430) writeonly buffer q_buffer { uint q[]; };
layout(binding = 4, std430) writeonly buffer scale_buffer { vec2 scales[]; };
#include "quantize.glsl"

void write_row(uint row, uint groups, float scale)
{
    for (uint block = gl_LocalInvocationID.x; block < groups / 8u; block += 64u) {
        vec4 v[8];
        for (uint i = 0; i < 8; i++) {
            v[i] = x[row + block * 8u + i] * scale * (1.0 + w[block * 8u + i]);
            y[row + block * 8u + i] = v[i];
        }
        quantize_block(v, row / 8u + block);
    }
}
#else
void write_row(uint row, uint groups, float scale)
{
    for (uint i = gl_LocalInvocationID.x; i < groups; i += 64u)
        y[row + i] = x[row + i] * scale * (1.0 + w[i]);
}
#endif

shared float partial[64];

void main()
{
    uint lane = gl_LocalInvocationID.x;
    uint groups = push.cols / 4u;
    uint row = gl_WorkGroupID.x * groups;
    vec4 squares = vec4(0.0);
    for (uint i = lane; i < groups; i += 64u) {
        vec4 v = x[row + i];
        squares = fma(v, v, squares);
    }
    partial[lane] = (squares.x + squares.y) + (squares.z + squares.w);
    barrier();
    float sum = 0.0;
    for (uint i = 0u; i < 64u; i++)
        sum += partial[i];
    float scale = 1.0 / sqrt(sum / float(push.cols) + push.eps);
    write_row(row, groups, scale);
}
