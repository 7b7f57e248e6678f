// y = sigmoid(gate) * sum over runs of e^(m_s - m) o_s / sum over runs of e^(m_s - m) l_s. One workgroup owns one head
// of one token; every lane works out the weights of the runs itself, in order. 4 * runs bytes read per output. With
// QUANTISE y is also rounded to 8 bits.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "math.glsl"
#include "mixer_params.h"

layout(local_size_x = 32) in;

layout(push_constant) uniform push_block { attend_merge_push push; };
layout(binding = 0, std430) readonly buffer o_buffer { vec4 partial_o[]; };
layout(binding = 1, std430) readonly buffer ml_buffer { vec2 partial_ml[]; };
layout(binding = 2, std430) readonly buffer qg_buffer { vec4 qg[]; };
layout(binding = 3, std430) writeonly buffer y_buffer { vec4 y[]; };

#include "round_head.glsl"

void main()
{
    uint groups = push.head_dim / 4u;
    uint row = gl_WorkGroupID.x * push.heads + gl_WorkGroupID.y;
    float maximum = uintBitsToFloat(0xFF800000u);
    for (uint s = 0u; s < push.splits; s++)
        maximum = max(maximum, partial_ml[row * push.splits + s].x);
    for (uint i = gl_LocalInvocationID.x; i < groups; i += 32u) {
        precise vec4 sum = vec4(0.0);
        precise float total = 0.0;
        for (uint s = 0u; s < push.splits; s++) {
            vec2 ml = partial_ml[row * push.splits + s];
            float weight = ml.y > 0.0 ? exp_precise(ml.x - maximum) : 0.0;
            total = fma(weight, ml.y, total);
            sum = fma(vec4(weight), partial_o[(row * push.splits + s) * groups + i], sum);
        }
        vec4 gate = qg[(2u * row + 1u) * groups + i];
        vec4 factor = vec4(sigmoid(gate.x), sigmoid(gate.y), sigmoid(gate.z), sigmoid(gate.w));
        write(row * groups, i, sum / total * factor);
    }
    write_rounded(row * groups, groups);
}
