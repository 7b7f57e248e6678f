// The gated delta rule, token by token:
//   S <- e^g S;  d = beta (v - S^T k);  S <- S + k d^T;  o = S^T q      with k, q L2-normalised, q / sqrt(key_dim)
// One workgroup owns 32 columns of one value head's state from the first token to the last, in registers. The rows are
// cut into PARTS; a lane owns one column of LANE_PARTS of them, or of one of them two of every four rows (ROW_LANES 2).
// Sums over rows are always built part by part and in a part (first + second) + (third + fourth) of the fours, so that
// the bits depend on neither: half a part per lane suits GPUs, whose registers it saves, all parts per lane need no
// barrier per token and suit the software driver. k and q are read raw; what normalises them, and everything else that a token's
// columns have in common, is worked out 32 tokens ahead. The output uses
//   o = e^g S_old^T q + (k . q) d,
// so that the state is read once for both products. For a software driver, whose fetches are slow and slower still where
// every lane checks the bounds of a buffer, a lane may own LANE_COLUMNS columns, which share what is fetched of k and q,
// and both may come from shared memory (STAGED). Per token and workgroup 8 * key_dim + 128 bytes read, 128 written.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "math.glsl"
#include "mixer_params.h"

const uint COLUMNS = 32u, AHEAD = 32u;

layout(local_size_x_id = 0) in; // WIDTH * PARTS / LANE_PARTS * ROW_LANES
layout(constant_id = 1) const uint KEY_GROUPS = 32; // key_dim / 4
layout(constant_id = 2) const uint VALUE_DIM = 128;
layout(constant_id = 3) const uint PARTS = 4; // divides KEY_GROUPS
layout(constant_id = 4) const uint LANE_PARTS = 1; // 1 or PARTS
layout(constant_id = 5) const uint LANE_COLUMNS = 1; // divides COLUMNS; not 1: LANE_PARTS is PARTS
layout(constant_id = 6) const uint STAGED = 0; // tokens copied to shared memory at once; not 0: LANE_PARTS is PARTS
layout(constant_id = 7) const uint ROW_LANES = 1; // 1, or 2 that share a part; then LANE_PARTS is 1
const uint PART_GROUPS = KEY_GROUPS / PARTS;
const uint LANE_GROUPS = LANE_PARTS * PART_GROUPS; // of one column
const uint STAGE_TOKENS = STAGED != 0u ? STAGED : 1u;
const uint WIDTH = COLUMNS / LANE_COLUMNS;
const uint SLICES = PARTS * ROW_LANES, LANE_ROWS = 4u / ROW_LANES; // of every four

layout(push_constant) uniform push_block { delta_scan_push push; };
layout(binding = 0, std430) readonly buffer conv_buffer { vec4 conv[]; };
layout(binding = 1, std430) readonly buffer ba_buffer { float ba[]; };
layout(binding = 2, std430) readonly buffer a_log_buffer { float a_log[]; };
layout(binding = 3, std430) readonly buffer dt_bias_buffer { float dt_bias[]; };
layout(binding = 4, std430) buffer state_buffer { float state[]; };
layout(binding = 5, std430) writeonly buffer o_buffer { float o[]; };

struct token_scales {
    float k, q; // what makes k and q unit vectors (and divides q by sqrt(key_dim))
    float kq;   // k . q of the scaled vectors
    float beta, decay;
};

shared vec4 staged[STAGE_TOKENS * 2u * KEY_GROUPS]; // [token][k, q]
shared token_scales scales[AHEAD];
shared vec3 part_norms[SLICES * AHEAD]; // k . k, q . q, k . q
shared vec2 part_sums[2u * SLICES * COLUMNS]; // S^T k, S^T q; two tokens in turn

uint own_row; // the lane's first row of every four

// The lane's rows of four number i, then zeros.
vec4 conv_rows(uint i)
{
    if (ROW_LANES == 1u)
        return conv[i];
    return vec4(conv[i][own_row], conv[i][own_row + 1u], 0.0, 0.0);
}

float sum_rows(vec4 v)
{
    precise float sum = v.x + v.y;
    if (ROW_LANES == 1u)
        sum += v.z + v.w;
    return sum;
}

