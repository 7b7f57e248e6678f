// The encoders and decoders behind the table of quant/quant.h, one file per format. Internal to the quant folder.
//
// All take whole blocks; the encoders' values are finite and within the format's value_max, importance may be NULL.
#ifndef SLUICE_QUANT_FORMATS_H
#define SLUICE_QUANT_FORMATS_H

#include <stddef.h>
#include <stdint.h>

void format_f32_encode(const float *values, const float *importance, size_t block_count, uint8_t *blocks);
void format_f32_decode(const uint8_t *blocks, size_t block_count, float *values);
void format_f16_encode(const float *values, const float *importance, size_t block_count, uint8_t *blocks);
void format_f16_decode(const uint8_t *blocks, size_t block_count, float *values);
void format_bf16_encode(const float *values, const float *importance, size_t block_count, uint8_t *blocks);
void format_bf16_decode(const uint8_t *blocks, size_t block_count, float *values);
void format_q8_0_encode(const float *values, const float *importance, size_t block_count, uint8_t *blocks);
void format_q8_0_decode(const uint8_t *blocks, size_t block_count, float *values);
void format_q4_k_encode(const float *values, const float *importance, size_t block_count, uint8_t *blocks);
void format_q4_k_decode(const uint8_t *blocks, size_t block_count, float *values);
void format_q5_k_encode(const float *values, const float *importance, size_t block_count, uint8_t *blocks);
void format_q5_k_decode(const uint8_t *blocks, size_t block_count, float *values);
void format_q6_k_encode(const float *values, const float *importance, size_t block_count, uint8_t *blocks);
void format_q6_k_decode(const uint8_t *blocks, size_t block_count, float *values);

#endif
