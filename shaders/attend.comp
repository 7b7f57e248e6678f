// Attention of ROWS query rows over one run of one kv head's positions; not normalised, with the running maximum and
// sum, so that runs can be merged (attend_merge). A row is a (token, query head of this kv head) pair; neighbouring rows
// share the workgroup, so that K and V are read once for all of them.
//
// Workgroups: x rows, y runs, z kv heads. Heads come last because a software driver gives each of its threads one piece of
// the grid: threads with whole heads do the same work, those with runs of all heads do not where the last run is short.
//
// Steps of STEP = LANES * KEYS positions, each in two phases with the probabilities passing through shared memory:
//   scores   lane = position (KEYS of them), loop over dimensions: one K piece serves ROWS rows, q at uniform addresses;
//            GROUP neighbours of a software driver own one run of positions, so that they read in the order of memory
//   values   lane = QUADS fours of dimensions, loop over positions: one V piece serves ROWS rows
// Maximum and rescaling are per row and exact; sums stay per lane until the end. Masked positions get probability 0
// without looking at what lies there. Positions behind the last row's own are not read.
// A row's products with what was read come one after the other, so that a register allocator that runs out keeps the
// row's sums in registers and not what was read. Bytes read per row and position: 2 * head_dim * (1.125, 2 or 4) / ROWS.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#include "math.glsl"
#include "kv.glsl"
#include "mixer_params.h"

layout(local_size_x_id = 5) in;
layout(constant_id = 0) const uint HEAD_DIM = 256;
layout(constant_id = 1) const uint ROWS = 8;
layout(constant_id = 2) const uint KEYS = 2;
layout(constant_id = 3) const uint UNROLL = 2; // fours of K, or positions of V, in flight; divides HEAD_DIM / 4 and 32
layout(constant_id = 4) const uint WARM = 0; // 1: warm_cache before every step
layout(constant_id = 5) const uint LANES = 32; // at least ROWS; or 64 and KEYS > 1: half the registers where HEAD_DIM is 256
// If ROWS divides the heads of a kv head, the quotient: the workgroups of a token. All rows of one are of one token then,
// and their queries are neighbours. Otherwise 0.
layout(constant_id = 6) const uint TILES = 0;
layout(constant_id = 7) const uint GROUP = 0; // lanes of a software driver's subgroup; 0: on a GPU
const uint BLOCK = 32u; // positions, of K and V (kv.glsl)
const uint FOURS = HEAD_DIM / 4u;
const uint QUADS = (FOURS + LANES - 1u) / LANES; // per lane
const uint PIECES = FOURS / KV_PIECE_FOURS;
// Of a piece, used at once; more take too many registers.
const uint PART_FOURS = UNROLL < 2u ? 1u : min(KV_PIECE_FOURS, 2u);
const uint UNROLL_PIECES = UNROLL < KV_PIECE_FOURS || PART_FOURS < KV_PIECE_FOURS ? 1u : UNROLL / KV_PIECE_FOURS;
const uint BLOCK_WORDS = KV_BLOCK_WORDS(HEAD_DIM);
const uint STEP = LANES * KEYS;
const uint LANE_WORDS = QUADS * KV_FOUR_WORDS; // of V per position

layout(push_constant) uniform push_block { attend_push push; };
layout(binding = 0, std430) readonly buffer q_buffer { vec4 q[]; };
#ifdef KV_WIDE
#include "kv_read_wide.glsl"
#else
#include "kv_read.glsl"
#endif
const uint READ_WORDS = LANE_WORDS % V_READ_WORDS == 0u ? V_READ_WORDS : 1u;
layout(binding = 3, std430) writeonly buffer o_buffer { vec4 partial_o[]; };
layout(binding = 4, std430) writeonly buffer ml_buffer { vec2 partial_ml[]; };
layout(binding = 5, std430) readonly buffer position_buffer { uint positions[]; };

// The lanes' maxima or sums, [row][lane], padded against bank conflicts, and probabilities, [position][row]. With many
// lanes the latter take the place of the former, so that a GPU has room for more workgroups; with one more barrier, which
// a software driver has to pay for.
const bool IN_TURNS = LANES > 32u;
const uint PROBABILITIES = IN_TURNS ? 0u : ROWS * (LANES + 1u);
shared float exchange[PROBABILITIES + STEP * ROWS];
shared float reference[ROWS], rescale[ROWS];

