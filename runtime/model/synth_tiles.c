#include "runtime/model/synth_tiles.h"

#include <math.h>
#include <string.h>

#include "quant/halffloat.h"
#include "quant/kscale.h"
#include "quant/tile.h"
#include "runtime/base/check.h"
#include "runtime/base/random.h"

_Static_assert((int)SYNTH_TILES_HEADER_BYTES == (int)KSCALE_HEADER_BYTES, "one header");
_Static_assert((int)KSCALE_HEADER_BYTES == (int)QUANT_PIECE_ROW_BYTES, "the header is a piece");

// --- random numbers -------------------------------------------------------------------------------------------------

static void fill_words(uint64_t state, uint64_t first, uint64_t count, uint8_t *out)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t word = random_at(state, first + i);
        memcpy(out + i * sizeof word, &word, sizeof word);
    }
}

// Number i of 0..1, for the sets of scales.
static double unit(uint64_t i)
{
    return (double)(random_at(0, i) >> 11) * 0x1p-53;
}

// --- scales ---------------------------------------------------------------------------------------------------------

// q is uniform in 0..levels. With mn = sc and dmin = d * levels / 2 the weights are symmetric about 0.
static void make_headers(struct synth_tiles *s, double deviation, int levels)
{
    struct kscale_header headers[SYNTH_TILES_SCALES];
    double square_sum = 0;
    for (unsigned i = 0; i < SYNTH_TILES_SCALES; i++)
        for (unsigned j = 0; j < KSCALE_SUB_BLOCKS; j++) {
            uint8_t sc = (uint8_t)(32 + 32 * unit(KSCALE_SUB_BLOCKS * i + j));
            headers[i].sc[j] = headers[i].mn[j] = sc;
            square_sum += (double)sc * sc;
        }
    double sc_rms = sqrt(square_sum / (SYNTH_TILES_SCALES * KSCALE_SUB_BLOCKS));
    double q_deviation = sqrt((pow(levels + 1, 2) - 1) / 12);
    float d = (float)(deviation / (sc_rms * q_deviation));
    for (unsigned i = 0; i < SYNTH_TILES_SCALES; i++) {
        headers[i].d = f16_from_f32(d);
        headers[i].dmin = f16_from_f32(f32_from_f16(headers[i].d) * (float)levels / 2);
        kscale_header_store(&headers[i], s->headers[i]);
    }
}

// d around a mean such that weights q * d, the q of root mean square q_rms, have the deviation.
static void make_scales(struct synth_tiles *s, double deviation, double q_rms)
{
    double factors[SYNTH_TILES_SCALES], square_sum = 0;
    for (unsigned i = 0; i < SYNTH_TILES_SCALES; i++) {
        factors[i] = 0.5 + unit(i);
        square_sum += factors[i] * factors[i];
    }
    for (unsigned i = 0; i < SYNTH_TILES_SCALES; i++)
        s->scales[i] = f16_from_f32((float)(deviation / q_rms * factors[i] / sqrt(square_sum / SYNTH_TILES_SCALES)));
}

void synth_tiles_init(struct synth_tiles *s, enum quant_type type, double deviation)
{
    CHECK(quant_format_get(type) && deviation >= 1e-3 && deviation <= 1e3);
    *s = (struct synth_tiles){.type = type, .magnitude = (float)(sqrt(3.0) * deviation)};
    if (type == QUANT_Q4_K || type == QUANT_Q5_K)
        make_headers(s, deviation, type == QUANT_Q4_K ? 15 : 31);
    else if (type == QUANT_Q8_0)
        make_scales(s, deviation, sqrt((128.0 * 128 - 1) / 3)); // odd numbers within +-127
    else if (type == QUANT_Q6_K)
        make_scales(s, deviation, sqrt((256.0 * 256 + 2) / 12 * ((64.0 * 64 + 2) / 12))); // all i8 times -32..31
}

// --- what is put over the random bytes ------------------------------------------------------------------------------

