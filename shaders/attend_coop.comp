// The attention of attend.comp on matrix cores, for prefills and K and V in f16: same results up to rounding, same layout.
//
// A workgroup owns ROWS query rows, pairs of (token, query head of this kv head), over one run of positions: so K and V
// are read once for 4 tokens' 8 heads. Per step of STEP positions
//   scores   S = Q K^T, f16 times f16 in f32; a subgroup owns one product of coop_m x coop_n of S, or none
//   softmax  running maximum and sum per row in f32, PARTS invocations per row; probabilities become f16
//   values   O = O * rescale + P V, in registers: a subgroup owns the same rows, and coop_n of every WIDTH dimensions
// K and V pass through shared memory in pieces of PIECE dimensions. Positions at or behind `end` count as zeros there,
// whatever lies in memory; masked ones get probability 0. A row's bits do not depend on the other rows.
// Bytes read per row and position: 4 * head_dim / ROWS.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "coop.glsl"
#include "math.glsl"
#include "mixer_params.h"

layout(local_size_x_id = 3) in;
layout(constant_id = 3) const uint invocations = 128; // ROWS / coop_m * subgroups_n whole subgroups
layout(constant_id = 4) const uint HEAD_DIM = 256;    // 32, or a multiple of 64
layout(constant_id = 5) const bool unrolled = true;   // the products of a piece
layout(constant_id = 6) const uint subgroups_n = 2;   // STEP / coop_n, or more for fewer registers

const uint ROWS = 32u, STEP = 32u;
const uint PIECE = HEAD_DIM < 64u ? HEAD_DIM : 64u, PIECES = HEAD_DIM / PIECE;
const uint GRID_M = ROWS / coop_m, GRID_N = STEP / coop_n; // of products of S
const uint WIDTH = subgroups_n * coop_n, BLOCKS = PIECE / WIDTH;
const uint PARTS = invocations / ROWS, PART_KEYS = STEP / PARTS;
const uint FOURS = HEAD_DIM / 4u, PIECE_FOURS = PIECE / 4u;

layout(push_constant) uniform push_block { attend_push push; };
layout(binding = 0, std430) readonly buffer q_buffer { vec4 q[]; };
layout(binding = 1, std430) readonly buffer k_buffer { uvec2 k[]; };  // 4 dimensions each
layout(binding = 2, std430) readonly buffer v_buffer { uvec2 v[]; };
layout(binding = 3, std430) writeonly buffer o_buffer { vec2 partial_o[]; };
layout(binding = 4, std430) writeonly buffer ml_buffer { vec2 partial_ml[]; };

// Rows are padded against bank conflicts; strides of f16 count fours.
const uint Q_STRIDE = (HEAD_DIM + 8u) / 4u, KV_STRIDE = (PIECE + 8u) / 4u, P_STRIDE = (STEP + 8u) / 4u;
const uint S_STRIDE = STEP + 4u;
shared f16vec4 q_tile[ROWS * Q_STRIDE];   // [row][dimension], divided by sqrt(HEAD_DIM)
shared f16vec4 kv_tile[STEP * KV_STRIDE]; // [position][dimension of the piece]
shared f16vec4 p_tile[ROWS * P_STRIDE];   // [row][position]
shared float s_tile[ROWS * S_STRIDE];     // [row][position]; at the end a block of dimensions of O
shared float factor[ROWS * coop_n];       // [row][any]: what O is multiplied by
shared float exchange[ROWS * PARTS];      // [row][part]

const float NOTHING = -1e30; // below every score, and its difference to itself is finite

uint end; // of the positions that this workgroup reads
uint subgroup_m, subgroup_n;
uint own_row, own_part; // of the softmax
uint own_limit;         // positions that the own row sees
float maximum, sum;     // of the own row and part
coop_c scores;
coop_c o[PIECES * BLOCKS]; // not normalised

uint row_count()
{
    return push.tokens * (push.heads / push.kv_heads);
}

// Rows beyond the last one repeat it.
uint token_of(uint r)
{
    return min(gl_WorkGroupID.x * ROWS + r, row_count() - 1u) / (push.heads / push.kv_heads);
}

// The row's place in q and in the results: token * heads + head.
uint place_of(uint r)
{
    uint group = push.heads / push.kv_heads;
    return token_of(r) * push.heads + gl_WorkGroupID.y * group + min(gl_WorkGroupID.x * ROWS + r, row_count() - 1u) % group;
}