vec3 norms_of_part(uint q_row, uint k_row)
{
    vec4 kk = vec4(0.0), qq = vec4(0.0), kq = vec4(0.0);
    [[unroll]] for (uint i = 0u; i < PART_GROUPS; i++) {
        vec4 k = conv_rows(k_row + i), q = conv_rows(q_row + i);
        kk = fma(k, k, kk);
        qq = fma(q, q, qq);
        kq = fma(k, q, kq);
    }
    return vec3(sum_rows(kk), sum_rows(qq), sum_rows(kq));
}

token_scales scales_of_token(uint token, uint head, vec3 norms)
{
    uint per_key = push.value_heads / push.key_heads;
    uint b = token * 2u * push.value_heads + head / per_key * 2u * per_key + head % per_key;
    token_scales s;
    s.k = 1.0 / sqrt(norms.x + 1e-6);
    s.q = 1.0 / sqrt((norms.y + 1e-6) * float(4u * KEY_GROUPS));
    s.kq = norms.z * s.k * s.q;
    s.beta = sigmoid(ba[b]);
    s.decay = exp_precise(-exp_precise(a_log[head]) * softplus(ba[b + per_key] + dt_bias[head]));
    return s;
}

// Scales of the tokens from `token` on; those behind the last one repeat it.
void prepare(uint token, uint head, uint first_slice, uint q_base, uint k_base, uint row_groups)
{
    for (uint t = gl_LocalInvocationID.x % WIDTH; t < AHEAD; t += WIDTH) {
        uint row = min(token + t, push.tokens - 1u) * row_groups;
        [[unroll]] for (uint p = 0u; p < LANE_PARTS; p++)
            part_norms[(first_slice + p) * AHEAD + t] =
                norms_of_part(row + q_base + p * PART_GROUPS, row + k_base + p * PART_GROUPS);
    }
    barrier();
    for (uint t = gl_LocalInvocationID.x; t < AHEAD; t += gl_WorkGroupSize.x) {
        precise vec3 norms = vec3(0.0);
        [[unroll]] for (uint p = 0u; p < SLICES; p += ROW_LANES) {
            precise vec3 part = part_norms[p * AHEAD + t];
            if (ROW_LANES == 2u)
                part += part_norms[(p + 1u) * AHEAD + t];
            norms = p > 0u ? norms + part : part;
        }
        scales[t] = scales_of_token(min(token + t, push.tokens - 1u), head, norms);
    }
}

// Copies k and q of the tokens from `token` on.
void stage(uint token, uint q_base, uint k_base, uint row_groups)
{
    for (uint i = gl_LocalInvocationID.x; i < STAGED * KEY_GROUPS; i += gl_WorkGroupSize.x) {
        uint t = i / KEY_GROUPS, group = i % KEY_GROUPS, row = min(token + t, push.tokens - 1u) * row_groups;
        staged[t * 2u * KEY_GROUPS + group] = conv[row + k_base + group];
        staged[(t * 2u + 1u) * KEY_GROUPS + group] = conv[row + q_base + group];
    }
}

