// Normalises, rotates and places one head of one token: q heads go to q_out, kv heads into the segment's blocks
// (kv.glsl). One workgroup owns one head (K and V for a kv head). Normalised values pass through shared memory because a
// dimension's partner in the rotation belongs to another lane, and so do the largest values of 32 neighbours where K and
// V are quantised. 4 bytes read and written per value, less in f16 and q8.
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
layout(binding = 6, std430) writeonly buffer k_out_buffer { uint k_out[]; };
layout(binding = 7, std430) writeonly buffer v_out_buffer { uint v_out[]; };
layout(binding = 8, std430) writeonly buffer q_out_buffer { vec4 q_out[]; };
layout(binding = 9, std430) readonly buffer position_buffer { uint positions[]; };

shared float values[HEAD_DIM_MAX];
shared float partial[LANES];
shared vec2 largest[LANES]; // |K|, |V| of the lanes' fours

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

// What 32 neighbouring dimensions' largest values, of K and of V, are divided by: those of this lane's and of seven other
// lanes' fours.
vec2 block_scales(vec4 result, vec4 value)
{
    vec4 k_size = abs(result), v_size = abs(value);
    barrier();
    largest[gl_LocalInvocationID.x] = vec2(max(max(k_size.x, k_size.y), max(k_size.z, k_size.w)),
                                           max(max(v_size.x, v_size.y), max(v_size.z, v_size.w)));
    barrier();
    vec2 most = vec2(0.0);
    for (uint i = 0u; i < 8u; i++)
        most = max(most, largest[gl_LocalInvocationID.x / 8u * 8u + i]);
    precise vec2 scales = most / 127.0;
    return scales;
}

// One four of K and of V of the position `slot` of the block that begins at word `block`.
void store(uint block, uint slot, uint four, vec4 result, vec4 value, vec2 scales)
{
    uint piece = four / KV_PIECE_FOURS, part = four % KV_PIECE_FOURS;
    uint k_word = block + (piece * LANES + slot) * 4u + part * KV_FOUR_WORDS;
    uint v_word = block + (slot * (push.head_dim / 4u) + four) * KV_FOUR_WORDS;
    uvec4 k_bits = kv_four_pack(result, scales.x), v_bits = kv_four_pack(value, scales.y);
    for (uint w = 0u; w < KV_FOUR_WORDS; w++) {
        k_out[k_word + w] = k_bits[w];
        v_out[v_word + w] = v_bits[w];
    }
    if (KV_SCALED != 0u && four % 8u == 0u) {
        uint word = block + kv_scale_word(push.head_dim, slot, four / 8u);
        k_out[word] = floatBitsToUint(scales.x);
        v_out[word] = floatBitsToUint(scales.y);
    }
}

void main()
{
    uint lane = gl_LocalInvocationID.x, token = gl_WorkGroupID.x, head = gl_WorkGroupID.y;
    uint dim = push.head_dim, position = push.first_position + token;
    if (push.position_place != NO_PLACE)
        position += positions[push.position_place];
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

    uint fours = dim / 4u, block = kv_head * (push.segment_tokens / LANES) + segment_position / LANES;
    for (uint first = 0u; first < fours; first += LANES) {
        uint four = first + lane;
        vec4 result = vec4(0.0), value = vec4(0.0);
        if (four < fours) {
            result = rotated_four(4u * four, position) * scale;
            if (!is_q)
                value = vec4(v[row + 4u * four], v[row + 4u * four + 1u], v[row + 4u * four + 2u],
                             v[row + 4u * four + 3u]);
        }
        vec2 scales = KV_SCALED != 0u ? block_scales(result, value) : vec2(0.0);
        if (four < fours && is_q)
            q_out[(token * push.heads + head) * fours + four] = result;
        if (four < fours && !is_q)
            store(block * KV_BLOCK_WORDS(dim), segment_position % LANES, four, result, value, scales);
    }
}
