#include "runtime/model/convert_source.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/checkpoint.h"
#include "runtime/base/check.h"
#include "runtime/base/integer.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

// --- finding --------------------------------------------------------------------------------------------------------

static void shape_print(char *out, size_t bytes, uint32_t rank, const uint64_t *shape)
{
    size_t used = (size_t)snprintf(out, bytes, "[");
    for (uint32_t i = 0; i < rank && used < bytes; i++)
        used += (size_t)snprintf(out + used, bytes - used, "%s%" PRIu64, i ? ", " : "", shape[i]);
    if (used < bytes)
        snprintf(out + used, bytes - used, "]");
}

static enum sluice_status check_shape(const struct safetensors_tensor *tensor, uint32_t rank, const uint64_t *shape)
{
    char expected[128], found[256];
    if (tensor->rank == rank && memcmp(tensor->shape, shape, rank * sizeof *shape) == 0)
        return SLUICE_OK;
    shape_print(expected, sizeof expected, rank, shape);
    shape_print(found, sizeof found, tensor->rank, tensor->shape);
    return error_set(SLUICE_ERR_FORMAT,
                     "tensor %s has shape %s, but config.json calls for %s: the weights belong to another model",
                     tensor->name, found, expected);
}

static enum sluice_status find_scale(const struct convert_source *source, struct convert_matrix *matrix)
{
    char name[MODEL_NAME_BYTES + 16];
    snprintf(name, sizeof name, "%s_scale_inv", matrix->tensor->name);
    matrix->scale = safetensors_find(source->checkpoint, name);
    if (!matrix->scale || source->fp8_block_rows == 0 || matrix->tensor->rank != 2)
        return error_set(SLUICE_ERR_UNSUPPORTED,
                         "tensor %s is F8_E4M3, which needs the scales %s and weight_block_size in config.json's "
                         "quantization_config",
                         matrix->tensor->name, name);
    uint64_t shape[2] = {u64_divide_up(matrix->rows, source->fp8_block_rows),
                         u64_divide_up(matrix->cols, source->fp8_block_cols)};
    return check_shape(matrix->scale, 2, shape);
}

static enum sluice_status check_dtype(const struct convert_source *source, struct convert_matrix *matrix)
{
    switch (matrix->tensor->dtype) {
    case SAFETENSORS_BF16:
    case SAFETENSORS_F16:
    case SAFETENSORS_F32:
        return SLUICE_OK;
    case SAFETENSORS_F8_E4M3:
        return find_scale(source, matrix);
    default:
        return error_set(SLUICE_ERR_UNSUPPORTED, "tensor %s has type %s; supported are BF16, F16, F32 and F8_E4M3",
                         matrix->tensor->name, safetensors_dtype_name(matrix->tensor->dtype));
    }
}

static enum sluice_status find_plain(const struct convert_source *source, const struct model_source *wanted,
                                     struct convert_matrix *matrix)
{
    enum sluice_status status;
    matrix->rows = wanted->rank == 1 ? 1 : wanted->shape[0];
    matrix->cols = wanted->shape[wanted->rank - 1];
    TRY(safetensors_require(source->checkpoint, wanted->name, &matrix->tensor));
    TRY(check_shape(matrix->tensor, wanted->rank, wanted->shape));
    TRY(check_dtype(source, matrix));
fail:
    return status;
}

// experts.gate_up_proj [experts, 2 * inter, hidden] (gate rows, then up rows), experts.down_proj
// [experts, hidden, inter].
static enum sluice_status find_fused(const struct convert_source *source, const struct model_config *config,
                                     uint32_t expert, enum model_expert_part part, struct convert_matrix *matrix)
{
    uint64_t inter = config->expert_intermediate, hidden = config->hidden_size;
    bool down = part == MODEL_EXPERT_DOWN;
    uint64_t shape[3] = {config->experts, down ? hidden : 2 * inter, down ? inter : hidden};
    matrix->rows = down ? hidden : inter;
    matrix->cols = shape[2];
    matrix->first_row = expert * shape[1] + (part == MODEL_EXPERT_UP ? inter : 0);
    enum sluice_status status = check_shape(matrix->tensor, 3, shape);
    return status == SLUICE_OK ? check_dtype(source, matrix) : status;
}

