// Normalises, rotates and places one head of one token: q heads go to q_out, kv heads into the segment's blocks
//   k [kv_head][block][head_dim / 4][32][4]      v [kv_head][block][32][head_dim]
// One workgroup owns one head (K and V for a kv head). Normalised values pass through shared memory because a dimension's
// partner in the rotation belongs to another lane. 4 bytes read and written per value, less in f16.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "math.glsl"
#include "kv.glsl"
#include "mixer_params.h"

const uint LANES = 32u, HEAD_DIM_MAX = 256u;

layout(local_size_x = 32) in;

layout(push_constant) uniform push_block { rope_push push; };
layout(binding = 0, std430) readonly buffer qg_buffer { float qg[]; };
layout(binding = 1, std430) readonly buffer k_buffer { float k[]; };
layout(binding = 2, std430) readonly buffer v_buffer { float v[]; };
layout(binding = 3, std430) readonly buffer q_norm_buffer { float q_norm[]; };
layout(binding = 4, std430) readonly buffer k_norm_buffer { float k_norm[]; };
layout(binding = 5, std430) readonly buffer frequency_buffer { float frequencies[]; };
layout(binding = 6, std430) writeonly buffer k_out_buffer { KV_FOUR k_out[]; };
layout(binding = 7, std430) writeonly buffer v_out_buffer { KV_TWO v_out[]; };
layout(binding = 8, std430) writeonly buffer q_out_buffer { vec4 q_out[]; };

shared float values[HEAD_DIM_MAX];
shared float partial[LANES];

// values[d] rotated, for d below rotary_dim.
float rotated(uint d, uint position)
{
    uint half_dim = push.rotary_dim / 2u;
    uint pair = d % half_dim;
    precise float angle = float(position) * frequencies[pair];
    precise vec2 cs = cos_sin(angle) * push.rotary_scale;
    precise float low = values[pair], high = values[pair + half_dim];
    precise float result = d < half_dim ? low * cs.x - high * cs.y : high * cs.x + low * cs.y;
    return result;
}

vec4 rotated_four(uint d, uint position)
{
    vec4 result;
    for (uint i = 0u; i < 4u; i++)
        result[i] = d + i < push.rotary_dim ? rotated(d + i, position) : values[d + i];
    return result;
}

void main()
{
    uint lane = gl_LocalInvocationID.x, token = gl_WorkGroupID.x, head = gl_WorkGroupID.y;
    uint dim = push.head_dim, position = push.first_position + token;
    bool is_q = head < push.heads;
    uint kv_head = head - push.heads;
    uint segment_position = position - push.segment_first; // large where the position lies before the segment
    if (!is_q && segment_position >= push.segment_tokens)
        return;

    uint row = is_q ? (token * push.heads + head) * 2u * dim : (token * push.kv_heads + kv_head) * dim;
    precise float squares = 0.0;
    for (uint d = lane; d < dim; d += LANES) {
        float x = is_q ? qg[row + d] : k[row + d];
        squares = fma(x, x, squares);
        values[d] = x * (1.0 + (is_q ? q_norm[d] : k_norm[d]));
    }
    partial[lane] = squares;
    barrier();
    precise float sum = 0.0;
    for (uint i = 0u; i < LANES; i++)
        sum += partial[i];
    float scale = 1.0 / sqrt(sum / float(dim) + push.eps);

    uint slot = segment_position % LANES;
    uint k_base = (kv_head * (push.segment_tokens / LANES) + segment_position / LANES) * (dim / 4u) * LANES + slot;
    uint v_base = (kv_head * push.segment_tokens + segment_position) * (dim / 2u);
    for (uint group = lane; group < dim / 4u; group += LANES) {
        vec4 result = rotated_four(4u * group, position) * scale;
        if (is_q) {
            q_out[(token * push.heads + head) * (dim / 4u) + group] = result;
        } else {
            k_out[k_base + group * LANES] = kv_four_pack(result);
            for (uint i = 0u; i < 2u; i++) {
                uint pair = 2u * group + i;
                v_out[v_base + pair] = kv_two_pack(vec2(v[row + 2u * pair], v[row + 2u * pair + 1u]));
            }
        }
    }
}
