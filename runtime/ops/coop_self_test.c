// Known answers: whole numbers small enough that f16 holds them and f32 their sums, so that a right device gives
// exactly these, in whatever order it adds.
#include <string.h>

#include "quant/halffloat.h"
#include "quant/tile.h"
#include "runtime/base/mem.h"
#include "runtime/ops/coop.h"

// Rows and tokens end in the middle of blocks of every size, columns in the middle of a step.
enum { ROWS = 83, COLS = 416, TOKENS = 41, BLOCK_COLS = 32, BLOCK_BYTES = 2 + BLOCK_COLS };

static int weight(uint32_t row, uint32_t col)
{
    return (int)((row * 31 + col * 17 + row * col % 7) % 255) - 127;
}

static int activation(uint32_t token, uint32_t col)
{
    return (int)((token * 13 + col * 5 + token * col % 11) % 17) - 8;
}

struct self_test {
    struct gpu_buffer *w, *x, *y;
};

// Blocks of q8_0 with a step of 1, in tiles.
static enum sluice_status fill_weights(void *tiles)
{
    uint8_t *blocks = mem_alloc(ROWS * COLS / BLOCK_COLS, BLOCK_BYTES);
    if (!blocks)
        return SLUICE_ERR_MEMORY;
    uint16_t one = f16_from_f32(1);
    for (uint32_t i = 0; i < ROWS * COLS / BLOCK_COLS; i++) {
        uint8_t *block = blocks + (size_t)i * BLOCK_BYTES;
        memcpy(block, &one, sizeof one);
        for (uint32_t j = 0; j < BLOCK_COLS; j++)
            block[2 + j] = (uint8_t)weight(i / (COLS / BLOCK_COLS), i % (COLS / BLOCK_COLS) * BLOCK_COLS + j);
    }
    enum sluice_status status = quant_tile_pack(QUANT_Q8_0, blocks, ROWS, COLS, tiles);
    mem_free(blocks);
    return status;
}

static bool results_right(const float *y)
{
    for (uint32_t token = 0; token < TOKENS; token++)
        for (uint32_t row = 0; row < ROWS; row++) {
            int sum = 0;
            for (uint32_t col = 0; col < COLS; col++)
                sum += weight(row, col) * activation(token, col);
            if (y[token * ROWS + row] != (float)sum)
                return false;
        }
    return true;
}

static enum sluice_status create(struct ops *ops, struct self_test *t)
{
    enum sluice_status status;
    uint64_t w_bytes = quant_tile_bytes(QUANT_Q8_0, ROWS, COLS);
    TRY(gpu_buffer_create(ops->device, GPU_MEMORY_UPLOAD, w_bytes, "self-test", &t->w));
    TRY(gpu_buffer_create(ops->device, GPU_MEMORY_UPLOAD, 4ull * TOKENS * COLS, "self-test", &t->x));
    TRY(gpu_buffer_create(ops->device, GPU_MEMORY_READBACK, 4ull * TOKENS * ROWS, "self-test", &t->y));
    TRY(fill_weights(gpu_buffer_map(t->w)));
    float *x = gpu_buffer_map(t->x);
    for (uint32_t i = 0; i < TOKENS * COLS; i++)
        x[i] = (float)activation(i / COLS, i % COLS);
    memset(gpu_buffer_map(t->y), 0xff, 4ull * TOKENS * ROWS);
fail:
    return status;
}

static enum sluice_status multiply(struct ops *ops, const struct self_test *t)
{
    enum sluice_status status;
    struct gpu_command *cmd;
    uint64_t tick;
    struct tensor_part part = {.range = gpu_range_all(t->w), .rows = ROWS};
    struct tensor w = {.type = QUANT_Q8_0, .rows = ROWS, .cols = COLS, .part_count = 1, .parts = &part};
    struct activations x = {.n = TOKENS, .cols = COLS, .f32 = gpu_range_all(t->x)};
    TRY(gpu_command_begin(ops->device, &cmd));
    op_matmul(ops, cmd, &w, &x, gpu_range_all(t->y), ROWS, false);
    TRY(gpu_command_submit(cmd, &tick));
    TRY(gpu_wait(ops->device, tick));
fail:
    return status;
}

bool coop_is_right(struct ops *ops)
{
    enum sluice_status status;
    struct self_test t = {NULL, NULL, NULL};
    const uint32_t before = ops->tuning.matrix_cores;
    const bool prefill_before = ops->prefill;
    bool right = false;
    TRY(create(ops, &t));
    ops->tuning.matrix_cores = true;
    ops->prefill = true;
    TRY(multiply(ops, &t));
    right = results_right(gpu_buffer_map(t.y));
fail:
    ops->tuning.matrix_cores = before;
    ops->prefill = prefill_before;
    gpu_buffer_destroy(t.w);
    gpu_buffer_destroy(t.x);
    gpu_buffer_destroy(t.y);
    return right && status == SLUICE_OK;
}
