// y = sigmoid(gate) * sum over runs of e^(m_s - m) o_s / sum over runs of e^(m_s - m) l_s. One workgroup owns one head
// of one token and works out the weights of its runs once, a lane those of every 32nd run; the sums take the runs in
// order. 4 * runs bytes read per output. With QUANTISE y is also rounded to 8 bits.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "math.glsl"
#include "mixer_params.h"

const uint LANES = 32u;
layout(local_size_x = LANES) in;

layout(push_constant) uniform push_block { attend_merge_push push; };
layout(binding = 0, std430) readonly buffer o_buffer { vec4 partial_o[]; };
layout(binding = 1, std430) readonly buffer ml_buffer { vec2 partial_ml[]; };
layout(binding = 2, std430) readonly buffer qg_buffer { vec4 qg[]; };
layout(binding = 3, std430) writeonly buffer y_buffer { vec4 y[]; };

#include "round_head.glsl"

const uint CHUNK = 64u; // runs whose weights are at hand
const uint TOGETHER = 4u; // runs that are read side by side; divides CHUNK
const uint QUADS = ROUND_HEAD_DIM_MAX / 4u / LANES; // fours of a lane, LANES apart
shared float maxima[LANES];
shared vec2 weights[CHUNK]; // e^(m_s - m), l_s; (0, 0) beyond the last run

uint lane, groups, first; // first: the head's first run
float total;
vec4 sum[QUADS];

float find_maximum()
{
    float own = uintBitsToFloat(0xFF800000u);
    for (uint s = lane; s < push.splits; s += LANES)
        own = max(own, partial_ml[first + s].x);
    maxima[lane] = own;
    barrier();
    for (uint i = 0u; i < LANES; i++)
        own = max(own, maxima[i]);
    return own;
}

void weigh(uint begin, float maximum)
{
    for (uint i = lane; i < CHUNK; i += LANES) {
        vec2 ml = begin + i < push.splits ? partial_ml[first + begin + i] : vec2(0.0);
        weights[i] = vec2(ml.y > 0.0 ? exp_precise(ml.x - maximum) : 0.0, ml.y);
    }
}

// A weight of 0 takes nothing of what lies beyond the last run, if it is finite: there the last one is read again.
void add_runs(uint begin)
{
    for (uint i = 0u; i < min(CHUNK, push.splits - begin); i += TOGETHER) {
        vec4 o[TOGETHER * QUADS];
        [[unroll]] for (uint e = 0u; e < TOGETHER; e++)
            [[unroll]] for (uint j = 0u; j < QUADS; j++) {
                uint run = first + min(begin + i + e, push.splits - 1u);
                o[e * QUADS + j] = partial_o[run * groups + min(lane + j * LANES, groups - 1u)];
            }
        [[unroll]] for (uint e = 0u; e < TOGETHER; e++) {
            vec2 weight = weights[i + e];
            total = fma(weight.x, weight.y, total);
            [[unroll]] for (uint j = 0u; j < QUADS; j++)
                sum[j] = fma(vec4(weight.x), o[e * QUADS + j], sum[j]);
        }
    }
}

void main()
{
    lane = gl_LocalInvocationID.x;
    groups = push.head_dim / 4u;
    uint row = gl_WorkGroupID.x * push.heads + gl_WorkGroupID.y;
    first = row * push.splits;
    total = 0.0;
    [[unroll]] for (uint j = 0u; j < QUADS; j++)
        sum[j] = vec4(0.0);
    if (push.splits == 1u) {
        total = partial_ml[row].y;
        [[unroll]] for (uint j = 0u; j < QUADS; j++)
            sum[j] = partial_o[row * groups + min(lane + j * LANES, groups - 1u)];
    } else {
        float maximum = find_maximum();
        for (uint begin = 0u; begin < push.splits; begin += CHUNK) {
            weigh(begin, maximum);
            barrier();
            add_runs(begin);
            barrier();
        }
    }
    [[unroll]] for (uint j = 0u; j < QUADS; j++) {
        uint i = lane + j * LANES;
        if (i < groups) {
            vec4 gate = qg[(2u * row + 1u) * groups + i];
            write(row * groups, i, sum[j] / total * vec4(sigmoid(gate.x), sigmoid(gate.y), sigmoid(gate.z), sigmoid(gate.w)));
        }
    }
    write_rounded(row * groups, groups);
}
