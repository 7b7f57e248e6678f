// The part that q4_k and q5_k share: eight sub-blocks of 32 values, each with a 6-bit scale and a 6-bit minimum that
// multiply the block's two f16 numbers d and dmin: value = (d * sc) * q - dmin * mn.
//
// The first 16 bytes of a block: f16 d, f16 dmin, scales[12]. In scales, bytes 0..3 hold the low six bits of sc0..3,
// bytes 4..7 of mn0..3, bytes 8..11 the low nibbles of sc4..7 and mn4..7; the two high bits of bytes 0..7 complete
// these.
#ifndef SLUICE_QUANT_KSCALE_H
#define SLUICE_QUANT_KSCALE_H

#include <stdint.h>

enum { KSCALE_SUB_BLOCKS = 8, KSCALE_SUB_COLS = 32, KSCALE_COLS = 256, KSCALE_HEADER_BYTES = 16 };

struct kscale_header {
    uint16_t d, dmin;                                     // f16 bits
    uint8_t sc[KSCALE_SUB_BLOCKS], mn[KSCALE_SUB_BLOCKS]; // 0..63
};

void kscale_header_store(const struct kscale_header *header, uint8_t bytes[KSCALE_HEADER_BYTES]);
void kscale_header_load(const uint8_t bytes[KSCALE_HEADER_BYTES], struct kscale_header *header);

// Finds the header and q[256] (0..levels; levels is 15 or 31) of small squared error of values[256], weighted by
// importance[256] (NULL: all weights 1).
//
// Method: each sub-block starts from several clippings of its range; rounding and weighted least squares for (scale,
// minimum) alternate, and the best is kept. Then d and dmin are chosen to reach the largest scale and minimum, every
// (sc, mn) descends on its integer grid by the true error, d and dmin are refitted to all sub-blocks at once, and this
// repeats while it helps.
void kscale_fit(const float *values, const float *importance, int levels, struct kscale_header *header, uint8_t *q);

#endif