void main()
{
    uint lane = gl_LocalInvocationID.x % WIDTH;
    uint first_slice = LANE_PARTS == PARTS ? 0u : gl_LocalInvocationID.x / WIDTH, first_part = first_slice / ROW_LANES;
    own_row = first_slice % ROW_LANES * LANE_ROWS;
    uint head = gl_WorkGroupID.y, key_head = head / (push.value_heads / push.key_heads);
    uint key_groups = push.key_heads * KEY_GROUPS;
    uint row_groups = 2u * key_groups + push.value_heads * VALUE_DIM / 4u;
    uint q_base = key_head * KEY_GROUPS + first_part * PART_GROUPS, k_base = q_base + key_groups;
    uint state_base = ((head * KEY_GROUPS + first_part * PART_GROUPS) * 4u + own_row) * VALUE_DIM;
    uint columns[LANE_COLUMNS];
    bool owner[LANE_COLUMNS];
    [[unroll]] for (uint c = 0u; c < LANE_COLUMNS; c++) {
        uint column = gl_WorkGroupID.x * COLUMNS + c * WIDTH + lane;
        columns[c] = min(column, VALUE_DIM - 1u);
        owner[c] = column < VALUE_DIM;
    }

    vec4 S[LANE_COLUMNS * LANE_GROUPS]; // with ROW_LANES 2 only x and y
    [[unroll]] for (uint c = 0u; c < LANE_COLUMNS; c++)
        [[unroll]] for (uint i = 0u; i < LANE_GROUPS; i++)
            [[unroll]] for (uint j = 0u; j < LANE_ROWS; j++)
                S[c * LANE_GROUPS + i][j] = state[state_base + (4u * i + j) * VALUE_DIM + columns[c]];

    for (uint token = 0u; token < push.tokens; token++) {
        uint ahead = token % AHEAD;
        if (ahead == 0u) {
            barrier();
            prepare(token, head, first_slice, q_base, k_base, row_groups);
            barrier();
        }
        if (STAGED != 0u && token % STAGED == 0u) {
            barrier();
            stage(token, q_base, k_base, row_groups);
            barrier();
        }
        uint row = token * row_groups, place = token % STAGE_TOKENS * 2u * KEY_GROUPS;
        vec2 sums[LANE_COLUMNS];
        [[unroll]] for (uint p = 0u; p < LANE_PARTS; p++) {
            precise vec4 k_sum[LANE_COLUMNS], q_sum[LANE_COLUMNS];
            [[unroll]] for (uint c = 0u; c < LANE_COLUMNS; c++)
                k_sum[c] = q_sum[c] = vec4(0.0);
            [[unroll]] for (uint i = p * PART_GROUPS; i < (p + 1u) * PART_GROUPS; i++) {
                vec4 k = STAGED != 0u ? staged[place + i] : conv_rows(row + k_base + i);
                vec4 q = STAGED != 0u ? staged[place + KEY_GROUPS + i] : conv_rows(row + q_base + i);
                [[unroll]] for (uint c = 0u; c < LANE_COLUMNS; c++) {
                    k_sum[c] = fma(k, S[c * LANE_GROUPS + i], k_sum[c]);
                    q_sum[c] = fma(q, S[c * LANE_GROUPS + i], q_sum[c]);
                }
            }
            [[unroll]] for (uint c = 0u; c < LANE_COLUMNS; c++) {
                precise vec2 sum = vec2(sum_rows(k_sum[c]), sum_rows(q_sum[c]));
                if (p > 0u)
                    sum = sums[c] + sum;
                sums[c] = sum;
            }
        }
        if (LANE_PARTS != PARTS) { // then there is one column per lane
            uint turn = token % 2u * SLICES;
            part_sums[(turn + first_slice) * COLUMNS + lane] = sums[0];
            barrier();
            [[unroll]] for (uint p = 0u; p < SLICES; p += ROW_LANES) {
                precise vec2 part = part_sums[(turn + p) * COLUMNS + lane];
                if (ROW_LANES == 2u)
                    part += part_sums[(turn + p + 1u) * COLUMNS + lane];
                precise vec2 sum = p > 0u ? sums[0] + part : part;
                sums[0] = sum;
            }
        }
        token_scales s = scales[ahead];
        float kd[LANE_COLUMNS];
        [[unroll]] for (uint c = 0u; c < LANE_COLUMNS; c++) {
            uint value_column = head * VALUE_DIM + columns[c];
            float v = conv[row + 2u * key_groups + value_column / 4u][value_column % 4u];
            precise float d = s.beta * (v - s.decay * s.k * sums[c].x);
            precise float y = fma(s.decay * s.q, sums[c].y, s.kq * d);
            precise float scaled = s.k * d;
            kd[c] = scaled;
            if (owner[c] && first_slice == 0u)
                o[token * push.value_heads * VALUE_DIM + value_column] = y;
        }
        [[unroll]] for (uint i = 0u; i < LANE_GROUPS; i++) {
            vec4 k = STAGED != 0u ? staged[place + i] : conv_rows(row + k_base + i);
            [[unroll]] for (uint c = 0u; c < LANE_COLUMNS; c++)
                S[c * LANE_GROUPS + i] = fma(k, vec4(kd[c]), s.decay * S[c * LANE_GROUPS + i]);
        }
    }

    [[unroll]] for (uint c = 0u; c < LANE_COLUMNS; c++)
        if (owner[c])
            [[unroll]] for (uint i = 0u; i < LANE_GROUPS; i++)
                [[unroll]] for (uint j = 0u; j < LANE_ROWS; j++)
                    state[state_base + (4u * i + j) * VALUE_DIM + columns[c]] = S[c * LANE_GROUPS + i][j];
}
