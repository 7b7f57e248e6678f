// References of the matrix operations: products of decoded weights, in double precision, column after column.
#ifndef SLUICE_TESTS_REF_MATRIX_H
#define SLUICE_TESTS_REF_MATRIX_H

#include <stddef.h>
#include <stdint.h>

#include "quant/quant.h"

// A sum and the sum of its terms' magnitudes: rounding errors are in proportion to the latter.
struct ref_sum {
    double value, magnitude;
};

// The product of one row of a packed matrix (quant/tile.h) with x[cols].
struct ref_sum ref_row_dot(enum quant_type type, const void *tiles, size_t rows, size_t cols, size_t row,
                           const double *x);

// silu(gate) * up, with the error that errors of gate and up of `relative` times their magnitudes can make.
struct ref_sum ref_swiglu(struct ref_sum gate, struct ref_sum up);

// x[cols] in 8 bits: per block of 32 columns the step d = max|x| / 127 and q = x / d rounded to nearest, ties to even.
// scales[cols / 32][2] = d, d * sum of q.
void ref_quantize_q8(const float *x, size_t cols, int8_t *q, double *scales);

#endif
