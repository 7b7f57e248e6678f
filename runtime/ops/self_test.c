#include "runtime/ops/self_test.h"

#include <string.h>

#include "quant/halffloat.h"
#include "quant/tile.h"
#include "runtime/base/integer.h"
#include "runtime/base/mem.h"
#include "runtime/ops/coop.h"

enum { ROWS = 96, COLS = 1024, COLUMNS_MAX = 5 };

static const enum quant_type types[] = {QUANT_Q8_0, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K};
enum { TYPES = sizeof types / sizeof *types };

struct question {
    struct gpu_buffer *buffer; // everything below, mapped
    struct gpu_range tiles, q8, q8_scales, y;
    uint8_t *blocks; // the matrix in row blocks, owned
    float *weights;  // one decoded row, owned
};

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

// Scales of one, random everything else.
static void fill_blocks(enum quant_type type, uint8_t *blocks, size_t count)
{
    const struct quant_format *format = quant_format_get(type);
    const uint16_t one = f16_from_f32(1);
    uint32_t random = 1 + (uint32_t)type;
    for (uint8_t *block = blocks; count > 0; block += format->block_bytes, count--) {
        for (uint32_t i = 0; i < format->block_bytes; i++)
            block[i] = (uint8_t)next_random(&random);
        memcpy(block + (type == QUANT_Q6_K ? format->block_bytes - sizeof one : 0), &one, sizeof one);
        if (type == QUANT_Q4_K || type == QUANT_Q5_K)
            memcpy(block + sizeof one, &one, sizeof one);
    }
}

// Small integers with the largest magnitude here and there, step 1.
static void fill_activations(const struct question *q)
{
    int8_t *x = gpu_range_map(q->q8);
    float *scales = gpu_range_map(q->q8_scales);
    uint32_t random = 77;
    for (size_t block = 0; block < COLUMNS_MAX * COLS / 32; block++) {
        int sum = 0;
        for (size_t i = 0; i < 32; i++) {
            int value = (int)(next_random(&random) % 5) - 2;
            if (i == block % 32 && block % 4 == 0)
                value = block % 8 ? -127 : 127;
            x[32 * block + i] = (int8_t)value;
            sum += value;
        }
        scales[2 * block] = 1;
        scales[2 * block + 1] = (float)sum;
    }
}

static void question_destroy(struct question *q)
{
    gpu_buffer_destroy(q->buffer);
    mem_free(q->blocks);
    mem_free(q->weights);
}

static struct gpu_range take(struct question *q, uint64_t *offset, uint64_t bytes)
{
    enum { ALIGNMENT = 256 };
    struct gpu_range range = {.buffer = q->buffer, .offset = *offset, .bytes = bytes};
    *offset += u64_round_up(bytes, ALIGNMENT);
    return range;
}

static void lay_out(struct question *q, uint64_t *bytes)
{
    *bytes = 0;
    q->tiles = take(q, bytes, quant_tile_bytes(QUANT_Q8_0, ROWS, COLS)); // the largest of the formats
    q->q8 = take(q, bytes, COLUMNS_MAX * COLS);
    q->q8_scales = take(q, bytes, COLUMNS_MAX * COLS / 32 * 8);
    q->y = take(q, bytes, 4 * COLUMNS_MAX * ROWS);
}

static enum sluice_status question_create(struct gpu_device *device, struct question *q)
{
    enum sluice_status status;
    uint64_t bytes;
    *q = (struct question){.buffer = NULL};
    lay_out(q, &bytes);
    TRY(gpu_buffer_create(device, GPU_MEMORY_READBACK, bytes, "self-test", &q->buffer));
    lay_out(q, &bytes);
    q->blocks = mem_alloc(ROWS, quant_row_bytes(QUANT_Q8_0, COLS));
    q->weights = mem_alloc(COLS, sizeof *q->weights);
    TRY(q->blocks && q->weights ? SLUICE_OK : SLUICE_ERR_MEMORY);
    fill_activations(q);
    return SLUICE_OK;
fail:
    question_destroy(q);
    return status;
}

static enum sluice_status question_pose(struct question *q, enum quant_type type)
{
    fill_blocks(type, q->blocks, ROWS * (size_t)(COLS / quant_format_get(type)->block_cols));
    return quant_tile_pack(type, q->blocks, ROWS, COLS, gpu_range_map(q->tiles));
}

