// How matmul.comp is specialised on a device: by what the device reports and, on a software driver, by what is measured
// once. All choices give the same bits.
#include <string.h>
#include <time.h>

#include "quant/tile.h"
#include "runtime/base/log.h"
#include "runtime/ops/ops_internal.h"

// A matrix larger than the caches next to a core, and so small that a run takes about a millisecond.
enum { TRIAL_ROWS = 2048, TRIAL_COLS = 4096, TRIAL_RUNS = 8 };

// A software driver runs 8 lanes at a time and pays about as much for reading one value of x as for dozens of
// multiplications, so there each lane takes several rows; it also compiles long stretches of code slowly and badly, so
// loops stay rolled, variants few and columns at most 4. GPUs read x through the scalar or constant path and want all
// their lanes on different rows. With 8 columns in f32 AMD's compiler runs out of scalar registers.
static struct matmul_tuning tuning_of_kind(const struct gpu_caps *caps)
{
    if (caps->is_software)
        return (struct matmul_tuning){
            .lanes = 8, .rows_per_lane = 4, .columns = {{{1, 4}, {1, 2}}, {{1, 2, 4}, {1, 2, 4}}}};
    uint32_t lanes = caps->subgroup_size > 32 ? 64 : 32;
    bool slices_fit = lanes * MATMUL_SLICES_MAX <= caps->max_invocations;
    return (struct matmul_tuning){.lanes = lanes,
                                  .rows_per_lane = 1,
                                  .columns = {{{1, 2, 4}, {1, 2, 4}}, {{1, 2, 4, 8}, {1, 2, 4, 8}}},
                                  .slice_columns_max = slices_fit ? 4 : 0,
                                  .integer_dot = true,
                                  .unrolled = true};
}

struct trial {
    struct gpu_range weights, q8, q8_scales, y;
};

static enum sluice_status range_create(struct ops *ops, uint64_t bytes, struct gpu_range *range)
{
    struct gpu_buffer *buffer;
    enum sluice_status status = gpu_buffer_create(ops->device, GPU_MEMORY_UPLOAD, bytes, "tuning", &buffer);
    if (status < 0)
        return status;
    memset(gpu_buffer_map(buffer), 0, bytes); // also gives every page its own memory
    *range = gpu_range_make(buffer, 0, bytes);
    return SLUICE_OK;
}

static void trial_destroy(struct trial *trial)
{
    gpu_buffer_destroy(trial->weights.buffer);
    gpu_buffer_destroy(trial->q8.buffer);
    gpu_buffer_destroy(trial->q8_scales.buffer);
    gpu_buffer_destroy(trial->y.buffer);
}

static enum sluice_status trial_create(struct ops *ops, struct trial *trial)
{
    enum sluice_status status;
    *trial = (struct trial){.weights = {.bytes = 0}};
    TRY(range_create(ops, quant_tile_bytes(QUANT_Q4_K, TRIAL_ROWS, TRIAL_COLS), &trial->weights));
    TRY(range_create(ops, TRIAL_COLS, &trial->q8));
    TRY(range_create(ops, TRIAL_COLS / 32 * 8, &trial->q8_scales));
    TRY(range_create(ops, 4 * TRIAL_ROWS, &trial->y));
    return SLUICE_OK;
fail:
    trial_destroy(trial);
    return status;
}

// One product with one column. *least becomes the least CPU time: a software driver works in this process, and unlike
// the clock on the wall that hardly depends on what else the machine does.
static enum sluice_status trial_run(struct ops *ops, const struct trial *trial, clock_t *least)
{
    struct tensor_part part = {.range = trial->weights, .rows = TRIAL_ROWS};
    struct tensor w = {.type = QUANT_Q4_K, .rows = TRIAL_ROWS, .cols = TRIAL_COLS, .part_count = 1, .parts = &part};
    struct activations x = {.n = 1, .cols = TRIAL_COLS, .q8 = trial->q8, .q8_scales = trial->q8_scales};
    struct gpu_command *cmd;
    uint64_t tick;
    enum sluice_status status;
    TRY(gpu_command_begin(ops->device, &cmd));
    op_matmul(ops, cmd, &w, &x, trial->y, TRIAL_ROWS, false);
    clock_t start = clock();
    TRY(gpu_command_submit(cmd, &tick));
    TRY(gpu_wait(ops->device, tick));
    clock_t used = clock() - start;
    *least = used < *least ? used : *least;
    return SLUICE_OK;
fail:
    return status;
}

// Some software drivers' loads by lane keep the processor from fetching ahead, and touching the next weights makes them
// much faster; others lose by it.
static enum sluice_status choose_read_ahead(struct ops *ops)
{
    struct trial trial;
    clock_t least[2] = {CLOCKS_PER_SEC, CLOCKS_PER_SEC};
    enum sluice_status status = trial_create(ops, &trial);
    if (status < 0)
        return status;
    for (int run = 0; run < 2 * TRIAL_RUNS && status >= 0; run++) {
        ops->matmul.read_ahead = run % 2;
        status = trial_run(ops, &trial, &least[run % 2]);
    }
    ops->matmul.read_ahead = least[1] < least[0];
    log_message(LOG_DEBUG, "matrix kernels: %s ahead (%.2f ms of CPU time, without %.2f)",
                ops->matmul.read_ahead ? "reading" : "not reading", 1e3 * (double)least[1] / CLOCKS_PER_SEC,
                1e3 * (double)least[0] / CLOCKS_PER_SEC);
    trial_destroy(&trial);
    return status;
}

enum sluice_status matmul_tune(struct ops *ops)
{
    ops->matmul = tuning_of_kind(ops->caps);
    bool fits = quant_tile_bytes(QUANT_Q4_K, TRIAL_ROWS, TRIAL_COLS) <= ops->caps->max_buffer_bytes;
    return ops->caps->is_software && fits ? choose_read_ahead(ops) : SLUICE_OK;
}
