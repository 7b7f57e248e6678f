// out[t, c] = silu(sum over j of weight[c, j] * x[t - (TAPS - 1) + j, c]): causal depthwise convolution. One invocation
// owns one channel over run_tokens tokens, with the window in registers; 4 bytes read and written per output. With a
// single run it leaves the new state as well, otherwise conv_state does, because other runs' first tokens read the old one.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "math.glsl"
#include "mixer_params.h"
#include "conv.glsl"

layout(binding = 3, std430) writeonly buffer out_buffer { float y[]; };

void main()
{
    uint channels = channel_count();
    uint channel = gl_GlobalInvocationID.x;
    if (channel >= channels)
        return;
    uint column = channel_column(channel);
    uint begin = gl_WorkGroupID.y * push.run_tokens;
    uint end = min(begin + push.run_tokens, push.tokens);
    float taps[TAPS], window[TAPS];
    [[unroll]] for (uint j = 0u; j < TAPS; j++)
        taps[j] = weight[channel * TAPS + j];
    [[unroll]] for (uint j = 1u; j < TAPS; j++)
        window[j] = projection(int(begin) - int(TAPS) + int(j), channel, column);
    for (uint t = begin; t < end; t++) {
        [[unroll]] for (uint j = 1u; j < TAPS; j++)
            window[j - 1u] = window[j];
        window[TAPS - 1u] = qkvz[t * row_length() + column];
        precise float sum = 0.0;
        [[unroll]] for (uint j = 0u; j < TAPS; j++)
            sum = fma(taps[j], window[j], sum);
        y[t * channels + channel] = silu(sum);
    }
    if (push.update_state != 0u)
        [[unroll]] for (uint j = 1u; j < TAPS; j++)
            state[(j - 1u) * channels + channel] = window[j];
}