static enum sluice_status multiply(struct ops *ops, const struct question *q, enum quant_type type, uint32_t columns)
{
    struct tensor_part part = {.range = gpu_range_part(q->tiles, 0, quant_tile_bytes(type, ROWS, COLS)), .rows = ROWS};
    struct tensor w = {.type = type, .rows = ROWS, .cols = COLS, .part_count = 1, .parts = &part};
    struct activations x = {.n = columns, .cols = COLS, .q8 = q->q8, .q8_scales = q->q8_scales};
    struct gpu_command *cmd;
    uint64_t tick;
    enum sluice_status status;
    TRY(gpu_command_begin(ops->device, &cmd));
    op_matmul(ops, cmd, &w, &x, q->y, ROWS, false);
    TRY(gpu_command_submit(cmd, &tick));
    TRY(gpu_wait(ops->device, tick));
fail:
    return status;
}

static bool answer_is_right(const struct question *q, enum quant_type type, uint32_t columns)
{
    const int8_t *x = gpu_range_map(q->q8);
    const float *y = gpu_range_map(q->y);
    for (size_t row = 0; row < ROWS; row++) {
        quant_decode_row(type, q->blocks + row * quant_row_bytes(type, COLS), COLS, q->weights);
        for (uint32_t c = 0; c < columns; c++) {
            double sum = 0;
            for (size_t i = 0; i < COLS; i++)
                sum += (double)q->weights[i] * x[c * COLS + i];
            if (y[c * ROWS + row] != (float)sum)
                return false;
        }
    }
    return true;
}

// All formats with one column and, on a GPU, with several: a software driver takes longer to compile that than all
// else.
static enum sluice_status ask(struct ops *ops, struct question *q, bool spoil, const char **wrong)
{
    static const uint32_t counts[] = {1, COLUMNS_MAX};
    enum sluice_status status = SLUICE_OK;
    size_t count = ops->caps->is_software ? 1 : sizeof counts / sizeof *counts;
    *wrong = NULL;
    for (size_t i = 0; i < TYPES * count; i++) {
        enum quant_type type = types[i / count];
        uint32_t columns = counts[i % count];
        TRY(question_pose(q, type));
        memset(gpu_range_map(q->y), 0xFF, 4 * COLUMNS_MAX * ROWS);
        TRY(multiply(ops, q, type, columns));
        if (spoil)
            *(uint32_t *)gpu_range_map(q->y) ^= 1;
        if (!answer_is_right(q, type, columns))
            *wrong = quant_format_get(type)->name;
    }
fail:
    return status;
}

// Asks with ops->tuning, whose one optional path is `path`. *wrong is NULL if that is not used here.
static enum sluice_status ask_path(struct ops *ops, struct question *q, uint32_t path, bool spoil, const char **wrong)
{
    const bool is_matrix = path == TUNING_PATH_MATRIX_CORES || path == TUNING_PATH_MATRIX_ATTENTION;
    enum sluice_status status = SLUICE_OK;
    bool used = is_matrix ? ops->caps->matrix_cores && !ops->caps->is_software : tuning_paths(&ops->tuning) & path;
    *wrong = NULL;
    if (!used)
        return SLUICE_OK;
    if (path == TUNING_PATH_MATRIX_CORES)
        *wrong = coop_is_right(ops) ? NULL : "f16";
    else if (path == TUNING_PATH_MATRIX_ATTENTION)
        *wrong = coop_attention_is_right(ops) ? NULL : "f16";
    else
        TRY(ask(ops, q, spoil, wrong));
    if (spoil)
        *wrong = "all";
fail:
    return status;
}

enum sluice_status self_test_run(struct ops *ops, uint32_t paths, const struct ops_hooks *hooks, uint32_t *failed)
{
    struct question question;
    const struct tuning tuning = ops->tuning;
    const char *wrong;
    *failed = 0;
    enum sluice_status status = question_create(ops->device, &question);
    if (status < 0)
        return status;
    tuning_without(&ops->tuning, paths);
    TRY(ask(ops, &question, hooks->plain_is_wrong, &wrong));
    if (wrong)
        TRY(error_set(
            SLUICE_ERR_DEVICE,
            "%s (%s) multiplies wrongly (%s weights): update the driver or choose another device with --device",
            ops->caps->device_name, ops->caps->driver_name, wrong));
    for (uint32_t path = 1; path < 1u << TUNING_PATH_COUNT; path <<= 1) {
        ops->tuning = tuning;
        tuning_without(&ops->tuning, paths & ~path);
        TRY(ask_path(ops, &question, path, hooks->wrong_paths & path, &wrong));
        *failed |= wrong ? path : 0;
    }
fail:
    ops->tuning = tuning;
    question_destroy(&question);
    return status;
}
