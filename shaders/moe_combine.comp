// h[t, :] += weight[t, p] * y[row[t, p] - row0, :] for the picks p whose row lies in this batch, one after the other, so
// that the sum does not depend on how rows are cut into batches. One workgroup owns a token, or several one after the
// other; most tokens of a small batch have no pick in it, and are left alone. About 4 * picks in the batch + 8 bytes per
// output of the others.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "mixer_params.h"

layout(local_size_x = 64) in;

layout(push_constant) uniform push_block { moe_combine_push push; };
layout(binding = 0, std430) readonly buffer y_buffer { vec4 y[]; };
layout(binding = 1, std430) readonly buffer row_buffer { uint rows[]; };
layout(binding = 2, std430) readonly buffer weight_buffer { float weights[]; };
layout(binding = 3, std430) buffer h_buffer { vec4 h[]; };

// Bit p: the token's pick p lies in the batch.
uint picks_of(uint first)
{
    uint picks = 0u;
    for (uint p = 0u; p < push.top_k; p++)
        if (rows[first + p] - push.row0 < push.row_count) // below row0 it wraps to a large number
            picks |= 1u << p;
    return picks;
}

void main()
{
    uint groups = push.hidden / 4u;
    for (uint token = gl_WorkGroupID.x; token < push.tokens; token += gl_NumWorkGroups.x) {
        uint first = token * push.top_k, picks = picks_of(first);
        if (picks == 0u)
            continue;
        for (uint column = gl_LocalInvocationID.x; column < groups; column += 64u) {
            vec4 sum = h[token * groups + column];
            for (uint left = picks; left != 0u; left &= left - 1u) {
                uint pick = first + uint(findLSB(left));
                sum = fma(vec4(weights[pick]), y[(rows[pick] - push.row0) * groups + column], sum);
            }
            h[token * groups + column] = sum;
        }
    }
}
