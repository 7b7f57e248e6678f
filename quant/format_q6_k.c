// q6_k: 256 values in 210 bytes: ql[128], qh[64], i8 sc[16], f16 d. value = (d * sc) * q, q -32..31, 16 values per sc.
//
// Value 128 n + 32 k + l (n 0..1, k 0..3, l 0..31) has its low four bits in ql[64 n + l + 32 (k & 1)], the low nibble
// for k < 2, and its high two bits in bits 2k of qh[32 n + l]; both together are q + 32.
#include <math.h>
#include <string.h>

#include "quant/formats.h"
#include "quant/halffloat.h"
#include "quant/importance.h"
#include "quant/lanes.h"

enum { COLS = 256, SUB_COLS = 16, SUB_BLOCKS = 16, GROUPS = SUB_BLOCKS / LANES, DESCENT_ROUNDS = 3 };
enum { QL_BYTES = 128, QH_BYTES = 64, SC_OFFSET = QL_BYTES + QH_BYTES, D_OFFSET = SC_OFFSET + SUB_BLOCKS };
enum { BLOCK_BYTES = D_OFFSET + 2 };

// Four sub-blocks, one per lane.
struct group {
    lanes x[SUB_COLS], w[SUB_COLS];
    lanes extreme; // the value of largest magnitude, with its sign
    lanes scale;   // the unquantised fit
    lanes sc;      // the same as an integer -128..127, in units of d
    lanes error;   // sum of w * (value - x)^2 at sc
};

struct block_scales {
    float d; // exactly representable in f16, not negative
    lanes sc[GROUPS];
    float error;
};

static lanes lanes_abs(lanes value)
{
    return lanes_max(value, -value);
}

static lanes inverse_of(lanes scale)
{
    lanes magnitude = lanes_ratio(lanes_set(1.0f), lanes_abs(scale));
    return lanes_select(scale < lanes_set(0.0f), -magnitude, magnitude);
}

static void group_load(struct group *group, const float *values, const float *weights)
{
    group->extreme = lanes_set(0.0f);
    for (int i = 0; i < SUB_COLS; i++) {
        for (int lane = 0; lane < LANES; lane++) {
            group->x[i][lane] = values[SUB_COLS * lane + i];
            group->w[i][lane] = weights[SUB_COLS * lane + i];
        }
        lanes_mask larger = lanes_abs(group->x[i]) > lanes_abs(group->extreme);
        group->extreme = lanes_select(larger, group->x[i], group->extreme);
    }
}

static lanes group_error(const struct group *group, lanes scale)
{
    lanes error = lanes_set(0.0f), inverse = inverse_of(scale);
    for (int i = 0; i < SUB_COLS; i++) {
        lanes difference = group->x[i] - scale * lanes_round_clamp(group->x[i] * inverse, -32.0f, 31.0f);
        error += group->w[i] * difference * difference;
    }
    return error;
}

// Sums of w q q and w q x for the q that follow from `scale`.
static void group_sums(const struct group *group, lanes scale, lanes *wqq, lanes *wqx)
{
    lanes inverse = inverse_of(scale);
    *wqq = *wqx = lanes_set(0.0f);
    for (int i = 0; i < SUB_COLS; i++) {
        lanes q = lanes_round_clamp(group->x[i] * inverse, -32.0f, 31.0f);
        *wqq += group->w[i] * q * q;
        *wqx += group->w[i] * q * group->x[i];
    }
}

// Fits the scale of each sub-block: the extreme value goes to one end of the range or a little beyond.
static void group_fit(struct group *group)
{
    static const float ends[] = {-33.0f, -32.0f, -31.0f, 31.0f, 32.0f};
    group->scale = lanes_set(0.0f);
    group->error = lanes_set(INFINITY);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        lanes wqq, wqx;
        group_sums(group, group->extreme * lanes_set(1.0f / ends[i]), &wqq, &wqx);
        lanes scale = lanes_ratio(wqx, wqq);
        lanes error = group_error(group, scale);
        lanes_mask better = error < group->error;
        group->scale = lanes_select(better, scale, group->scale);
        group->error = lanes_select(better, error, group->error);
    }
}

// The best of the 2r+1 neighbours of sc by true error.
static void group_descend(struct group *group, float d, int radius)
{
    lanes sc = group->sc;
    group->error = group_error(group, lanes_set(d) * sc);
    for (int i = -radius; i <= radius; i++) {
        lanes sc_near = lanes_round_clamp(sc + lanes_set((float)i), -128.0f, 127.0f);
        lanes error = group_error(group, lanes_set(d) * sc_near);
        lanes_mask better = error < group->error;
        group->sc = lanes_select(better, sc_near, group->sc);
        group->error = lanes_select(better, error, group->error);
    }
}

