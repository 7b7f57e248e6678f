#include "quant/kscale.h"

#include <math.h>

#include "quant/halffloat.h"
#include "quant/importance.h"
#include "quant/lanes.h"

enum { GROUPS = KSCALE_SUB_BLOCKS / LANES, SCALE_MAX = 63, SOLVE_ROUNDS = 2, DESCENT_ROUNDS = 3 };

// Four sub-blocks, one per lane.
struct group {
    lanes x[KSCALE_SUB_COLS], w[KSCALE_SUB_COLS];
    lanes low, high;      // range of x; low at most 0, because a minimum cannot be negative
    lanes sum_w, sum_wx;  // over the 32 values
    lanes scale, minimum; // the unquantised fit
    lanes sc, mn;         // the same as integers 0..63, in units of d and dmin
    lanes error;          // sum of w * (value - x)^2 at (sc, mn)
};

struct sums {
    lanes wq, wqq, wqx;
};

struct block_scales {
    float d, dmin; // exactly representable in f16
    lanes sc[GROUPS], mn[GROUPS];
    float error;
};

static void group_load(struct group *group, const float *values, const float *weights)
{
    group->low = lanes_set(0.0f);
    group->high = lanes_set(-INFINITY);
    group->sum_w = group->sum_wx = lanes_set(0.0f);
    for (int i = 0; i < KSCALE_SUB_COLS; i++) {
        for (int lane = 0; lane < LANES; lane++) {
            group->x[i][lane] = values[KSCALE_SUB_COLS * lane + i];
            group->w[i][lane] = weights[KSCALE_SUB_COLS * lane + i];
        }
        group->low = lanes_min(group->low, group->x[i]);
        group->high = lanes_max(group->high, group->x[i]);
        group->sum_w += group->w[i];
        group->sum_wx += group->w[i] * group->x[i];
    }
}

static struct sums group_sums(const struct group *group, float levels, lanes scale, lanes minimum)
{
    struct sums sums = {0};
    lanes inverse = lanes_ratio(lanes_set(1.0f), scale);
    for (int i = 0; i < KSCALE_SUB_COLS; i++) {
        lanes q = lanes_round_clamp((group->x[i] + minimum) * inverse, 0.0f, levels);
        lanes wq = group->w[i] * q;
        sums.wq += wq;
        sums.wqq += wq * q;
        sums.wqx += wq * group->x[i];
    }
    return sums;
}

static lanes group_error(const struct group *group, float levels, lanes scale, lanes minimum)
{
    lanes error = lanes_set(0.0f);
    lanes inverse = lanes_ratio(lanes_set(1.0f), scale);
    for (int i = 0; i < KSCALE_SUB_COLS; i++) {
        lanes shifted = group->x[i] + minimum;
        lanes difference = shifted - scale * lanes_round_clamp(shifted * inverse, 0.0f, levels);
        error += group->w[i] * difference * difference;
    }
    return error;
}

// Minimises sum w (scale q - minimum - x)^2 for fixed q; both results are at least 0.
static void group_solve(const struct group *group, const struct sums *sums, lanes *scale, lanes *minimum)
{
    const lanes zero = lanes_set(0.0f);
    lanes product = group->sum_w * sums->wqq;
    lanes determinant = product - sums->wq * sums->wq;
    lanes_mask spread = determinant > product * lanes_set(1e-5f); // else all q are (nearly) the same number
    lanes slope = lanes_ratio(group->sum_w * sums->wqx - group->sum_wx * sums->wq, determinant);
    lanes offset = lanes_ratio(slope * sums->wq - group->sum_wx, group->sum_w);
    lanes_mask usable = spread & (slope > zero) & (offset > zero);
    lanes through_zero = lanes_max(lanes_ratio(sums->wqx, sums->wqq), zero);
    *scale = lanes_select(usable, slope, through_zero);
    *minimum = lanes_select(usable, offset, zero);
}

static void group_keep_better(struct group *group, float levels, lanes scale, lanes minimum)
{
    lanes error = group_error(group, levels, scale, minimum);
    lanes_mask better = error < group->error;
    group->scale = lanes_select(better, scale, group->scale);
    group->minimum = lanes_select(better, minimum, group->minimum);
    group->error = lanes_select(better, error, group->error);
}