const uint LINE_WORDS = 16u, TOUCHES = 8u; // words of a cache line; lines touched per turn of a loop
// Words of K and of V that one of a software driver's subgroups touches per step.
const uint SUBGROUPS = GROUP == 0u ? 1u : LANES / GROUP;
const uint SHARE_WORDS = STEP * BLOCK_WORDS / BLOCK / SUBGROUPS;
const float NOTHING = -1e30; // below every score, and its difference to itself is finite

uint first_position; // of the first token

// Row r of this workgroup; rows beyond the last one repeat it.
struct query {
    uint place; // (token * heads + head), the order of q and of the results
    uint position;
};

query query_get(uint r)
{
    uint group = push.heads / push.kv_heads;
    uint row = min(gl_WorkGroupID.x * ROWS + r, push.tokens * group - 1u);
    uint token = row / group;
    return query(token * push.heads + gl_WorkGroupID.z * group + row % group, first_position + token);
}

// The workgroup's work, and each lane's own results.
uint lane, kv_head;
query first_query;
query queries[ROWS]; // only without TILES
uint end; // of the positions that this workgroup reads
uvec4 piece[UNROLL_PIECES * KEYS]; // of K, as read: [piece][position of the lane]
float piece_scale[UNROLL_PIECES * KEYS];
float score[ROWS * KEYS]; // [row][position of the lane]
vec4 o[ROWS * QUADS];     // [row][four of the lane], not normalised
float sum[ROWS];          // of the probabilities of this lane's positions
float maximum;            // of row `lane`

uint place_of(uint r)
{
    return TILES != 0u ? first_query.place + r : queries[r].place;
}

uint position_of(uint r)
{
    return TILES != 0u ? first_query.position : queries[r].position;
}

bool visible(uint r, uint position)
{
    return position < min(end, position_of(r) + 1u);
}

// Where position j of the lane is within a step.
uint step_position(uint j)
{
    return GROUP == 0u ? j * LANES + lane : lane / GROUP * (GROUP * KEYS) + j * GROUP + lane % GROUP;
}

// The number of the block of a position of the segment.
uint block_of(uint key)
{
    return kv_head * (push.segment_tokens / BLOCK) + key / BLOCK;
}

// score += q . k for PART_FOURS fours from `part` on of each piece; `first` is the number of the first piece's first four.
void add_products(uint first, uint part)
{
    vec4 four[UNROLL_PIECES * PART_FOURS * KEYS]; // [four][position]
    [[unroll]] for (uint e = 0u; e < UNROLL_PIECES * PART_FOURS; e++)
        [[unroll]] for (uint j = 0u; j < KEYS; j++) {
            uint p = e / PART_FOURS * KEYS + j;
            vec4 values = kv_piece_four(piece[p], part + e % PART_FOURS);
            four[e * KEYS + j] = KV_SCALED != 0u ? values * piece_scale[p] : values;
        }
    [[unroll]] for (uint r = 0u; r < ROWS; r++)
        [[unroll]] for (uint e = 0u; e < UNROLL_PIECES * PART_FOURS; e++) {
            vec4 x = q[place_of(r) * FOURS + first + part + e];
            [[unroll]] for (uint j = 0u; j < KEYS; j++)
                [[unroll]] for (uint c = 0u; c < 4u; c++) {
                    precise float next = fma(x[c], four[e * KEYS + j][c], score[r * KEYS + j]);
                    score[r * KEYS + j] = next;
                }
        }
}

