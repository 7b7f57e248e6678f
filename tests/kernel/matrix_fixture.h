// What the tests of the matrix operations share, on top of mixer_fixture.h: packed weights of every format and kind,
// activations in both forms, and comparison with the reference.
#ifndef SLUICE_TESTS_MATRIX_FIXTURE_H
#define SLUICE_TESTS_MATRIX_FIXTURE_H

#include "runtime/ops/ops.h"
#include "tests/kernel/mixer_fixture.h"
#include "tests/ref/ref_matrix.h"

enum { MATRIX_PARTS_MAX = 4 };

// How the blocks of a matrix are filled. The integers of quantised blocks are random bits except in WEIGHTS_MAX.
enum weight_kind {
    WEIGHTS_RANDOM,        // scales of ordinary size
    WEIGHTS_MAX,           // all bits of the integers are set
    WEIGHTS_ZERO,          // scales 0
    WEIGHTS_NEGATIVE_ZERO, // scales -0
    WEIGHTS_TINY,          // subnormal f16 scales
    WEIGHTS_HUGE,          // the largest f16 scales
    WEIGHT_KIND_COUNT
};

// A packed matrix on the device in one part, and in parts of the given rows (the last takes the rest).
struct matrix {
    struct tensor tensor;
    struct tensor_part parts[MATRIX_PARTS_MAX];
    uint8_t *tiles; // the whole of it on the host; freed by matrix_free
};
void matrix_make(struct matrix *m, uint64_t *seed, enum quant_type type, enum weight_kind kind, size_t rows,
                 size_t cols);
void matrix_split(struct matrix *m, const uint32_t *part_rows, uint32_t part_count);
void matrix_free(struct matrix *m);

// Checks the canaries and frees all buffers: for tests that go through many shapes.
void buffers_release(void);

// A buffer with the given bytes.
struct gpu_range buffer_bytes(const void *bytes, size_t size);

// n rows of random values in [-1, 1), with one value of `outlier` in each 32; with room for the 8-bit form if `q8`.
struct activations activations_make(uint64_t *seed, uint32_t n, uint32_t cols, float outlier, bool q8);
// The values a kernel for `type` sees: the 8-bit form, where it is used, else f32. Free it.
double *activations_seen(const struct activations *x, enum quant_type type);
// Rounds to 8 bits on the device, where the form is present.
void activations_quantize(const struct activations *x);

// Fails unless got is within 1e-5 of the sum's magnitude (on matrix cores 1e-3).
void assert_sum(const char *what, enum quant_type type, size_t row, size_t column, float got, struct ref_sum want);

// y[n, rows] of one multiplication.
struct gpu_range matmul_run(struct ops *ops, const struct tensor *w, const struct activations *x);

#endif
