// The convolution's state after a call that conv_seq split into runs: the last TAPS - 1 raw projections, oldest first.
// One invocation owns one channel; reads and writes 4 * (TAPS - 1) bytes.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "mixer_params.h"
#include "conv.glsl"

void main()
{
    uint channel = gl_GlobalInvocationID.x;
    if (channel >= channel_count())
        return;
    uint column = channel_column(channel);
    float last[TAPS];
    [[unroll]] for (uint j = 1u; j < TAPS; j++)
        last[j] = projection(int(push.tokens) - int(TAPS) + int(j), channel, column);
    [[unroll]] for (uint j = 1u; j < TAPS; j++)
        state[(j - 1u) * channel_count() + channel] = last[j];
}