static enum sluice_status find_expert(const struct convert_source *source, const struct model_layout *layout,
                                      uint32_t layer, uint32_t expert, enum model_expert_part part,
                                      struct convert_matrix *matrix)
{
    struct model_source wanted;
    char fused[MODEL_NAME_BYTES];
    model_expert_source(layout, layer, expert, part, &wanted);
    if (!safetensors_find(source->checkpoint, wanted.name)) {
        snprintf(fused, sizeof fused, "model.layers.%u.mlp.experts.%s", layer,
                 part == MODEL_EXPERT_DOWN ? "down_proj" : "gate_up_proj");
        matrix->tensor = safetensors_find(source->checkpoint, fused);
        if (matrix->tensor)
            return find_fused(source, &layout->config, expert, part, matrix);
    }
    return find_plain(source, &wanted, matrix);
}

static enum sluice_status find_all(struct convert_source *source, const struct model_layout *layout)
{
    struct convert_matrix *matrix = source->matrices;
    enum sluice_status status;
    for (size_t i = 0; i < layout->tensor_count; i++)
        for (uint32_t j = 0; j < layout->tensors[i].source_count; j++)
            TRY(find_plain(source, &layout->tensors[i].sources[j], matrix++));
    for (uint32_t i = 0; i < layout->config.layer_count; i++)
        for (uint32_t e = 0; layout->config.layers[i].moe && e < layout->config.experts; e++)
            for (enum model_expert_part part = 0; part < MODEL_EXPERT_PART_COUNT; part++)
                TRY(find_expert(source, layout, i, e, part, matrix++));
    CHECK(matrix == source->matrices + layout->source_count);
    return SLUICE_OK;
fail:
    return status;
}

// --- what is left over ----------------------------------------------------------------------------------------------

static int compare_pointers(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (const struct safetensors_tensor *const *)a;
    uintptr_t y = (uintptr_t) * (const struct safetensors_tensor *const *)b;
    return (x > y) - (x < y);
}

static size_t list_used(const struct convert_source *source, size_t count, const struct safetensors_tensor **used)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        used[n++] = source->matrices[i].tensor;
        if (source->matrices[i].scale)
            used[n++] = source->matrices[i].scale;
    }
    qsort(used, n, sizeof *used, compare_pointers);
    return n;
}

static enum sluice_status note_unused(const struct convert_source *source, const struct model_layout *layout)
{
    size_t unused = 0;
    const char *example = NULL;
    const struct safetensors_tensor **used = mem_alloc(2 * layout->source_count, sizeof(void *));
    if (!used)
        return SLUICE_ERR_MEMORY;
    size_t count = list_used(source, layout->source_count, used);
    for (size_t i = 0; i < safetensors_count(source->checkpoint); i++) {
        const struct safetensors_tensor *tensor = safetensors_at(source->checkpoint, i);
        if (bsearch(&tensor, used, count, sizeof *used, compare_pointers))
            continue;
        example = example ? example : tensor->name;
        unused++;
    }
    mem_free(used);
    if (unused)
        log_message(LOG_NOTE, "%zu tensor%s of the checkpoint %s not used, such as %s", unused, unused == 1 ? "" : "s",
                    unused == 1 ? "is" : "are", example);
    return SLUICE_OK;
}

enum sluice_status convert_source_open(const char *directory, const struct model_layout *layout,
                                       struct convert_source *source)
{
    enum sluice_status status;
    *source = (struct convert_source){.fp8_block_rows = layout->config.fp8_block_rows,
                                      .fp8_block_cols = layout->config.fp8_block_cols};
    TRY(checkpoint_open(directory, &source->checkpoint));
    source->matrices = mem_alloc(layout->source_count, sizeof *source->matrices);
    TRY(source->matrices ? SLUICE_OK : SLUICE_ERR_MEMORY);
    status = find_all(source, layout);
    if (status < 0)
        error_prefix(status, "%s", directory);
    TRY(status);
    TRY(note_unused(source, layout));
    return SLUICE_OK;
fail:
    convert_source_close(source);
    return status;
}