// score = q . k / sqrt(HEAD_DIM) for the positions base + step_position(j), and the rows' largest into `exchange`.
void compute_scores(uint base)
{
    uint place[KEYS], scale_word[KEYS];
    [[unroll]] for (uint j = 0u; j < KEYS; j++) {
        uint key = min(base + step_position(j), end - 1u) - push.segment_first;
        place[j] = block_of(key) * (BLOCK_WORDS / 4u) + key % BLOCK;
        scale_word[j] = block_of(key) * BLOCK_WORDS + kv_scale_word(HEAD_DIM, key % BLOCK, 0u);
    }
    [[unroll]] for (uint i = 0u; i < ROWS * KEYS; i++)
        score[i] = 0.0;
    // Unrolled altogether, small heads would keep more loads under way than there are registers.
    [[dont_unroll]] for (uint d = 0u; d < PIECES; d += UNROLL_PIECES) {
        [[unroll]] for (uint e = 0u; e < UNROLL_PIECES; e++)
            [[unroll]] for (uint j = 0u; j < KEYS; j++) {
                piece[e * KEYS + j] = k_piece(place[j] + (d + e) * BLOCK);
                if (KV_SCALED != 0u) {
                    uint word = scale_word[j] + (d + e) * KV_PIECE_FOURS / 8u;
                    piece_scale[e * KEYS + j] = uintBitsToFloat(k_word(word));
                }
            }
        // A loop of one turn would have a software driver carry all sums through memory; with many rows it is faster so.
        if (PART_FOURS == KV_PIECE_FOURS && ROWS <= 8u)
            add_products(d * KV_PIECE_FOURS, 0u);
        else
            [[dont_unroll]] for (uint part = 0u; part < KV_PIECE_FOURS; part += PART_FOURS)
                add_products(d * KV_PIECE_FOURS, part);
    }
    float scale = 1.0 / sqrt(float(HEAD_DIM));
    [[unroll]] for (uint r = 0u; r < ROWS; r++) {
        float own = NOTHING;
        [[unroll]] for (uint j = 0u; j < KEYS; j++) {
            score[r * KEYS + j] *= scale;
            if (visible(r, base + step_position(j)))
                own = max(own, score[r * KEYS + j]);
        }
        exchange[r * (LANES + 1u) + lane] = own;
    }
}

// Reads a little of every cache line that the step from `base` needs. The fetches that compute with K and V are gathers,
// and a processor waits for one after the other; these here, at addresses that are the same for a whole subgroup, are
// plain loads, which miss the cache side by side: the more of them, the fewer instructions each takes. Many per turn,
// because turns of a loop are dear on a software driver.
void warm_cache(uint base)
{
    uint first = block_of(base - push.segment_first) * BLOCK_WORDS;
    uint last = first + (min(STEP, end - base) + BLOCK - 1u) / BLOCK * BLOCK_WORDS - TOUCHES * LINE_WORDS;
    uint share = first + gl_SubgroupID % SUBGROUPS * SHARE_WORDS, any = 0u;
    [[dont_unroll]] for (uint i = share; i < share + SHARE_WORDS; i += TOUCHES * LINE_WORDS)
        [[unroll]] for (uint touch = 0u; touch < TOUCHES; touch++)
            any |= kv_touch(min(i, last), touch * LINE_WORDS);
    exchange[LANES] = float(any); // the padding, which nobody reads; keeps the reads alive
}

// Moves the rows' maxima on; lane r does row r.
void update_maximum()
{
    float old = maximum;
    for (uint i = 0u; i < LANES; i++)
        maximum = max(maximum, exchange[lane * (LANES + 1u) + i]);
    reference[lane] = maximum;
    rescale[lane] = exp_precise(old - maximum);
}

void compute_probabilities(uint base)
{
    [[unroll]] for (uint r = 0u; r < ROWS; r++) {
        precise float own = sum[r] * rescale[r];
        [[unroll]] for (uint j = 0u; j < KEYS; j++) {
            bool counts = visible(r, base + step_position(j));
            float p = counts ? exp_precise(score[r * KEYS + j] - reference[r]) : 0.0;
            own += p;
            exchange[PROBABILITIES + step_position(j) * ROWS + r] = p;
        }
        sum[r] = own;
    }
}

// Fours of V of the lane at a position of the segment.
void load_values(uint key, uint quad, out vec4 four[QUADS])
{
    uint block = block_of(key) * BLOCK_WORDS;
    // Without scales the blocks of a kv head are one array; so it costs a software driver less to find a place in.
    uint word = (kv_head * push.segment_tokens + key) * (FOURS * KV_FOUR_WORDS) + quad * KV_FOUR_WORDS;
    if (KV_SCALED != 0u)
        word = block + (key % BLOCK * FOURS + quad) * KV_FOUR_WORDS;
    uint words[LANE_WORDS + 1u]; // the last one stays unused
    [[unroll]] for (uint w = 0u; w < LANE_WORDS; w += READ_WORDS) {
        uvec2 two = READ_WORDS > 1u ? v_read(word + w) : uvec2(v_word(word + w), 0u);
        words[w] = two.x;
        words[w + 1u] = two.y;
    }
    [[unroll]] for (uint i = 0u; i < QUADS; i++) {
        uvec4 bits = uvec4(0u);
        [[unroll]] for (uint w = 0u; w < KV_FOUR_WORDS; w++)
            bits[w] = words[i * KV_FOUR_WORDS + w];
        four[i] = kv_four(KV_FOUR_BITS(bits));
        if (KV_SCALED != 0u)
            four[i] *= uintBitsToFloat(v_word(block + kv_scale_word(HEAD_DIM, key % BLOCK, (quad + i) / 8u)));
    }
}