// d of least squared error for the present sc and the q that follow from them.
static float block_refit(const struct group *groups, float d)
{
    lanes a = {0}, b = {0};
    for (int g = 0; g < GROUPS; g++) {
        lanes wqq, wqx;
        group_sums(&groups[g], lanes_set(d) * groups[g].sc, &wqq, &wqx);
        a += groups[g].sc * groups[g].sc * wqq;
        b += groups[g].sc * wqx;
    }
    float numerator = lanes_sum(b), denominator = lanes_sum(a);
    return denominator > 0 && numerator > 0 ? f16_nearest(numerator / denominator) : d;
}

static void block_keep_better(struct block_scales *best, const struct group *groups, float d)
{
    float error = 0;
    for (int g = 0; g < GROUPS; g++)
        error += lanes_sum(groups[g].error);
    if (error >= best->error)
        return;
    best->error = error;
    best->d = d;
    for (int g = 0; g < GROUPS; g++)
        best->sc[g] = groups[g].sc;
}

static void block_search(struct group *groups, struct block_scales *best)
{
    lanes largest = lanes_set(0.0f);
    for (int g = 0; g < GROUPS; g++)
        largest = lanes_max(largest, lanes_abs(groups[g].scale));
    // The largest sc becomes about 120, so that its neighbours are within -128..127 too.
    float d = f16_at_least(lanes_largest(largest) / 120.0f);
    for (int g = 0; g < GROUPS; g++)
        groups[g].sc = lanes_round_clamp(groups[g].scale * lanes_set(d > 0 ? 1.0f / d : 0.0f), -128.0f, 127.0f);
    for (int round = 0; round < DESCENT_ROUNDS; round++) {
        for (int g = 0; g < GROUPS; g++)
            group_descend(&groups[g], d, round == 0 ? 8 : 4);
        block_keep_better(best, groups, d);
        d = block_refit(groups, d);
    }
}

static void q_store(uint8_t *block, int index, uint8_t q)
{
    int n = index / 128, k = index / 32 % 4, l = index % 32;
    block[64 * n + l + 32 * (k & 1)] |= (uint8_t)((q & 15) << (k < 2 ? 0 : 4));
    block[QL_BYTES + 32 * n + l] |= (uint8_t)((q >> 4) << 2 * k);
}

static void block_store(const struct group *groups, const struct block_scales *best, uint8_t *block)
{
    memset(block, 0, BLOCK_BYTES);
    uint16_t d = f16_from_f32(best->d);
    memcpy(block + D_OFFSET, &d, sizeof d);
    for (int sub = 0; sub < SUB_BLOCKS; sub++) {
        int g = sub / LANES, lane = sub % LANES;
        block[SC_OFFSET + sub] = (uint8_t)(int8_t)best->sc[g][lane];
    }
    for (int g = 0; g < GROUPS; g++) {
        lanes inverse = inverse_of(lanes_set(best->d) * best->sc[g]);
        for (int i = 0; i < SUB_COLS; i++) {
            lanes q = lanes_round_clamp(groups[g].x[i] * inverse, -32.0f, 31.0f) + lanes_set(32.0f);
            for (int lane = 0; lane < LANES; lane++)
                q_store(block, SUB_COLS * (LANES * g + lane) + i, (uint8_t)q[lane]);
        }
    }
}

static void block_encode(const float *values, const float *importance, uint8_t *block)
{
    float weights[COLS];
    struct group groups[GROUPS];
    struct block_scales best = {.error = INFINITY};
    importance_normalise(importance, COLS, weights);
    for (int g = 0; g < GROUPS; g++) {
        int first = g * LANES * SUB_COLS;
        group_load(&groups[g], values + first, weights + first);
        group_fit(&groups[g]);
    }
    block_search(groups, &best);
    block_store(groups, &best, block);
}

void format_q6_k_encode(const float *values, const float *importance, size_t block_count, uint8_t *blocks)
{
    for (size_t i = 0; i < block_count; i++)
        block_encode(values + COLS * i, importance ? importance + COLS * i : NULL, blocks + BLOCK_BYTES * i);
}

static void block_decode(const uint8_t *block, float *values)
{
    uint16_t d_bits;
    memcpy(&d_bits, block + D_OFFSET, sizeof d_bits);
    float d = f32_from_f16(d_bits);
    for (int run = 0; run < COLS / 32; run++) { // 32 values with the same n and k
        int n = run / 4, k = run % 4, low_shift = k < 2 ? 0 : 4, high_shift = 2 * k;
        const uint8_t *ql = block + 64 * n + 32 * (k & 1), *qh = block + QL_BYTES + 32 * n;
        const uint8_t *sc = block + SC_OFFSET + 2 * run;
        for (int l = 0; l < 32; l++) {
            int q = (ql[l] >> low_shift & 15) | (qh[l] >> high_shift & 3) << 4;
            values[32 * run + l] = d * (float)(int8_t)sc[l / SUB_COLS] * (float)(q - 32);
        }
    }
}

void format_q6_k_decode(const uint8_t *blocks, size_t block_count, float *values)
{
    for (size_t i = 0; i < block_count; i++)
        block_decode(blocks + BLOCK_BYTES * i, values + COLS * i);
}
