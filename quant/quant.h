// Number formats of weights: sizes, encoder, decoder and a scalar reference product.
//
// A row of `cols` weights is stored as cols / block_cols blocks of block_bytes each, one after the other. The block
// formats have GGUF's byte layouts (little-endian, bit-equal to ggml), so that k-quants can be taken over unchanged:
//
//   q8_0  32 values   f16 d | i8 q[32]                                                  value = d * q
//   q4_k  256 values  f16 d | f16 dmin | scales[12] | qs[128]               value = (d * sc) * q - dmin * mn,  q 0..15
//   q5_k  256 values  f16 d | f16 dmin | scales[12] | qh[32] | qs[128]      value = (d * sc) * q - dmin * mn,  q 0..31
//   q6_k  256 values  ql[128] | qh[64] | i8 sc[16] | f16 d                  value = (d * sc) * q,           q -32..31
//
// Decoding does its f32 arithmetic in the order written above, so the same blocks give the same bits everywhere.
// How a kernel reads these blocks is the business of quant/tile.h.
//
// Threads: every function is pure; any number of threads may call them.
#ifndef SLUICE_QUANT_QUANT_H
#define SLUICE_QUANT_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

// The numbers are stored in files: they never change, new formats are appended.
enum quant_type {
    QUANT_F32 = 0,
    QUANT_F16 = 1,
    QUANT_BF16 = 2,
    QUANT_Q8_0 = 3,
    QUANT_Q4_K = 4,
    QUANT_Q5_K = 5,
    QUANT_Q6_K = 6,
    QUANT_TYPE_COUNT
};

struct quant_format {
    const char *name;     // "f32", "f16", "bf16", "q8_0", "q4_k", "q5_k", "q6_k"
    uint32_t block_cols;  // values per block: 1, 32 or 256
    uint32_t block_bytes; // bytes per block
    uint32_t gguf_type;   // the format's id in GGUF files
    bool is_float;        // one value per block, no scales
    float value_max;      // the encoder refuses values of larger magnitude, because the scales could not hold them
    float nrmse;          // what encoding Gaussian rows costs: root mean square error / root mean square, at most

    // `block_count` whole blocks. `importance` may be NULL; values are finite and at most value_max in magnitude.
    void (*encode)(const float *values, const float *importance, size_t block_count, uint8_t *blocks);
    void (*decode)(const uint8_t *blocks, size_t block_count, float *values);
};

enum { QUANT_BLOCK_COLS_MAX = 256 };

// The table row of `type`; NULL if `type` is no format (a number from a file).
const struct quant_format *quant_format_get(enum quant_type type);

// Looks up "q4_k" and the like, exactly as spelled in the table. Errors: SLUICE_ERR_ARGUMENT, the message lists the
// names there are.
enum sluice_status quant_type_from_name(const char *text, enum quant_type *type);

// Bytes of one row. 0 if cols is 0, no multiple of block_cols, or so large that the product overflows.
uint64_t quant_row_bytes(enum quant_type type, uint64_t cols);

// Encodes values[cols] into blocks[quant_row_bytes(type, cols)].
//   importance  NULL, or cols non-negative weights of the squared errors (such as mean squared activations); a block
//               whose weights are all zero is encoded as if there were none. The float formats and q8_0 ignore it.
// The block formats search for the scales (and minima) of least weighted squared error; the result depends on the
// block's own values only and is the same on every machine.
// Errors: SLUICE_ERR_ARGUMENT (shape, importance negative or not finite), SLUICE_ERR_FORMAT (a value is NaN, infinite
// or larger than value_max: the message says which element). `blocks` is then undefined.
enum sluice_status quant_encode_row(enum quant_type type, const float *values, const float *importance, size_t cols,
                                    void *blocks);

// values[cols] = the weights in `blocks`. Any bytes decode to something: NaN and Inf scales give NaN and Inf values.
// cols is a multiple of block_cols (checked).
void quant_decode_row(enum quant_type type, const void *blocks, size_t cols, float *values);

#endif
