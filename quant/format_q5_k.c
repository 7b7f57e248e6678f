// q5_k: 256 values in 176 bytes: the header of quant/kscale.h, then qh[32], qs[128].
// value = (d * sc) * q - dmin * mn, q 0..31.
//
// The low four bits of q lie as in q4_k; the fifth bit of value l of sub-block j is bit j of qh[l].
#include <string.h>

#include "quant/formats.h"
#include "quant/halffloat.h"
#include "quant/kscale.h"

enum { BLOCK_BYTES = 176, QH_OFFSET = KSCALE_HEADER_BYTES, QH_BYTES = 32, QS_OFFSET = QH_OFFSET + QH_BYTES };

static void block_encode(const float *values, const float *importance, uint8_t *block)
{
    struct kscale_header header;
    uint8_t q[KSCALE_COLS];
    kscale_fit(values, importance, 31, &header, q);
    memset(block, 0, BLOCK_BYTES);
    kscale_header_store(&header, block);
    for (int j = 0; j < KSCALE_SUB_BLOCKS; j++) {
        for (int l = 0; l < KSCALE_SUB_COLS; l++) {
            int value = q[KSCALE_SUB_COLS * j + l];
            block[QH_OFFSET + l] |= (uint8_t)((value >> 4) << j);
            block[QS_OFFSET + 32 * (j / 2) + l] |= (uint8_t)((value & 15) << 4 * (j % 2));
        }
    }
}

void format_q5_k_encode(const float *values, const float *importance, size_t block_count, uint8_t *blocks)
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
    for (int j = 0; j < KSCALE_SUB_BLOCKS; j++) {
        float scale = d * (float)header.sc[j], minimum = dmin * (float)header.mn[j];
        for (int l = 0; l < KSCALE_SUB_COLS; l++) {
            int low = block[QS_OFFSET + 32 * (j / 2) + l] >> 4 * (j % 2) & 15;
            int high = block[QH_OFFSET + l] >> j & 1;
            values[KSCALE_SUB_COLS * j + l] = scale * (float)(low | high << 4) - minimum;
        }
    }
}

void format_q5_k_decode(const uint8_t *blocks, size_t block_count, float *values)
{
    for (size_t i = 0; i < block_count; i++)
        block_decode(blocks + BLOCK_BYTES * i, values + KSCALE_COLS * i);
}