// Fits (scale, minimum) of each sub-block from several starts, which clip parts of the range at its two ends.
static void group_fit(struct group *group, float levels)
{
    static const struct {
        float low, high;
    } clips[] = {{-0.03f, -0.03f}, {-0.03f, 0.0f},  {-0.03f, 0.04f}, {0.0f, -0.03f}, {0.0f, 0.0f},
                 {0.0f, 0.04f},    {0.04f, -0.03f}, {0.04f, 0.0f},   {0.04f, 0.04f}};
    lanes range = group->high - group->low;
    group->scale = lanes_set(0.0f); // the constant sub-block
    group->minimum = lanes_max(lanes_ratio(-group->sum_wx, group->sum_w), lanes_set(0.0f));
    group->error = group_error(group, levels, group->scale, group->minimum);
    for (size_t start = 0; start < sizeof clips / sizeof clips[0]; start++) {
        lanes scale = range * lanes_set((1.0f - clips[start].low - clips[start].high) / levels);
        lanes minimum = lanes_max(-group->low - range * lanes_set(clips[start].low), lanes_set(0.0f));
        for (int iteration = 0; iteration < SOLVE_ROUNDS; iteration++) {
            struct sums sums = group_sums(group, levels, scale, minimum);
            group_solve(group, &sums, &scale, &minimum);
        }
        group_keep_better(group, levels, scale, minimum);
    }
}

// One step of descent on the integer grid: the best of the (2r+1)^2 neighbours of (sc, mn) by true error.
static void group_descend(struct group *group, float levels, float d, float dmin, int radius)
{
    lanes sc = group->sc, mn = group->mn;
    group->error = group_error(group, levels, lanes_set(d) * sc, lanes_set(dmin) * mn);
    for (int i = -radius; i <= radius; i++) {
        lanes sc_near = lanes_round_clamp(sc + lanes_set((float)i), 0.0f, SCALE_MAX);
        for (int j = -radius; j <= radius; j++) {
            lanes mn_near = lanes_round_clamp(mn + lanes_set((float)j), 0.0f, SCALE_MAX);
            lanes error = group_error(group, levels, lanes_set(d) * sc_near, lanes_set(dmin) * mn_near);
            lanes_mask better = error < group->error;
            group->sc = lanes_select(better, sc_near, group->sc);
            group->mn = lanes_select(better, mn_near, group->mn);
            group->error = lanes_select(better, error, group->error);
        }
    }
}

// d and dmin of least squared error for the present sc, mn and the q that follow from them.
static void block_refit(const struct group *groups, float levels, float *d, float *dmin)
{
    lanes a = {0}, b = {0}, c = {0}, e = {0}, f = {0};
    for (int g = 0; g < GROUPS; g++) {
        const struct group *group = &groups[g];
        struct sums sums = group_sums(group, levels, lanes_set(*d) * group->sc, lanes_set(*dmin) * group->mn);
        a += group->sc * group->sc * sums.wqq;
        b += group->sc * group->mn * sums.wq;
        c += group->mn * group->mn * group->sum_w;
        e += group->sc * sums.wqx;
        f += group->mn * group->sum_wx;
    }
    double aa = lanes_sum(a), bb = lanes_sum(b), cc = lanes_sum(c), ee = lanes_sum(e), ff = lanes_sum(f);
    double determinant = aa * cc - bb * bb;
    if (determinant > 1e-6 * aa * cc) {
        double slope = (ee * cc - ff * bb) / determinant, offset = (ee * bb - ff * aa) / determinant;
        if (slope > 0 && offset > 0) {
            *d = f16_nearest((float)slope);
            *dmin = f16_nearest((float)offset);
        }
    } else if (cc == 0 && aa > 0 && ee > 0) {
        *d = f16_nearest((float)(ee / aa));
    }
}

static void block_keep_better(struct block_scales *best, const struct group *groups, float d, float dmin)
{
    float error = 0;
    for (int g = 0; g < GROUPS; g++)
        error += lanes_sum(groups[g].error);
    if (error >= best->error)
        return;
    best->error = error;
    best->d = d;
    best->dmin = dmin;
    for (int g = 0; g < GROUPS; g++) {
        best->sc[g] = groups[g].sc;
        best->mn[g] = groups[g].mn;
    }
}

static float largest_of(const lanes *a, const lanes *b)
{
    return lanes_largest(lanes_max(*a, *b));
}

