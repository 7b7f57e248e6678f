// f32, f16 and bf16: one value per block, nothing to search.
#include <string.h>

#include "quant/formats.h"
#include "quant/halffloat.h"

void format_f32_encode(const float *values, const float *importance, size_t block_count, uint8_t *blocks)
{
    (void)importance;
    memcpy(blocks, values, block_count * sizeof *values);
}

void format_f32_decode(const uint8_t *blocks, size_t block_count, float *values)
{
    memcpy(values, blocks, block_count * sizeof *values);
}

void format_f16_encode(const float *values, const float *importance, size_t block_count, uint8_t *blocks)
{
    (void)importance;
    for (size_t i = 0; i < block_count; i++) {
        uint16_t bits = f16_from_f32(values[i]);
        memcpy(blocks + sizeof bits * i, &bits, sizeof bits);
    }
}

void format_f16_decode(const uint8_t *blocks, size_t block_count, float *values)
{
    for (size_t i = 0; i < block_count; i++) {
        uint16_t bits;
        memcpy(&bits, blocks + sizeof bits * i, sizeof bits);
        values[i] = f32_from_f16(bits);
    }
}

void format_bf16_encode(const float *values, const float *importance, size_t block_count, uint8_t *blocks)
{
    (void)importance;
    for (size_t i = 0; i < block_count; i++) {
        uint16_t bits = bf16_from_f32(values[i]);
        memcpy(blocks + sizeof bits * i, &bits, sizeof bits);
    }
}

void format_bf16_decode(const uint8_t *blocks, size_t block_count, float *values)
{
    for (size_t i = 0; i < block_count; i++) {
        uint16_t bits;
        memcpy(&bits, blocks + sizeof bits * i, sizeof bits);
        values[i] = f32_from_bf16(bits);
    }
}
