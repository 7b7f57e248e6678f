// h[t, :] += weight[t, p] * y[row[t, p] - row0, :] for the picks p whose row lies in this batch, one after the other, so
// that the sum does not depend on how rows are cut into batches. One invocation per token and four columns; the grid may
// be smaller than the work. About 4 * picks bytes read per output.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "mixer_params.h"

layout(local_size_x = 64) in;

layout(push_constant) uniform push_block { moe_combine_push push; };
layout(binding = 0, std430) readonly buffer y_buffer { vec4 y[]; };
layout(binding = 1, std430) readonly buffer row_buffer { uint rows[]; };
layout(binding = 2, std430) readonly buffer weight_buffer { float weights[]; };
layout(binding = 3, std430) buffer h_buffer { vec4 h[]; };

void main()
{
    uint groups = push.hidden / 4u;
    for (uint i = gl_GlobalInvocationID.x; i < push.count; i += gl_NumWorkGroups.x * 64u) {
        uint token = i / groups, column = i % groups;
        vec4 sum = h[i];
        for (uint pick = token * push.top_k; pick < (token + 1u) * push.top_k; pick++) {
            uint row = rows[pick] - push.row0; // below row0 it wraps to a large number
            if (row < push.row_count)
                sum = fma(vec4(weights[pick]), y[row * groups + column], sum);
        }
        h[i] = sum;
    }
}
