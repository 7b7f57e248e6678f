// y = x / sqrt(mean(x^2) + eps) * (1 + w), per row. One workgroup owns a row and reads it twice (the second time from
// cache). 8 bytes read and 4 written per output. With QUANTISE y is also rounded to 8 bits.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "mixer_params.h"

layout(push_constant) uniform push_block { norm_push push; };
layout(binding = 0, std430) readonly buffer x_buffer { vec4 x[]; };

#define NORM_INPUT x
#include "norm_row.glsl"

void main()
{
    uint groups = push.cols / 4u;
    uint row = gl_WorkGroupID.x * groups;
    vec4 squares = vec4(0.0);
    for (uint i = gl_LocalInvocationID.x; i < groups; i += NORM_LANES) {
        vec4 v = x[row + i];
        squares = fma(v, v, squares);
    }
    write_row(row, groups, norm_scale(squares, push.cols, push.eps));
}
