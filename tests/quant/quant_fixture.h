// What the tests of this folder share: fixed random numbers, the block vectors of ggml, temporary directories.
#ifndef SLUICE_TEST_QUANT_FIXTURE_H
#define SLUICE_TEST_QUANT_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant/quant.h"
#include "quant/safetensors.h"
#include "runtime/base/random.h"

#define VECTORS_PATH TEST_DATA "/quant/block-vectors.safetensors"

static inline double random_uniform(uint64_t *state)
{
    return ((double)(random_next(state) >> 11) + 0.5) * 0x1p-53;
}

static inline float random_gauss(uint64_t *state)
{
    double radius = sqrt(-2.0 * log(random_uniform(state)));
    return (float)(radius * cos(6.283185307179586 * random_uniform(state)));
}

static inline void random_bytes(uint64_t *state, void *out, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        ((uint8_t *)out)[i] = (uint8_t)random_next(state);
}

// sqrt(sum (a - b)^2 / sum a^2)
static inline double nrmse(const float *a, const float *b, size_t count)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)a[i] * (double)a[i];
    }
    return norm > 0 ? sqrt(error / norm) : sqrt(error);
}

// The whole tensor "TYPE.what" (or "what" if type is NULL) of the block vectors; freed by the caller.
static inline void *vectors_read(const char *type, const char *what)
{
    struct safetensors *st;
    const struct safetensors_tensor *tensor;
    char name[64];
    snprintf(name, sizeof name, "%s%s%s", type ? type : "", type ? "." : "", what);
    assert_int_equal(safetensors_open(VECTORS_PATH, &st), SLUICE_OK);
    assert_int_equal(safetensors_require(st, name, &tensor), SLUICE_OK);
    void *data = malloc(tensor->bytes);
    assert_non_null(data);
    assert_int_equal(safetensors_read(st, tensor, 0, tensor->elements, data), SLUICE_OK);
    safetensors_close(st);
    return data;
}

static inline const char *format_name(int type)
{
    return quant_format_get((enum quant_type)type)->name;
}

#endif
