// softmax over the experts and the top_k most probable ones by falling probability, ties to the lower index. One
// workgroup owns a token.
//
// Candidates are the experts whose logits reach the top_k-th largest of the lanes' maxima: at least top_k experts do, and
// few more. A candidate's place in the order is the number of candidates before it, whatever order they are listed in,
// so that there is no loop over picks.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "math.glsl"
#include "mixer_params.h"

const uint LANES = 32u; // also the most picks there can be
const uint EXPERTS_MAX = 1024u;

layout(local_size_x = 32) in;

layout(push_constant) uniform push_block { moe_route_push push; };
layout(binding = 0, std430) readonly buffer logit_buffer { float logits[]; };
layout(binding = 1, std430) writeonly buffer id_buffer { uint ids[]; };
layout(binding = 2, std430) writeonly buffer weight_buffer { float weights[]; };

shared float values[EXPERTS_MAX];
shared float lane_max[LANES], lane_sum[LANES];
shared float threshold;
shared uint candidates[EXPERTS_MAX];
shared uint candidate_count;
shared uint picks[LANES];

bool before(float a, uint a_index, float b, uint b_index)
{
    return a > b || (a == b && a_index < b_index);
}

float largest()
{
    float result = lane_max[0];
    for (uint i = 1u; i < LANES; i++)
        result = max(result, lane_max[i]);
    return result;
}

uint lane_rank(uint lane)
{
    uint rank = 0u;
    for (uint i = 0u; i < LANES; i++)
        rank += before(lane_max[i], i, lane_max[lane], lane) ? 1u : 0u;
    return rank;
}

uint candidate_rank(uint expert)
{
    uint rank = 0u;
    for (uint i = 0u; i < candidate_count; i++)
        rank += before(values[candidates[i]], candidates[i], values[expert], expert) ? 1u : 0u;
    return rank;
}

void main()
{
    uint lane = gl_LocalInvocationID.x;
    const float none = uintBitsToFloat(0xFF800000u);
    float own_max = none;
    for (uint e = lane; e < push.experts; e += LANES) {
        float value = logits[gl_WorkGroupID.x * push.experts + e];
        values[e] = value;
        own_max = max(own_max, value);
    }
    lane_max[lane] = own_max;
    if (lane == 0u) {
        threshold = none;
        candidate_count = 0u;
    }
    picks[lane] = min(lane, push.experts - 1u); // valid experts even if every logit is NaN
    barrier();

    float top = largest();
    if (push.renormalise == 0u) {
        precise float own_sum = 0.0;
        for (uint e = lane; e < push.experts; e += LANES)
            own_sum += exp_precise(values[e] - top);
        lane_sum[lane] = own_sum;
    }
    if (lane_rank(lane) == push.top_k - 1u)
        threshold = lane_max[lane];
    barrier();

    for (uint e = lane; e < push.experts; e += LANES)
        if (values[e] >= threshold)
            candidates[atomicAdd(candidate_count, 1u)] = e;
    barrier();

    for (uint i = lane; i < candidate_count; i += LANES) {
        uint rank = candidate_rank(candidates[i]);
        if (rank < push.top_k)
            picks[rank] = candidates[i];
    }
    barrier();

    if (lane < push.top_k) {
        precise float sum = 0.0;
        if (push.renormalise != 0u)
            for (uint i = 0u; i < push.top_k; i++)
                sum += exp_precise(values[picks[i]] - top);
        else
            for (uint i = 0u; i < LANES; i++)
                sum += lane_sum[i];
        uint pick = gl_WorkGroupID.x * push.top_k + lane;
        ids[pick] = picks[lane];
        weights[pick] = exp_precise(values[picks[lane]] - top) / sum;
    }
}