f16vec4 four_halves(uvec2 bits)
{
    return f16vec4(unpackFloat2x16(bits.x), unpackFloat2x16(bits.y));
}

void load_q()
{
    float scale = 1.0 / sqrt(float(HEAD_DIM));
    [[dont_unroll]] for (uint i = gl_LocalInvocationIndex; i < ROWS * FOURS; i += invocations)
        q_tile[i / FOURS * Q_STRIDE + i % FOURS] = f16vec4(q[place_of(i / FOURS) * FOURS + i % FOURS] * scale);
}

// k: [kv_head][block][FOURS / 2][32 positions][2] fours (kv.glsl)
void load_k(uint base, uint piece)
{
    [[dont_unroll]] for (uint i = gl_LocalInvocationIndex; i < STEP * PIECE_FOURS; i += invocations) {
        uint position = base + i % STEP, key = position - push.segment_first, four = i / STEP;
        uint block = (gl_WorkGroupID.y * (push.segment_tokens / 32u) + key / 32u) * FOURS * 32u;
        uint d = piece * PIECE_FOURS + four, at = block + (d / 2u * 32u + key % 32u) * 2u + d % 2u;
        kv_tile[i % STEP * KV_STRIDE + four] = position < end ? four_halves(k[at]) : f16vec4(0.0);
    }
}

// v: [kv_head][position][FOURS] fours
void load_v(uint base, uint piece)
{
    for (uint i = gl_LocalInvocationIndex; i < STEP * PIECE_FOURS; i += invocations) {
        uint position = base + i / PIECE_FOURS, four = i % PIECE_FOURS;
        uint at = (gl_WorkGroupID.y * push.segment_tokens + position - push.segment_first) * FOURS + piece * PIECE_FOURS;
        kv_tile[i / PIECE_FOURS * KV_STRIDE + four] = position < end ? four_halves(v[at + four]) : f16vec4(0.0);
    }
}

void score_columns(uint piece, uint k)
{
    if (subgroup_n >= GRID_N)
        return;
    coop_a a = coop_load_a(q_tile[subgroup_m * coop_m * Q_STRIDE + piece * PIECE_FOURS + k * coop_k / 4u], COOP_ROWS,
                           Q_STRIDE);
    coop_b b = coop_load_b(kv_tile[subgroup_n * coop_n * KV_STRIDE + k * coop_k / 4u], COOP_COLUMNS, KV_STRIDE);
    scores = coop_multiply_add(a, b, scores);
}

void compute_scores(uint base)
{
    scores = coop_fill(0.0);
    [[dont_unroll]] for (uint piece = 0u; piece < PIECES; piece++) {
        load_k(base, piece);
        barrier();
        if (unrolled) {
            [[unroll]] for (uint k = 0u; k < PIECE / coop_k; k++)
                score_columns(piece, k);
        } else {
            [[dont_unroll]] for (uint k = 0u; k < PIECE / coop_k; k++)
                score_columns(piece, k);
        }
        barrier();
    }
    if (subgroup_n < GRID_N)
        coop_store(s_tile[subgroup_m * coop_m * S_STRIDE + subgroup_n * coop_n], scores, COOP_ROWS, S_STRIDE);
    barrier();
}

// Maxima move on, O's factors follow, scores become probabilities. The sum counts what was rounded.
void compute_probabilities(uint base)
{
    uint first = own_part * PART_KEYS;
    float own = NOTHING;
    [[dont_unroll]] for (uint i = first; i < first + PART_KEYS; i++)
        if (base + i < own_limit)
            own = max(own, s_tile[own_row * S_STRIDE + i]);
    exchange[gl_LocalInvocationIndex] = own;
    barrier();
    float old = maximum;
    [[dont_unroll]] for (uint i = 0u; i < PARTS; i++)
        maximum = max(maximum, exchange[own_row * PARTS + i]);
    precise float rescale = exp_precise(old - maximum);
    precise float total = sum * rescale;
    [[dont_unroll]] for (uint i = own_part; i < coop_n; i += PARTS)
        factor[own_row * coop_n + i] = rescale;
    [[dont_unroll]] for (uint i = first; i < first + PART_KEYS; i += 4u) {
        f16vec4 p = f16vec4(0.0);
        [[unroll]] for (uint j = 0u; j < 4u; j++)
            if (base + i + j < own_limit)
                p[j] = float16_t(exp_precise(s_tile[own_row * S_STRIDE + i + j] - maximum));
        p_tile[own_row * P_STRIDE + i / 4u] = p;
        [[unroll]] for (uint j = 0u; j < 4u; j++)
            total += float(p[j]);
    }
    sum = total;
    barrier();
}

