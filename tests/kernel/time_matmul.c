// Not a test: prints how fast the matrix kernels are on a device at the shapes of the 80B model, per format, form of x
// and count of columns. CPU seconds are of the whole process: on a software driver they tell more than the clock when
// other programs run. The first line is what one thread reads from memory.
//   time_matmul [device [formats [n [repeats [what]]]]]
//     device   part of a name or an index, as in struct gpu_device_options; "" the first
//     formats  such as q4_k,q6_k; n: only this count of columns, 0 all; what: only lines with this text
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "quant/tile.h"
#include "runtime/base/clock.h"
#include "runtime/ops/ops_internal.h"

enum { N_MAX = 512, TOP_K = 10, HIDDEN = 2048, INTER = 512 };

struct bench {
    struct gpu_device *device;
    struct ops *ops;
    enum quant_type type;
    bool q8;
    unsigned repeats;
    const char *what; // only lines that contain this
};

struct seconds {
    double wall, cpu;
};

static void require(enum sluice_status status)
{
    if (status >= 0)
        return;
    fprintf(stderr, "%s\n", error_message());
    exit(1);
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

// Bytes that look like weights: every f16 scale is small and every byte occurs.
static struct gpu_range buffer_of(struct gpu_device *device, uint64_t bytes)
{
    struct gpu_buffer *buffer;
    require(gpu_buffer_create(device, GPU_MEMORY_UPLOAD, bytes, "time", &buffer));
    uint8_t *data = gpu_buffer_map(buffer);
    for (uint64_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)((i * 2654435761u >> 7) & 0x2f);
    return gpu_range_make(buffer, 0, bytes);
}

// What is timed: `record` is called with each repetition's command.
typedef void record_function(struct bench *b, struct gpu_command *cmd, void *user);

// The fastest of some submissions.
static struct seconds time_submissions(struct bench *b, record_function *record, void *user)
{
    struct seconds best = {1e9, 1e9};
    for (unsigned i = 0; i <= b->repeats; i++) { // the first one compiles
        struct gpu_command *cmd;
        uint64_t tick;
        require(gpu_command_begin(b->device, &cmd));
        record(b, cmd, user);
        double cpu = cpu_seconds();
        uint64_t start_ns = clock_ns();
        require(gpu_command_submit(cmd, &tick));
        require(gpu_wait(b->device, tick));
        struct seconds s = {(double)(clock_ns() - start_ns) * 1e-9, cpu_seconds() - cpu};
        best.wall = s.wall < best.wall ? s.wall : best.wall;
        best.cpu = s.cpu < best.cpu ? s.cpu : best.cpu;
    }
    return best;
}

static void print_line(const struct bench *b, const char *what, uint32_t n, uint64_t bytes, double flop,
                       struct seconds s)
{
    printf("%-6s x %-4s %-18s n %4u %9.3f ms %9.3f cpu ms %7.2f GB/s %7.2f GFLOP/s %7.2f GB/cpu-s %7.2f GFLOP/cpu-s\n",
           quant_format_get(b->type)->name, b->q8 ? "q8" : "f32", what, n, s.wall * 1e3, s.cpu * 1e3,
           (double)bytes / s.wall * 1e-9, flop / s.wall * 1e-9, (double)bytes / s.cpu * 1e-9, flop / s.cpu * 1e-9);
    fflush(stdout);
}

// ---- dense

struct dense {
    struct tensor w;
    struct activations x;
    struct gpu_range y;
};

static void record_dense(struct bench *b, struct gpu_command *cmd, void *user)
{
    struct dense *d = user;
    op_matmul(b->ops, cmd, &d->w, &d->x, d->y, d->w.rows, false);
}

static struct activations activations_of(struct bench *b, uint32_t n, uint32_t cols)
{
    struct activations x = {.n = n, .cols = cols, .f32 = buffer_of(b->device, 4ull * n * cols)};
    if (b->q8) {
        x.q8 = buffer_of(b->device, (uint64_t)n * cols);
        x.q8_scales = buffer_of(b->device, (uint64_t)n * cols / 4);
    }
    return x;
}

static void activations_destroy(struct activations *x)
{
    gpu_buffer_destroy(x->f32.buffer);
    if (x->q8.bytes) {
        gpu_buffer_destroy(x->q8.buffer);
        gpu_buffer_destroy(x->q8_scales.buffer);
    }
}

static bool is_wanted(const struct bench *b, const char *what)
{
    char line[64];
    snprintf(line, sizeof line, "%s %s", b->q8 ? "q8" : "f32", what);
    return strstr(line, b->what) != NULL;
}

static void time_dense(struct bench *b, const char *what, uint32_t rows, uint32_t cols, uint32_t n)
{
    if (!is_wanted(b, what))
        return;
    uint64_t bytes = quant_tile_bytes(b->type, rows, cols);
    struct tensor_part part = {.range = buffer_of(b->device, bytes), .rows = rows};
    struct dense d = {.w = {.type = b->type, .rows = rows, .cols = cols, .part_count = 1, .parts = &part},
                      .x = activations_of(b, n, cols),
                      .y = buffer_of(b->device, 4ull * n * rows)};
    print_line(b, what, n, bytes, 2.0 * rows * cols * n, time_submissions(b, record_dense, &d));
    gpu_buffer_destroy(part.range.buffer);
    gpu_buffer_destroy(d.y.buffer);
    activations_destroy(&d.x);
}

// ---- experts: n tokens with TOP_K picks each, spread evenly over 512 experts

struct experts {
    struct moe_slab slab;
    struct gpu_range tiles, row_token, y;
    uint32_t tile_count, tile_rows;
    struct activations x, act;
};

static void record_gate_up(struct bench *b, struct gpu_command *cmd, void *user)
{
    struct experts *e = user;
    op_moe_gate_up(b->ops, cmd, &e->slab, e->tiles, e->tile_count, e->tile_rows, e->row_token, &e->x, &e->act);
}

static void record_down(struct bench *b, struct gpu_command *cmd, void *user)
{
    struct experts *e = user;
    op_moe_down(b->ops, cmd, &e->slab, e->tiles, e->tile_count, e->tile_rows, &e->act, e->y);
}

// Slots are used again and again after the first 64, so that the slab fits into one binding.
static void make_tiles(struct experts *e, uint32_t rows, uint32_t rows_per_expert)
{
    enum { SLOTS = 64 };
    struct moe_tile *tiles = gpu_buffer_map(e->tiles.buffer);
    for (uint32_t row = 0, expert = 0; row < rows; expert++)
        for (uint32_t end = row + rows_per_expert < rows ? row + rows_per_expert : rows; row < end;) {
            uint32_t count = end - row < MOE_TILE_ROWS ? end - row : (uint32_t)MOE_TILE_ROWS;
            tiles[e->tile_count++] = (struct moe_tile){.slot = expert % SLOTS, .row = row, .row_count = count};
            e->tile_rows = count > e->tile_rows ? count : e->tile_rows;
            row += count;
        }
    uint32_t *row_token = gpu_buffer_map(e->row_token.buffer);
    for (uint32_t i = 0; i < rows; i++)
        row_token[i] = i / TOP_K;
}

static void time_experts(struct bench *b, uint32_t n, uint32_t rows_per_expert)
{
    enum { SLOTS = 64 };
    uint32_t rows = n * TOP_K;
    uint64_t gate_up_bytes = 2 * quant_tile_bytes(b->type, INTER, HIDDEN);
    uint64_t down_bytes = quant_tile_bytes(b->type, HIDDEN, INTER), slot_bytes = gate_up_bytes + down_bytes;
    struct experts e = {.slab = {.range = buffer_of(b->device, SLOTS * slot_bytes),
                                 .slot_bytes = (uint32_t)slot_bytes,
                                 .down_offset = (uint32_t)gate_up_bytes,
                                 .gate_up_type = b->type,
                                 .down_type = b->type,
                                 .hidden = HIDDEN,
                                 .inter = INTER},
                        .tiles = buffer_of(b->device, rows * sizeof(struct moe_tile)),
                        .row_token = buffer_of(b->device, 4ull * rows),
                        .y = buffer_of(b->device, 4ull * rows * HIDDEN),
                        .x = activations_of(b, n, HIDDEN),
                        .act = activations_of(b, rows, INTER)};
    make_tiles(&e, rows, rows_per_expert);
    uint32_t experts = (rows + rows_per_expert - 1) / rows_per_expert;
    char what[32];
    snprintf(what, sizeof what, "gate/up %u rows", rows_per_expert);
    if (is_wanted(b, what))
        print_line(b, what, n, experts * gate_up_bytes, 4.0 * rows * INTER * HIDDEN,
                   time_submissions(b, record_gate_up, &e));
    snprintf(what, sizeof what, "down %u rows", rows_per_expert);
    if (is_wanted(b, what))
        print_line(b, what, n, experts * down_bytes, 2.0 * rows * INTER * HIDDEN, time_submissions(b, record_down, &e));
    struct gpu_range ranges[] = {e.slab.range, e.tiles, e.row_token, e.y};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        gpu_buffer_destroy(ranges[i].buffer);
    activations_destroy(&e.x);
    activations_destroy(&e.act);
}

// ---- the table

static void time_columns(struct bench *b, uint32_t n)
{
    if (n == 1)
        time_dense(b, "head 151936/4", 151936 / 4, HIDDEN, n);
    time_dense(b, "qkvz 12288x2048", 12288, 2048, n);
    time_dense(b, "out 2048x4096", 2048, 4096, n);
    if (n == 1)
        time_experts(b, 1, 1);
    else if (n >= 128)
        time_experts(b, n, n * TOP_K / 512);
}

static void time_format(struct bench *b, uint32_t only_n)
{
    static const uint32_t counts[] = {1, 4, 128, N_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (!only_n || only_n == counts[i])
            time_columns(b, counts[i]);
}

static void print_read_roof(void)
{
    enum { WORDS = 32 << 20 };
    uint64_t *data = malloc(WORDS * sizeof *data), sum = 0;
    if (!data)
        return;
    memset(data, 1, WORDS * sizeof *data);
    double cpu = cpu_seconds();
    for (size_t i = 0; i < WORDS; i++)
        sum += data[i];
    cpu = cpu_seconds() - cpu;
    printf("one thread reads %.1f GB/cpu-s%s\n", WORDS * sizeof *data / cpu * 1e-9, sum == 1 ? "!" : "");
    free(data);
}

int main(int argc, char **argv)
{
    struct bench b;
    const char *name = argc > 1 && *argv[1] ? argv[1] : NULL;
    require(gpu_device_create(&(struct gpu_device_options){.name = name}, &b.device));
    require(ops_create(b.device, NULL, &b.ops));
    printf("%s, %s ahead\n", gpu_device_caps(b.device)->device_name,
           b.ops->tuning.matmul.read_ahead ? "reading" : "not reading");
    print_read_roof();
    uint32_t only_n = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0;
    b.repeats = argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : 5;
    b.what = argc > 5 ? argv[5] : "";
    for (int type = 0; type < QUANT_TYPE_COUNT; type++) {
        if (argc > 2 && !strstr(argv[2], quant_format_get((enum quant_type)type)->name))
            continue;
        for (int q8 = 0; q8 < (quant_format_get((enum quant_type)type)->is_float ? 1 : 2); q8++) {
            b.type = (enum quant_type)type;
            b.q8 = q8;
            time_format(&b, only_n);
        }
    }
    ops_destroy(b.ops);
    gpu_device_destroy(b.device);
    return 0;
}
