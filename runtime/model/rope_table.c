#include <math.h>
#include <string.h>

#include "runtime/model/config.h"

static double yarn_mscale(double factor, double mscale)
{
    return factor <= 1 ? 1.0 : 0.1 * mscale * log(factor) + 1.0;
}

static double yarn_attention_factor(const struct model_rope *rope)
{
    if (rope->attention_factor != 0)
        return rope->attention_factor;
    if (rope->mscale != 0 && rope->mscale_all_dim != 0)
        return yarn_mscale(rope->factor, rope->mscale) / yarn_mscale(rope->factor, rope->mscale_all_dim);
    return yarn_mscale(rope->factor, 1.0);
}

// The dimension whose angle makes `turns` full turns within the original window.
static double yarn_corr(const struct model_rope *rope, double dim, double turns)
{
    return dim * log(rope->original_positions / (2 * M_PI * turns)) / (2 * log(rope->theta));
}

struct yarn_ramp {
    double low, high;
};

static struct yarn_ramp yarn_ramp_get(const struct model_rope *rope, double dim)
{
    double low = yarn_corr(rope, dim, rope->beta_fast), high = yarn_corr(rope, dim, rope->beta_slow);
    if (rope->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, dim - 1);
    return (struct yarn_ramp){low, low == high ? high + 0.001 : high};
}

void model_config_rope(const struct model_config *config, float *frequencies, float *attention_factor)
{
    const struct model_rope *rope = &config->rope;
    struct yarn_ramp ramp = rope->yarn ? yarn_ramp_get(rope, config->rotary_dim) : (struct yarn_ramp){0, 1};
    *attention_factor = rope->yarn ? (float)yarn_attention_factor(rope) : 1.0f;
    memset(frequencies, 0, MODEL_HEAD_DIM_MAX / 2 * sizeof *frequencies);
    for (uint32_t i = 0; i < config->rotary_dim / 2; i++) {
        double f = pow(rope->theta, -2.0 * i / config->rotary_dim);
        double weight = fmin(fmax((i - ramp.low) / (ramp.high - ramp.low), 0), 1);
        frequencies[i] = (float)(rope->yarn ? f * ((1 - weight) + weight / rope->factor) : f);
    }
}
