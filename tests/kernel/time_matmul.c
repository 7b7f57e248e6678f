// Not a test: prints how fast the matrix kernels are on a device, per format, form of x and count of columns.
//   time_matmul [device]     device: part of a name or an index, as in struct gpu_device_options
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/tile.h"
#include "runtime/base/clock.h"
#include "runtime/ops/ops.h"

enum { ROWS = 2048, COLS = 2048, N_MAX = 256, REPEATS = 5 };

static void require(enum sluice_status status)
{
    if (status >= 0)
        return;
    fprintf(stderr, "%s\n", error_message());
    exit(1);
}

static struct gpu_range buffer_of(struct gpu_device *device, uint64_t bytes)
{
    struct gpu_buffer *buffer;
    require(gpu_buffer_create(device, GPU_MEMORY_DEVICE, bytes, "time", &buffer));
    return gpu_range_make(buffer, 0, bytes);
}

// Seconds of the fastest of some submissions of one multiplication.
static double matmul_seconds(struct gpu_device *device, struct ops *ops, const struct tensor *w,
                             const struct activations *x, struct gpu_range y)
{
    uint64_t best_ns = UINT64_MAX;
    for (int i = 0; i < REPEATS; i++) {
        struct gpu_command *cmd;
        uint64_t tick, start_ns = clock_ns();
        require(gpu_command_begin(device, &cmd));
        op_matmul(ops, cmd, w, x, y, ROWS, false);
        require(gpu_command_submit(cmd, &tick));
        require(gpu_wait(device, tick));
        uint64_t ns = clock_ns() - start_ns;
        best_ns = ns < best_ns ? ns : best_ns;
    }
    return (double)best_ns * 1e-9;
}

static void time_format(struct gpu_device *device, struct ops *ops, enum quant_type type, bool q8,
                        const struct gpu_range ranges[4])
{
    static const uint32_t counts[] = {1, 4, 8, 64, N_MAX};
    uint64_t bytes = quant_tile_bytes(type, ROWS, COLS);
    struct gpu_range weights = buffer_of(device, bytes);
    struct tensor_part part = {.range = weights, .rows = ROWS};
    struct tensor w = {.type = type, .rows = ROWS, .cols = COLS, .part_count = 1, .parts = &part};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct activations x = {.n = counts[i], .cols = COLS, .f32 = ranges[0]};
        if (q8) {
            x.q8 = ranges[1];
            x.q8_scales = ranges[2];
        }
        double seconds = matmul_seconds(device, ops, &w, &x, ranges[3]);
        printf("%-6s x %-4s n %4u  %9.3f ms  %8.2f GB/s of weights  %9.2f GFLOP/s\n", quant_format_get(type)->name,
               q8 ? "q8" : "f32", counts[i], seconds * 1e3, (double)bytes / seconds * 1e-9,
               2.0 * ROWS * COLS * counts[i] / seconds * 1e-9);
    }
    gpu_buffer_destroy(weights.buffer);
}

int main(int argc, char **argv)
{
    struct gpu_device *device;
    struct ops *ops;
    require(gpu_device_create(&(struct gpu_device_options){.name = argc > 1 ? argv[1] : NULL}, &device));
    require(ops_create(device, &ops));
    printf("%s, %d x %d\n", gpu_device_caps(device)->device_name, ROWS, COLS);
    struct gpu_range ranges[4] = {buffer_of(device, 4 * N_MAX * COLS), buffer_of(device, N_MAX * COLS),
                                  buffer_of(device, N_MAX * COLS / 4), buffer_of(device, 4 * N_MAX * ROWS)};
    for (int type = 0; type < QUANT_TYPE_COUNT; type++) {
        time_format(device, ops, (enum quant_type)type, false, ranges);
        if (!quant_format_get((enum quant_type)type)->is_float)
            time_format(device, ops, (enum quant_type)type, true, ranges);
    }
    for (int i = 0; i < 4; i++)
        gpu_buffer_destroy(ranges[i].buffer);
    ops_destroy(ops);
    gpu_device_destroy(device);
    return 0;
}