void convert_source_close(struct convert_source *source)
{
    safetensors_close(source->checkpoint);
    mem_free(source->matrices);
    *source = (struct convert_source){0};
}

// --- reading --------------------------------------------------------------------------------------------------------

enum quant_type convert_matrix_float_type(const struct convert_matrix *matrix)
{
    if (matrix->tensor->dtype == SAFETENSORS_F32)
        return QUANT_F32;
    return matrix->tensor->dtype == SAFETENSORS_F16 ? QUANT_F16 : QUANT_BF16;
}

// E4M3 without infinities: (-1)^s 2^(e-7) (1 + m/8), e = 0: m 2^-9, 0x7F and 0xFF are NaN.
static float f32_from_e4m3(uint8_t bits)
{
    int exponent = bits >> 3 & 15, mantissa = bits & 7;
    float magnitude = exponent ? ldexpf((float)(8 + mantissa), exponent - 10) : ldexpf((float)mantissa, -9);
    if ((bits & 0x7F) == 0x7F)
        magnitude = NAN;
    return bits & 0x80 ? -magnitude : magnitude;
}

enum { FP8_BLOCKS_MAX = MODEL_HIDDEN_MAX / MODEL_FP8_BLOCK_MIN };

// One row of values[cols], whose bytes lie at `bytes`. Despite its name scale_inv is multiplied.
static enum sluice_status fp8_decode_row(const struct convert_source *source, const struct convert_matrix *matrix,
                                         uint64_t row, const uint8_t *bytes, float *values)
{
    float scales[FP8_BLOCKS_MAX];
    uint64_t blocks = matrix->scale->shape[1];
    CHECK(blocks <= FP8_BLOCKS_MAX);
    enum sluice_status status =
        safetensors_read_f32(source->checkpoint, matrix->scale, row / source->fp8_block_rows * blocks, blocks, scales);
    for (uint64_t i = 0; status == SLUICE_OK && i < matrix->cols; i++)
        values[i] = f32_from_e4m3(bytes[i]) * scales[i / source->fp8_block_cols];
    return status;
}

// The bytes are read into the last quarter of `values` and expanded from the front: value i (bytes 4i to 4i+3) never
// reaches a byte that is still to come (3n+i+1 and on).
static enum sluice_status fp8_read(const struct convert_source *source, const struct convert_matrix *matrix,
                                   uint64_t row, uint64_t rows, float *values)
{
    uint64_t count = rows * matrix->cols;
    uint8_t *bytes = (uint8_t *)values + 3 * count;
    enum sluice_status status = safetensors_read(source->checkpoint, matrix->tensor, row * matrix->cols, count, bytes);
    for (uint64_t i = 0; status == SLUICE_OK && i < rows; i++)
        status = fp8_decode_row(source, matrix, row + i, bytes + i * matrix->cols, values + i * matrix->cols);
    return status;
}

static enum sluice_status check_finite(const struct convert_matrix *matrix, uint64_t row, uint64_t count,
                                       const float *values)
{
    float sum = 0; // 0 * x is NaN for NaN and Inf, 0 otherwise
    for (uint64_t i = 0; i < count; i++)
        sum += 0.0f * values[i];
    if (sum == 0)
        return SLUICE_OK;
    uint64_t i = 0;
    while (isfinite(values[i]))
        i++;
    return error_set(
        SLUICE_ERR_FORMAT, "tensor %s: row %" PRIu64 ", column %" PRIu64 " is %f: the checkpoint is damaged",
        matrix->tensor->name, matrix->first_row + row + i / matrix->cols, i % matrix->cols, (double)values[i]);
}

enum sluice_status convert_matrix_read(const struct convert_source *source, const struct convert_matrix *matrix,
                                       uint64_t row, uint64_t rows, float *values)
{
    enum sluice_status status;
    CHECK(row <= matrix->rows && rows <= matrix->rows - row);
    if (matrix->scale)
        status = fp8_read(source, matrix, row, rows, values);
    else
        status = safetensors_read_f32(source->checkpoint, matrix->tensor, (matrix->first_row + row) * matrix->cols,
                                      rows * matrix->cols, values);
    return status == SLUICE_OK ? check_finite(matrix, row, rows * matrix->cols, values) : status;
}