// The integers nearest to value / unit.
static lanes grid_nearest(lanes value, float unit)
{
    return lanes_round_clamp(value * lanes_set(unit > 0 ? 1.0f / unit : 0.0f), 0.0f, SCALE_MAX);
}

static void block_search(struct group *groups, float levels, struct block_scales *best)
{
    float d = f16_at_least(largest_of(&groups[0].scale, &groups[1].scale) / SCALE_MAX);
    float dmin = f16_at_least(largest_of(&groups[0].minimum, &groups[1].minimum) / SCALE_MAX);
    for (int g = 0; g < GROUPS; g++) {
        groups[g].sc = grid_nearest(groups[g].scale, d);
        groups[g].mn = grid_nearest(groups[g].minimum, dmin);
    }
    for (int round = 0; round < DESCENT_ROUNDS; round++) {
        for (int g = 0; g < GROUPS; g++)
            group_descend(&groups[g], levels, d, dmin, round == 0 ? 2 : 1);
        block_keep_better(best, groups, d, dmin);
        block_refit(groups, levels, &d, &dmin);
    }
}

static void block_store(const struct group *groups, float levels, const struct block_scales *best,
                        struct kscale_header *header, uint8_t *q)
{
    header->d = f16_from_f32(best->d);
    header->dmin = f16_from_f32(best->dmin);
    for (int g = 0; g < GROUPS; g++) {
        lanes scale = lanes_set(best->d) * best->sc[g], minimum = lanes_set(best->dmin) * best->mn[g];
        lanes inverse = lanes_ratio(lanes_set(1.0f), scale);
        for (int lane = 0; lane < LANES; lane++) {
            header->sc[LANES * g + lane] = (uint8_t)best->sc[g][lane];
            header->mn[LANES * g + lane] = (uint8_t)best->mn[g][lane];
        }
        for (int i = 0; i < KSCALE_SUB_COLS; i++) {
            lanes rounded = lanes_round_clamp((groups[g].x[i] + minimum) * inverse, 0.0f, levels);
            for (int lane = 0; lane < LANES; lane++)
                q[KSCALE_SUB_COLS * (LANES * g + lane) + i] = (uint8_t)rounded[lane];
        }
    }
}

void kscale_header_store(const struct kscale_header *header, uint8_t bytes[KSCALE_HEADER_BYTES])
{
    bytes[0] = (uint8_t)header->d;
    bytes[1] = (uint8_t)(header->d >> 8);
    bytes[2] = (uint8_t)header->dmin;
    bytes[3] = (uint8_t)(header->dmin >> 8);
    uint8_t *scales = bytes + 4;
    for (int j = 0; j < 4; j++) {
        scales[j] = (uint8_t)(header->sc[j] | (header->sc[j + 4] >> 4) << 6);
        scales[j + 4] = (uint8_t)(header->mn[j] | (header->mn[j + 4] >> 4) << 6);
        scales[j + 8] = (uint8_t)((header->sc[j + 4] & 15) | (header->mn[j + 4] & 15) << 4);
    }
}

void kscale_header_load(const uint8_t bytes[KSCALE_HEADER_BYTES], struct kscale_header *header)
{
    header->d = (uint16_t)(bytes[0] | bytes[1] << 8);
    header->dmin = (uint16_t)(bytes[2] | bytes[3] << 8);
    const uint8_t *scales = bytes + 4;
    for (int j = 0; j < 4; j++) {
        header->sc[j] = scales[j] & 63;
        header->mn[j] = scales[j + 4] & 63;
        header->sc[j + 4] = (uint8_t)((scales[j + 8] & 15) | (scales[j] >> 6) << 4);
        header->mn[j + 4] = (uint8_t)(scales[j + 8] >> 4 | (scales[j + 4] >> 6) << 4);
    }
}

void kscale_fit(const float *values, const float *importance, int levels, struct kscale_header *header, uint8_t *q)
{
    float weights[KSCALE_COLS];
    struct group groups[GROUPS];
    struct block_scales best = {.error = INFINITY};
    importance_normalise(importance, KSCALE_COLS, weights);
    for (int g = 0; g < GROUPS; g++) {
        int first = g * LANES * KSCALE_SUB_COLS;
        group_load(&groups[g], values + first, weights + first);
        group_fit(&groups[g], (float)levels);
    }
    block_search(groups, (float)levels, &best);
    block_store(groups, (float)levels, &best, header, q);
}
