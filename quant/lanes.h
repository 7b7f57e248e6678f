// Four f32 side by side, for the encoders: each lane fits its own sub-block, so no sum runs across lanes and the result
// has the same bits on every machine. Compiles to SSE or NEON through the compilers' vector types.
#ifndef SLUICE_QUANT_LANES_H
#define SLUICE_QUANT_LANES_H

#include <stdint.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { LANES = 4 };

typedef float lanes __attribute__((vector_size(16)));
typedef int32_t lanes_mask __attribute__((vector_size(16))); // per lane 0 or -1, as comparisons of lanes yield

static inline lanes lanes_set(float value)
{
    return (lanes){value, value, value, value};
}

static inline lanes_mask lanes_mask_set(int32_t value)
{
    return (lanes_mask){value, value, value, value};
}

static inline lanes lanes_select(lanes_mask mask, lanes yes, lanes no)
{
    return (lanes)((mask & (lanes_mask)yes) | (~mask & (lanes_mask)no));
}

static inline lanes lanes_min(lanes a, lanes b)
{
#ifdef __SSE2__
    return (lanes)_mm_min_ps((__m128)a, (__m128)b);
#else
    return lanes_select(a < b, a, b);
#endif
}

static inline lanes lanes_max(lanes a, lanes b)
{
#ifdef __SSE2__
    return (lanes)_mm_max_ps((__m128)a, (__m128)b);
#else
    return lanes_select(a > b, a, b);
#endif
}

// The nearest integer, ties to even, of values of magnitude below 2^22: at 1.5 * 2^23 the last bit of an f32 is 1.
static inline lanes lanes_round(lanes value)
{
    const lanes shift = lanes_set(12582912.0f);
    return (value + shift) - shift;
}

static inline lanes lanes_round_clamp(lanes value, float low, float high)
{
    return lanes_round(lanes_min(lanes_max(value, lanes_set(low)), lanes_set(high)));
}

// numerator / denominator, and 0 where the denominator is not positive enough for a finite quotient.
static inline lanes lanes_ratio(lanes numerator, lanes denominator)
{
    lanes_mask usable = denominator > lanes_set(1e-30f);
    return lanes_select(usable, numerator / lanes_select(usable, denominator, lanes_set(1.0f)), lanes_set(0.0f));
}

static inline float lanes_sum(lanes value)
{
    return (value[0] + value[1]) + (value[2] + value[3]);
}

static inline float lanes_largest(lanes value)
{
    float a = value[0] > value[1] ? value[0] : value[1];
    float b = value[2] > value[3] ? value[2] : value[3];
    return a > b ? a : b;
}

#endif