// o = o * rescale + probabilities * V for the fours from `quad` on. Beyond the end the probabilities are 0.
void add_values(uint base)
{
    uint quad = min(lane * QUADS, FOURS - QUADS);
    [[unroll]] for (uint r = 0u; r < ROWS; r++)
        [[unroll]] for (uint i = 0u; i < QUADS; i++)
            o[r * QUADS + i] *= rescale[r];
    uint count = min(STEP, end - base);
    for (uint s = 0u; s < count; s += UNROLL) {
        vec4 four[UNROLL * QUADS];
        [[unroll]] for (uint e = 0u; e < UNROLL; e++) {
            vec4 values[QUADS];
            load_values(min(base + s + e, end - 1u) - push.segment_first, quad, values);
            [[unroll]] for (uint i = 0u; i < QUADS; i++)
                four[e * QUADS + i] = values[i];
        }
        [[unroll]] for (uint r = 0u; r < ROWS; r++)
            [[unroll]] for (uint e = 0u; e < UNROLL; e++) {
                vec4 p = vec4(exchange[PROBABILITIES + (s + e) * ROWS + r]);
                [[unroll]] for (uint i = 0u; i < QUADS; i++)
                    o[r * QUADS + i] = fma(p, four[e * QUADS + i], o[r * QUADS + i]);
            }
    }
}

// Results of run number `part`. Rows that repeat the last one write the same again.
void write_values(uint part)
{
    [[unroll]] for (uint r = 0u; r < ROWS; r++) {
        uint row = (place_of(r) * push.splits + part) * FOURS;
        [[unroll]] for (uint i = 0u; i < QUADS; i++)
            if (lane * QUADS + i < FOURS)
                partial_o[row + lane * QUADS + i] = o[r * QUADS + i];
    }
}

// The maximum and sum of row `lane`.
void write_sum(uint part)
{
    precise float total = 0.0;
    for (uint i = 0u; i < LANES; i++)
        total += exchange[lane * (LANES + 1u) + i];
    float largest = total > 0.0 ? maximum : uintBitsToFloat(0xFF800000u);
    uint place = TILES != 0u ? first_query.place + lane : query_get(lane).place;
    partial_ml[place * push.splits + part] = vec2(largest, total);
}

void main()
{
    lane = gl_LocalInvocationID.x;
    kv_head = gl_WorkGroupID.z;
    first_position = push.first_position;
    if (push.position_place != NO_PLACE)
        first_position += positions[push.position_place];
    uint begin = push.begin + gl_WorkGroupID.y * push.split_tokens, part = push.split0 + gl_WorkGroupID.y;
    if (TILES != 0u) {
        uint token = gl_WorkGroupID.x / TILES, row = gl_WorkGroupID.x % TILES * ROWS;
        first_query = query((token * push.kv_heads + kv_head) * (TILES * ROWS) + row, first_position + token);
    } else {
        [[unroll]] for (uint r = 0u; r < ROWS; r++)
            queries[r] = query_get(r);
    }
    end = min(min(begin + push.split_tokens, push.end), position_of(ROWS - 1u) + 1u);
    maximum = NOTHING;
    [[unroll]] for (uint i = 0u; i < ROWS * QUADS; i++)
        o[i] = vec4(0.0);
    [[unroll]] for (uint r = 0u; r < ROWS; r++)
        sum[r] = 0.0;

    for (uint base = begin; base < end; base += STEP) {
        if (WARM != 0u)
            warm_cache(base);
        compute_scores(base);
        barrier();
        if (lane < ROWS)
            update_maximum();
        barrier();
        compute_probabilities(base);
        barrier();
        add_values(base);
        if (IN_TURNS)
            barrier();
    }

    [[unroll]] for (uint r = 0u; r < ROWS; r++)
        exchange[r * (LANES + 1u) + lane] = sum[r];
    barrier();
    write_values(part);
    if (lane < ROWS && gl_WorkGroupID.x * ROWS + lane < push.tokens * (push.heads / push.kv_heads))
        write_sum(part);
}
