// q4_k: 256 values in 144 bytes: the header of quant/kscale.h, then qs[128]. value = (d * sc) * q - dmin * mn, q 0..15.
//
// Sub-block j = 2c + h (c 0..3, h 0..1) has its 32 q in nibble h (0 low, 1 high) of qs[32 c .. 32 c + 31].
#include "quant/formats.h"
#include "quant/halffloat.h"
#include "quant/kscale.h"

enum { BLOCK_BYTES = 144, CHUNKS = 4, CHUNK_BYTES = 32 };

static void block_encode(const float *values, const float *importance, uint8_t *block)
{
    struct kscale_header header;
    uint8_t q[KSCALE_COLS];
    kscale_fit(values, importance, 15, &header, q);
    kscale_header_store(&header, block);
    uint8_t *qs = block + KSCALE_HEADER_BYTES;
    for (int c = 0; c < CHUNKS; c++)
        for (int l = 0; l < CHUNK_BYTES; l++)
            qs[CHUNK_BYTES * c + l] = (uint8_t)(q[64 * c + l] | q[64 * c + 32 + l] << 4);
}

void format_q4_k_encode(const float *values, const float *importance, size_t block_count, uint8_t *blocks)
{
    for (size_t i = 0; i < block_count; i++)
        block_encode(values + KSCALE_COLS * i, importance ? importance + KSCALE_COLS * i : NULL,
                     blocks + BLOCK_BYTES * i);
}

static void block_decode(const uint8_t *block, float *values)
{
    struct kscale_header header;
    kscale_header_load(block, &header);
    float d = f32_from_f16(header.d), dmin = f32_from_f16(header.dmin);
    const uint8_t *qs = block + KSCALE_HEADER_BYTES;
    for (int j = 0; j < KSCALE_SUB_BLOCKS; j++) {
        float scale = d * (float)header.sc[j], minimum = dmin * (float)header.mn[j];
        for (int l = 0; l < KSCALE_SUB_COLS; l++) {
            int q = qs[CHUNK_BYTES * (j / 2) + l] >> 4 * (j % 2) & 15;
            values[KSCALE_SUB_COLS * j + l] = scale * (float)q - minimum;
        }
    }
}

void format_q4_k_decode(const uint8_t *blocks, size_t block_count, float *values)
{
    for (size_t i = 0; i < block_count; i++)
        block_decode(blocks + BLOCK_BYTES * i, values + KSCALE_COLS * i);
}
