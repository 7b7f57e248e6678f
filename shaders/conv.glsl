// What conv_seq and conv_state share: the raw projection of channel c at a token, counted from the first token of this
// call; tokens before it lie in the state. Rows of qkvz are grouped by key head (q, k, v of its value heads, z of its
// value heads), channels are q heads | k heads | v heads.

layout(local_size_x = 64) in;
layout(constant_id = 0) const uint TAPS = 4;

layout(push_constant) uniform push_block { conv_push push; };
layout(binding = 0, std430) readonly buffer qkvz_buffer { float qkvz[]; };
layout(binding = 1, std430) readonly buffer weight_buffer { float weight[]; };
layout(binding = 2, std430) buffer state_buffer { float state[]; };

uint channel_count()
{
    return 2u * push.key_heads * push.key_dim + push.value_heads * push.value_dim;
}

uint row_length()
{
    return 2u * (push.key_heads * push.key_dim + push.value_heads * push.value_dim);
}

uint channel_column(uint channel)
{
    uint group_values = push.value_heads / push.key_heads * push.value_dim;
    uint group_length = 2u * (push.key_dim + group_values);
    uint keys = push.key_heads * push.key_dim;
    if (channel < 2u * keys) {
        uint part = channel / keys; // q, k
        uint c = channel - part * keys;
        return c / push.key_dim * group_length + part * push.key_dim + c % push.key_dim;
    }
    uint c = channel - 2u * keys;
    return c / group_values * group_length + 2u * push.key_dim + c % group_values;
}

// token >= -(TAPS - 1)
float projection(int token, uint channel, uint column)
{
    if (token < 0)
        return state[uint(token + int(TAPS) - 1) * channel_count() + channel];
    return qkvz[uint(token) * row_length() + column];
}