static void put_headers(const struct synth_tiles *s, uint8_t *piece)
{
    for (uint32_t row = 0; row < QUANT_TILE_ROWS; row++, piece += QUANT_PIECE_ROW_BYTES)
        memcpy(piece, s->headers[*piece % SYNTH_TILES_SCALES], SYNTH_TILES_HEADER_BYTES);
}

static void put_scales(const struct synth_tiles *s, uint8_t *at)
{
    for (uint32_t row = 0; row < QUANT_TILE_ROWS; row++, at += sizeof *s->scales)
        memcpy(at, &s->scales[*at % SYNTH_TILES_SCALES], sizeof *s->scales);
}

// Odd numbers: their mean is 0, and -128, which no encoder makes, is not among them.
static void make_odd(uint8_t *bytes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        bytes[i] |= 1;
}

// Random i16 numbers become values within +-magnitude. f32 ones lose their low half: 16 bits of noise are enough.
static void put_floats(const struct synth_tiles *s, uint8_t *step, uint32_t bytes)
{
    uint32_t width = quant_format_get(s->type)->block_bytes;
    for (uint32_t at = 0; at < bytes; at += width) {
        int16_t number;
        memcpy(&number, step + at, sizeof number);
        float value = ((float)number + 0.5f) / 32768 * s->magnitude;
        uint16_t half = s->type == QUANT_F16 ? f16_from_f32(value) : bf16_from_f32(value);
        memcpy(step + at, s->type == QUANT_F32 ? (const void *)&value : &half, width);
    }
}

static void put_over(const struct synth_tiles *s, uint8_t *step)
{
    switch (s->type) {
    case QUANT_Q4_K:
    case QUANT_Q5_K:
        put_headers(s, step); // the first piece of both
        break;
    case QUANT_Q6_K:
        put_scales(s, step + QUANT_Q6_K_SCALES_OFFSET);
        break;
    case QUANT_Q8_0:
        make_odd(step, QUANT_Q8_0_SCALES_OFFSET);
        put_scales(s, step + QUANT_Q8_0_SCALES_OFFSET);
        break;
    case QUANT_F32:
    case QUANT_F16:
    case QUANT_BF16:
    case QUANT_TYPE_COUNT:
        put_floats(s, step, quant_tile_step_bytes(s->type));
        break;
    }
}

static void clear_rows(uint8_t *step, uint32_t step_bytes, uint32_t first)
{
    uint32_t pieces = step_bytes / QUANT_PIECE_BYTES;
    for (uint32_t piece = 0; piece < pieces; piece++)
        memset(step + QUANT_PIECE_BYTES * piece + QUANT_PIECE_ROW_BYTES * first, 0,
               QUANT_PIECE_ROW_BYTES * (QUANT_TILE_ROWS - first));
    if (step_bytes % QUANT_PIECE_BYTES) // the scales behind the pieces
        memset(step + QUANT_PIECE_BYTES * pieces + 2 * first, 0, 2 * (QUANT_TILE_ROWS - first));
}

void synth_tiles_fill(const struct synth_tiles *s, uint64_t state, uint64_t rows, uint64_t cols, uint64_t tile,
                      uint8_t *tile_bytes)
{
    uint64_t bytes = quant_tile_bytes(s->type, QUANT_TILE_ROWS, cols);
    uint32_t step_bytes = quant_tile_step_bytes(s->type);
    CHECK(bytes > 0 && cols % quant_tile_step_cols(s->type) == 0 && tile * QUANT_TILE_ROWS < rows);
    CHECK(step_bytes % sizeof(uint64_t) == 0);
    uint64_t left = rows - tile * QUANT_TILE_ROWS;
    for (uint64_t at = 0; at < bytes; at += step_bytes) {
        uint8_t *step = tile_bytes + at;
        fill_words(state, (tile * bytes + at) / sizeof(uint64_t), step_bytes / sizeof(uint64_t), step);
        put_over(s, step);
        if (left < QUANT_TILE_ROWS)
            clear_rows(step, step_bytes, (uint32_t)left);
    }
}