void value_columns(uint piece, uint block, uint k)
{
    coop_a a = coop_load_a(p_tile[subgroup_m * coop_m * P_STRIDE + k * coop_k / 4u], COOP_ROWS, P_STRIDE);
    coop_b b = coop_load_b(kv_tile[k * coop_k * KV_STRIDE + (block * WIDTH + subgroup_n * coop_n) / 4u], COOP_ROWS,
                           KV_STRIDE);
    o[piece * BLOCKS + block] = coop_multiply_add(a, b, o[piece * BLOCKS + block]);
}

void add_values(uint base)
{
    coop_c rescale = coop_load_c(factor[subgroup_m * coop_m * coop_n], COOP_ROWS, coop_n);
    [[unroll]] for (uint piece = 0u; piece < PIECES; piece++) {
        load_v(base, piece);
        barrier();
        [[unroll]] for (uint block = 0u; block < BLOCKS; block++) {
            o[piece * BLOCKS + block] = coop_scale(o[piece * BLOCKS + block], rescale);
            if (unrolled) {
                [[unroll]] for (uint k = 0u; k < STEP / coop_k; k++)
                    value_columns(piece, block, k);
            } else {
                [[dont_unroll]] for (uint k = 0u; k < STEP / coop_k; k++)
                    value_columns(piece, block, k);
            }
        }
        barrier();
    }
}

// Results of run number `part`, STEP dimensions at a time through shared memory.
void write_values(uint part)
{
    [[unroll]] for (uint block = 0u; block < HEAD_DIM / STEP; block++) {
        if (subgroup_n / GRID_N == block % (WIDTH / STEP))
            coop_store(s_tile[subgroup_m * coop_m * S_STRIDE + subgroup_n % GRID_N * coop_n],
                       o[block / (WIDTH / STEP)], COOP_ROWS, S_STRIDE);
        barrier();
        for (uint i = gl_LocalInvocationIndex; i < ROWS * STEP / 2u; i += invocations) {
            uint r = i / (STEP / 2u), pair = i % (STEP / 2u);
            if (gl_WorkGroupID.x * ROWS + r < row_count())
                partial_o[(place_of(r) * push.splits + part) * (HEAD_DIM / 2u) + block * (STEP / 2u) + pair] =
                    vec2(s_tile[r * S_STRIDE + 2u * pair], s_tile[r * S_STRIDE + 2u * pair + 1u]);
        }
        barrier();
    }
}

void write_sum(uint part)
{
    exchange[gl_LocalInvocationIndex] = sum;
    barrier();
    if (own_part != 0u || gl_WorkGroupID.x * ROWS + own_row >= row_count())
        return;
    precise float total = 0.0;
    [[dont_unroll]] for (uint i = 0u; i < PARTS; i++)
        total += exchange[own_row * PARTS + i];
    float largest = total > 0.0 ? maximum : uintBitsToFloat(0xFF800000u);
    partial_ml[place_of(own_row) * push.splits + part] = vec2(largest, total);
}

void main()
{
    uint begin = push.begin + gl_WorkGroupID.z * push.split_tokens, part = push.split0 + gl_WorkGroupID.z;
    end = min(min(begin + push.split_tokens, push.end), push.first_position + token_of(ROWS - 1u) + 1u);
    subgroup_m = gl_SubgroupID % GRID_M;
    subgroup_n = gl_SubgroupID / GRID_M;
    own_row = gl_LocalInvocationIndex / PARTS;
    own_part = gl_LocalInvocationIndex % PARTS;
    own_limit = min(end, push.first_position + token_of(own_row) + 1u);
    maximum = NOTHING;
    sum = 0.0;
    [[unroll]] for (uint i = 0u; i < PIECES * BLOCKS; i++)
        o[i] = coop_fill(0.0);
    load_q();
    for (uint base = begin; base < end; base += STEP) {
        compute_scores(base);
        compute_probabilities(base);
        add_values(base);
    }
    write_values(part);
    write_sum(part);
}
