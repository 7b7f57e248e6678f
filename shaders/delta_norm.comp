// y = o / sqrt(mean(o^2) + eps) * w * silu(z), per token and value head. One workgroup owns one head of one token. Every
// lane adds up the lanes' partial sums in the same order. 12 bytes read and 4 written per output, with QUANTISE 5.25.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "math.glsl"
#include "mixer_params.h"

layout(local_size_x = 32) in;

layout(push_constant) uniform push_block { delta_norm_push push; };
layout(binding = 0, std430) readonly buffer o_buffer { vec4 o[]; };
layout(binding = 1, std430) readonly buffer qkvz_buffer { vec4 qkvz[]; };
layout(binding = 2, std430) readonly buffer w_buffer { vec4 w[]; };
layout(binding = 3, std430) writeonly buffer y_buffer { vec4 y[]; };

#include "round_head.glsl"

shared float partial[32];

void main()
{
    uint lane = gl_LocalInvocationID.x, token = gl_WorkGroupID.x, head = gl_WorkGroupID.y;
    uint groups = push.value_dim / 4u;
    uint row = (token * push.value_heads + head) * groups;
    vec4 squares = vec4(0.0);
    for (uint i = lane; i < groups; i += 32u) {
        vec4 v = o[row + i];
        squares = fma(v, v, squares);
    }
    partial[lane] = (squares.x + squares.y) + (squares.z + squares.w);
    barrier();
    float sum = 0.0;
    for (uint i = 0u; i < 32u; i++)
        sum += partial[i];
    float scale = 1.0 / sqrt(sum / float(push.value_dim) + push.eps);

    uint per_key = push.value_heads / push.key_heads;
    uint key_head_length = 2u * (push.key_dim + per_key * push.value_dim);
    uint z_row = (token * push.key_heads + head / per_key) * key_head_length;
    z_row += 2u * push.key_dim + (per_key + head % per_key) * push.value_dim;
    for (uint i = lane; i < groups; i += 32u) {
        vec4 z = qkvz[z_row / 4u + i];
        write(row, i, o[row + i] * scale * w[i] * vec4(silu(z.x), silu(z.y), silu(z.z), silu(z.w)));
    }
    write_rounded(row, groups);
}
