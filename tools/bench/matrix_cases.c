// Rows of the table: products with one matrix, as the trunk has them.
#include <stdio.h>

#include "quant/tile.h"
#include "runtime/base/check.h"
#include "tools/bench/kernel_bench.h"

enum { HIDDEN = 2048, PARTS_MAX = 8, DECODE_TOKENS_MAX = 8 };

static const enum quant_type types[] = {QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K, QUANT_Q8_0};
enum { TYPES = sizeof types / sizeof *types };

struct product {
    struct kernel_bench *bench;
    enum quant_type type;
    uint32_t rows, cols, n;
};

// Parts of equal size, each small enough for one binding.
static uint32_t part_count(const struct product *p)
{
    uint32_t parts = 1;
    while (quant_tile_bytes(p->type, p->rows / parts, p->cols) > p->bench->pool[0].bytes)
        parts *= 2;
    CHECK(parts <= PARTS_MAX && p->rows / parts % QUANT_TILE_ROWS == 0);
    return parts;
}

static void record(void *user, struct gpu_command *cmd)
{
    struct product *p = user;
    struct kernel_bench *b = p->bench;
    struct tensor_part parts[PARTS_MAX];
    uint32_t count = part_count(p), rows = p->rows / count;
    for (uint32_t i = 0; i < count; i++)
        parts[i] = (struct tensor_part){
            .range = bench_pool_take(b, quant_tile_bytes(p->type, rows, p->cols)), .row0 = i * rows, .rows = rows};
    struct tensor w = {.type = p->type, .rows = p->rows, .cols = p->cols, .part_count = count, .parts = parts};
    struct activations x = {.n = p->n,
                            .cols = p->cols,
                            .f32 = b->arrays[BENCH_IN],
                            .q8 = b->arrays[BENCH_Q8],
                            .q8_scales = b->arrays[BENCH_SCALES]};
    ops_set_prefill(b->ops, p->n > DECODE_TOKENS_MAX);
    op_matmul(b->ops, cmd, &w, &x, b->arrays[BENCH_OUT], p->rows, false);
}

static enum sluice_status run(struct kernel_bench *b, const char *what, enum quant_type type, uint32_t rows,
                              uint32_t cols, uint32_t n)
{
    char name[64];
    struct product p = {b, type, rows, cols, n};
    double weights = (double)quant_tile_bytes(type, rows, cols);
    double x_bytes = quant_format_get(type)->is_float ? 4.0 : 1.25, ops = 2.0 * rows * cols * n;
    struct work work = {.bytes = weights + n * (x_bytes * cols + 4.0 * rows)};
    if (quant_format_get(type)->is_float)
        work.fma_ops = ops;
    else
        work.dot_ops = ops;
    snprintf(name, sizeof name, "%s %s x%u", what, quant_format_get(type)->name, n);
    return bench_measure(b, name, work, record, &p);
}

static enum sluice_status run_type(struct kernel_bench *b, enum quant_type type)
{
    static const uint32_t counts[] = {1, 2, 4, 8, 128, 512};
    enum sluice_status status = SLUICE_OK;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        TRY(run(b, "qkvz", type, 12288, HIDDEN, counts[i]));
        TRY(run(b, "out", type, HIDDEN, 4096, counts[i]));
        if (counts[i] <= DECODE_TOKENS_MAX)
            TRY(run(b, "head", type, 151936, HIDDEN, counts[i]));
    }
fail:
    return status;
}

enum sluice_status matrix_cases_run(struct kernel_bench *b)
{
    enum sluice_status status;
    TRY(bench_need_pool(b));
    TRY(bench_need(b, (const enum bench_array[]){BENCH_IN, BENCH_Q8, BENCH_SCALES, BENCH_OUT}, 4));
    for (int i = 0; i < TYPES; i++)
        TRY(run_type(b, types[i]));
    // What keeps the checkpoint's float type.
    for (uint32_t n = 1; n <= 512; n *= 512) {
        TRY(run(b, "router", QUANT_BF16, 512, HIDDEN, n));
        TRY(run(b, "ba", QUANT_BF16, 64, HIDDEN, n));
    }
fail:
    return status;
}
