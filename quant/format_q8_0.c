// q8_0: 32 values in 34 bytes: f16 d, i8 q[32]. value = d * q.
#include <math.h>
#include <string.h>

#include "quant/formats.h"
#include "quant/halffloat.h"
#include "quant/lanes.h"

enum { COLS = 32, VECTORS = COLS / LANES, BLOCK_BYTES = 34, CANDIDATES = 20 };

struct block {
    lanes x[VECTORS];
};

static float block_inverse(float d)
{
    return fabsf(d) > 0 ? 1.0f / d : 0.0f;
}

static float block_error(const struct block *block, float d)
{
    lanes error = lanes_set(0.0f), scale = lanes_set(d), inverse = lanes_set(block_inverse(d));
    for (int i = 0; i < VECTORS; i++) {
        lanes difference = block->x[i] - scale * lanes_round_clamp(block->x[i] * inverse, -128.0f, 127.0f);
        error += difference * difference;
    }
    return lanes_sum(error);
}

// The value of largest magnitude, with its sign.
static float extreme_of(const float *values)
{
    float extreme = 0;
    for (int i = 0; i < COLS; i++)
        if (fabsf(values[i]) > fabsf(extreme))
            extreme = values[i];
    return extreme;
}

static float f16_signed(float value)
{
    return value < 0 ? -f16_nearest(-value) : f16_nearest(value);
}

// The best of several steps: the smallest maps the extreme value to -128 (so d has the other sign), each further one is
// a little wider. How the 32 rounding errors fall is nearly independent between them, so the best has a fifth less
// squared error than the usual extreme / 127.
static float block_fit(const struct block *block, float extreme)
{
    float smallest = -extreme / 128.0f;
    float best = f16_at_least(fabsf(extreme) / 127.0f); // never loses range, however coarse f16 is down there
    float best_error = block_error(block, best);
    for (int i = 0; i < CANDIDATES; i++) {
        float d = f16_signed(smallest * (1.0f + 0.004f * (float)i));
        float error = block_error(block, d);
        if (error < best_error) {
            best = d;
            best_error = error;
        }
    }
    return best;
}

static void block_encode(const float *values, uint8_t *bytes)
{
    struct block block;
    memcpy(block.x, values, sizeof block.x);
    float d = block_fit(&block, extreme_of(values));
    uint16_t d_bits = f16_from_f32(d);
    memcpy(bytes, &d_bits, sizeof d_bits);
    for (int i = 0; i < VECTORS; i++) {
        lanes q = lanes_round_clamp(block.x[i] * lanes_set(block_inverse(d)), -128.0f, 127.0f);
        for (int lane = 0; lane < LANES; lane++)
            bytes[2 + LANES * i + lane] = (uint8_t)(int8_t)q[lane];
    }
}

void format_q8_0_encode(const float *values, const float *importance, size_t block_count, uint8_t *blocks)
{
    (void)importance;
    for (size_t i = 0; i < block_count; i++)
        block_encode(values + COLS * i, blocks + BLOCK_BYTES * i);
}

void format_q8_0_decode(const uint8_t *blocks, size_t block_count, float *values)
{
    for (size_t i = 0; i < block_count; i++) {
        const uint8_t *block = blocks + BLOCK_BYTES * i;
        uint16_t d_bits;
        memcpy(&d_bits, block, sizeof d_bits);
        float d = f32_from_f16(d_bits);
        for (int j = 0; j < COLS; j++)
            values[COLS * i + (size_t)j] = d * (float)(int8_t)block[2 + j];
    }
}
