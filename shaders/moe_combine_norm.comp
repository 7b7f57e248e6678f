// h[t, :] += weight[t, p] * e[row[t, p], :] for all picks p, one after the other as in moe_combine.comp, and the next layer's
// norm of h as in norm_rms.comp, with the same bits: decoding goes through this once per layer, and would wait twice. One
// workgroup owns a token. About 4 * picks + 8 bytes read and 8 written per output. With QUANTISE y is also rounded to 8 bits.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "mixer_params.h"

const uint AHEAD = 5u; // picks that are read at once

layout(push_constant) uniform push_block { moe_combine_norm_push push; };
layout(binding = 0, std430) coherent buffer h_buffer { vec4 h[]; };

#define NORM_INPUT h
#include "norm_row.glsl"

#if defined QUANTISE
const int PICK_BINDING = 5;
#else
const int PICK_BINDING = 3;
#endif
layout(binding = PICK_BINDING, std430) readonly buffer e_buffer { vec4 e[]; };
layout(binding = PICK_BINDING + 1, std430) readonly buffer row_buffer { uint rows[]; };
layout(binding = PICK_BINDING + 2, std430) readonly buffer weight_buffer { float weights[]; };

vec4 add_picks(vec4 sum, uint first, uint groups, uint column)
{
    for (uint p = 0u; p < push.top_k; p += AHEAD) {
        vec4 v[AHEAD];
        [[unroll]] for (uint k = 0u; k < AHEAD; k++)
            v[k] = e[rows[first + min(p + k, push.top_k - 1u)] * groups + column];
        [[unroll]] for (uint k = 0u; k < AHEAD; k++)
            if (p + k < push.top_k)
                sum = fma(vec4(weights[first + p + k]), v[k], sum);
    }
    return sum;
}

void main()
{
    uint groups = push.cols / 4u, token = gl_WorkGroupID.x, row = token * groups;
    vec4 squares = vec4(0.0);
    for (uint i = gl_LocalInvocationID.x; i < groups; i += NORM_LANES) {
        vec4 v = add_picks(h[row + i], token * push.top_k, groups, i);
        h[row + i] = v;
        squares = fma(v, v, squares);
    }
    memoryBarrierBuffer(); // with the barriers in norm_scale: write_row() reads what other lanes wrote
    write_row(row, groups, norm_scale(squares, push.cols, push.eps));
}
