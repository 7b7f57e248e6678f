#include "quant/quant.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "quant/formats.h"
#include "quant/halffloat.h"
#include "quant/lanes.h"
#include "runtime/base/check.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "blocks are copied as they lie in files: little-endian");

// value_max: the scales of q8_0 reach 127 * 65504, minima of q4_k and q5_k 63 * 65504, values of q6_k 120 * 31 * 65504.
// nrmse: measured on Gaussian rows (0.0047, 0.0696, 0.0342, 0.0167), rounded up.
static const struct quant_format formats[QUANT_TYPE_COUNT] = {
    [QUANT_F32] = {.name = "f32",
                   .block_cols = 1,
                   .block_bytes = 4,
                   .gguf_type = 0,
                   .is_float = true,
                   .value_max = FLT_MAX,
                   .nrmse = 0.0f,
                   .encode = format_f32_encode,
                   .decode = format_f32_decode},
    [QUANT_F16] = {.name = "f16",
                   .block_cols = 1,
                   .block_bytes = 2,
                   .gguf_type = 1,
                   .is_float = true,
                   .value_max = 65504.0f,
                   .nrmse = 0.0003f,
                   .encode = format_f16_encode,
                   .decode = format_f16_decode},
    [QUANT_BF16] = {.name = "bf16",
                    .block_cols = 1,
                    .block_bytes = 2,
                    .gguf_type = 30,
                    .is_float = true,
                    .value_max = 0x1.FEp127f,
                    .nrmse = 0.0020f,
                    .encode = format_bf16_encode,
                    .decode = format_bf16_decode},
    [QUANT_Q8_0] = {.name = "q8_0",
                    .block_cols = 32,
                    .block_bytes = 34,
                    .gguf_type = 8,
                    .value_max = 127.0f * 65504.0f,
                    .nrmse = 0.0049f,
                    .encode = format_q8_0_encode,
                    .decode = format_q8_0_decode},
    [QUANT_Q4_K] = {.name = "q4_k",
                    .block_cols = 256,
                    .block_bytes = 144,
                    .gguf_type = 12,
                    .value_max = 63.0f * 65504.0f,
                    .nrmse = 0.0705f,
                    .encode = format_q4_k_encode,
                    .decode = format_q4_k_decode},
    [QUANT_Q5_K] = {.name = "q5_k",
                    .block_cols = 256,
                    .block_bytes = 176,
                    .gguf_type = 13,
                    .value_max = 63.0f * 65504.0f,
                    .nrmse = 0.0348f,
                    .encode = format_q5_k_encode,
                    .decode = format_q5_k_decode},
    [QUANT_Q6_K] = {.name = "q6_k",
                    .block_cols = 256,
                    .block_bytes = 210,
                    .gguf_type = 14,
                    .value_max = 120.0f * 31.0f * 65504.0f,
                    .nrmse = 0.0171f,
                    .encode = format_q6_k_encode,
                    .decode = format_q6_k_decode},
};

const struct quant_format *quant_format_get(enum quant_type type)
{
    return (unsigned)type < QUANT_TYPE_COUNT ? &formats[type] : NULL;
}

enum sluice_status quant_type_from_name(const char *text, enum quant_type *type)
{
    char names[128] = "";
    size_t used = 0;
    for (int i = 0; i < QUANT_TYPE_COUNT; i++) {
        if (strcmp(text, formats[i].name) == 0) {
            *type = (enum quant_type)i;
            return SLUICE_OK;
        }
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", formats[i].name);
    }
    return error_set(SLUICE_ERR_ARGUMENT, "'%s' is no number format; use one of %s", text, names);
}

uint64_t quant_row_bytes(enum quant_type type, uint64_t cols)
{
    const struct quant_format *format = quant_format_get(type);
    uint64_t bytes;
    if (!format || cols % format->block_cols != 0 ||
        __builtin_mul_overflow(cols / format->block_cols, (uint64_t)format->block_bytes, &bytes))
        return 0;
    return bytes;
}

// Whether all |values| <= limit; NaN is not. Bits of magnitudes compare like numbers, with infinities and NaN on top.
static bool all_within(const float *values, size_t cols, float limit)
{
    const int32_t limit_bits = (int32_t)f32_bits(limit);
    const lanes_mask magnitude = lanes_mask_set(0x7FFFFFFF), largest = lanes_mask_set(limit_bits);
    lanes_mask beyond = {0};
    size_t i = 0;
    for (; i + LANES <= cols; i += LANES) {
        lanes_mask bits;
        memcpy(&bits, values + i, sizeof bits);
        beyond |= (bits & magnitude) > largest;
    }
    bool good = !(beyond[0] | beyond[1] | beyond[2] | beyond[3]);
    for (; i < cols; i++)
        good &= fabsf(values[i]) <= limit;
    return good;
}

static enum sluice_status values_check(const struct quant_format *format, const float *values, size_t cols)
{
    if (all_within(values, cols, format->value_max))
        return SLUICE_OK;
    size_t i = 0;
    while (fabsf(values[i]) <= format->value_max)
        i++;
    if (!isfinite(values[i]))
        return error_set(SLUICE_ERR_FORMAT, "element %zu of the row is %g: weights must be finite numbers", i,
                         (double)values[i]);
    return error_set(SLUICE_ERR_FORMAT,
                     "element %zu of the row is %g: %s holds magnitudes up to %g only; use f32 or bf16", i,
                     (double)values[i], format->name, (double)format->value_max);
}

static enum sluice_status importance_check(const float *importance, size_t cols)
{
    for (size_t i = 0; importance && i < cols; i++)
        if (!(importance[i] >= 0 && importance[i] <= FLT_MAX))
            return error_set(SLUICE_ERR_ARGUMENT, "importance of column %zu is %g: it must be finite and not negative",
                             i, (double)importance[i]);
    return SLUICE_OK;
}

enum sluice_status quant_encode_row(enum quant_type type, const float *values, const float *importance, size_t cols,
                                    void *blocks)
{
    const struct quant_format *format = quant_format_get(type);
    CHECK(format && values && blocks);
    if (quant_row_bytes(type, cols) == 0)
        return error_set(SLUICE_ERR_ARGUMENT, "rows of %zu columns cannot be %s: it takes multiples of %u", cols,
                         format->name, format->block_cols);
    enum sluice_status status = values_check(format, values, cols);
    if (status == SLUICE_OK)
        status = importance_check(importance, cols);
    if (status == SLUICE_OK)
        format->encode(values, importance, cols / format->block_cols, blocks);
    return status;
}

void quant_decode_row(enum quant_type type, const void *blocks, size_t cols, float *values)
{
    const struct quant_format *format = quant_format_get(type);
    CHECK(format && cols % format->block_cols == 0);
    format->decode(blocks, cols / format->block_cols, values);
}
