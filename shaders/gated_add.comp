// h[t, :] += sigmoid(gate[t]) * y[t, :]. One invocation per four columns; the grid may be smaller than the work.
// 9 bytes read and 4 written per output.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "math.glsl"
#include "mixer_params.h"

layout(local_size_x = 64) in;

layout(push_constant) uniform push_block { gated_add_push push; };
layout(binding = 0, std430) readonly buffer y_buffer { vec4 y[]; };
layout(binding = 1, std430) readonly buffer gate_buffer { float gate[]; };
layout(binding = 2, std430) buffer h_buffer { vec4 h[]; };

void main()
{
    for (uint i = gl_GlobalInvocationID.x; i < push.count; i += gl_NumWorkGroups.x * 64u) {
        uint token = i / (push.cols / 4u);
        h[i] = fma(vec4(sigmoid(gate[token * push.gate_stride])), y[i], h[i]);
    }
}
