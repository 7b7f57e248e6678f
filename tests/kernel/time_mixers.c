// Not a test: prints how fast the kernels of attention, DeltaNet, norms and routing are on a device, at the shapes of
// the 80B model. Processor time is what a software driver needs, whatever else the machine does meanwhile.
//   time_mixers [part of a name [device]]     device: as in struct gpu_device_options
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "runtime/base/clock.h"
#include "runtime/ops/ops.h"

enum { REPEATS = 5, HIDDEN = 2048, EXPERTS = 512, TOP_K = 10, DEPTH = 32768, RUN = 512, SPLIT = 512 };

static const struct attention_shape attention = {16, 2, 256, 64, 1, true};
static const struct delta_shape delta = {16, 32, 128, 128, 4};

enum buffer { IN, IN2, SMALL, WEIGHT, K, V, STATE, OUT, OUT2, PARTIAL, BUFFER_COUNT };

static const uint64_t buffer_bytes[BUFFER_COUNT] = {
    [IN] = 4ull * RUN * 12288,       [IN2] = 4ull * RUN * 12288,           [SMALL] = 4ull * RUN * 512,
    [WEIGHT] = 4ull * 8192 * 4,      [K] = 4ull * (DEPTH + RUN) * 2 * 256, [V] = 4ull * (DEPTH + RUN) * 2 * 256,
    [STATE] = 4ull * 32 * 128 * 128, [OUT] = 4ull * RUN * 12288,           [OUT2] = 4ull * RUN * 12288,
    [PARTIAL] = 8ull * RUN * 4096,
};

static struct gpu_device *device;
static struct ops *ops;
static struct gpu_range buffers[BUFFER_COUNT];

static void require(enum sluice_status status)
{
    if (status >= 0)
        return;
    fprintf(stderr, "%s\n", error_message());
    exit(1);
}

static void submit(struct gpu_command *cmd)
{
    uint64_t tick;
    require(gpu_command_submit(cmd, &tick));
    require(gpu_wait(device, tick));
}

// Numbers of moderate size: in f16 for K and V, else in f32.
static struct gpu_range buffer_make(enum buffer which)
{
    uint64_t bytes = buffer_bytes[which];
    bool halves = which == K || which == V;
    struct gpu_buffer *buffer, *staging;
    require(gpu_buffer_create(device, GPU_MEMORY_DEVICE, bytes, "time", &buffer));
    require(gpu_buffer_create(device, GPU_MEMORY_UPLOAD, bytes, "staging", &staging));
    uint32_t *words = gpu_buffer_map(staging), random = 1;
    for (uint64_t i = 0; i < bytes / 4; i++) {
        random = random * 1664525 + 1013904223;
        uint32_t bits = random ^ random >> 15;
        words[i] = halves ? (bits & 0x83FF83FF) | 0x34003400 : (bits & 0x807FFFFF) | 0x3E800000;
    }
    struct gpu_command *cmd;
    struct gpu_range range = gpu_range_make(buffer, 0, bytes);
    require(gpu_command_begin(device, &cmd));
    gpu_copy(cmd, gpu_range_make(staging, 0, bytes), range);
    submit(cmd);
    gpu_buffer_destroy(staging);
    return range;
}

static double processor_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

// One kernel at one shape. Work and bytes are what the operation needs, however it is computed.
struct job {
    const char *name;
    void (*record)(struct gpu_command *cmd, uint32_t tokens, uint32_t depth);
    uint32_t tokens, depth;
    double flops, bytes;
};

static void attend_run(struct gpu_command *cmd, uint32_t tokens, uint32_t depth, bool f16)
{
    struct attention_shape shape = attention;
    shape.kv_f16 = f16;
    struct kv_segment segment = {.k = buffers[K], .v = buffers[V], .capacity = DEPTH + RUN};
    uint32_t split = tokens == 1 ? SPLIT : DEPTH + RUN, end = depth + tokens;
    op_attend(ops, cmd, &shape, buffers[IN], tokens, depth, &segment, 0, end, split, 0, (end + split - 1) / split,
              buffers[OUT], buffers[PARTIAL]);
}

static void attend_f16(struct gpu_command *cmd, uint32_t tokens, uint32_t depth)
{
    attend_run(cmd, tokens, depth, true);
}

static void attend_f32(struct gpu_command *cmd, uint32_t tokens, uint32_t depth)
{
    attend_run(cmd, tokens, depth, false);
}

static void merge(struct gpu_command *cmd, uint32_t tokens, uint32_t depth)
{
    struct activations y = {.n = tokens, .cols = 4096, .f32 = buffers[OUT2]};
    uint32_t splits = depth ? depth / SPLIT : 1;
    op_attend_merge(ops, cmd, &attention, buffers[OUT], buffers[PARTIAL], tokens, splits, buffers[IN], &y);
}

static void rope(struct gpu_command *cmd, uint32_t tokens, uint32_t depth)
{
    struct kv_segment segment = {.k = buffers[K], .v = buffers[V], .capacity = DEPTH + RUN};
    op_rope_store(ops, cmd, &attention, buffers[IN], buffers[IN2], buffers[IN2], buffers[WEIGHT], buffers[WEIGHT],
                  1e-6f, buffers[WEIGHT], tokens, depth, &segment, buffers[OUT]);
}

static void conv(struct gpu_command *cmd, uint32_t tokens, uint32_t depth)
{
    (void)depth;
    op_conv_seq(ops, cmd, &delta, buffers[IN], tokens, buffers[WEIGHT], buffers[STATE], buffers[OUT]);
}

static void scan(struct gpu_command *cmd, uint32_t tokens, uint32_t depth)
{
    (void)depth;
    op_delta_scan(ops, cmd, &delta, buffers[IN], buffers[SMALL], tokens, buffers[WEIGHT], buffers[WEIGHT],
                  buffers[STATE], buffers[OUT]);
}

static void scan_small(struct gpu_command *cmd, uint32_t tokens, uint32_t depth)
{
    (void)depth;
    op_delta_scan(ops, cmd, &(struct delta_shape){4, 4, 64, 64, 4}, buffers[IN], buffers[SMALL], tokens,
                  buffers[WEIGHT], buffers[WEIGHT], buffers[STATE], buffers[OUT]);
}

static void gated_norm(struct gpu_command *cmd, uint32_t tokens, uint32_t depth)
{
    (void)depth;
    struct activations y = {.n = tokens, .cols = 4096, .f32 = buffers[OUT2]};
    op_delta_norm(ops, cmd, &delta, buffers[IN2], buffers[IN], buffers[WEIGHT], 1e-6f, &y);
}

static void norm(struct gpu_command *cmd, uint32_t tokens, uint32_t depth)
{
    (void)depth;
    struct activations y = {.n = tokens, .cols = HIDDEN, .f32 = buffers[OUT]};
    op_norm_rms(ops, cmd, buffers[IN], buffers[WEIGHT], 1e-6f, &y);
}

static void route(struct gpu_command *cmd, uint32_t tokens, uint32_t depth)
{
    (void)depth;
    op_moe_route(ops, cmd, buffers[SMALL], tokens, EXPERTS, TOP_K, true, buffers[OUT], buffers[OUT2]);
}

static void gated(struct gpu_command *cmd, uint32_t tokens, uint32_t depth)
{
    (void)depth;
    op_gated_add(ops, cmd, buffers[IN], buffers[SMALL], 1, tokens, HIDDEN, buffers[OUT]);
}

// Of the fastest run; `first` is the processor time of the first one, which compiles.
static double seconds_and_processor(const struct job *job, double *processor, double *first)
{
    double best = 1e9;
    *processor = 1e9;
    *first = 0;
    for (int i = 0; i < REPEATS + 1; i++) {
        struct gpu_command *cmd;
        require(gpu_command_begin(device, &cmd));
        job->record(cmd, job->tokens, job->depth);
        double cpu = processor_seconds();
        uint64_t start_ns = clock_ns();
        submit(cmd);
        double seconds = 1e-9 * (double)(clock_ns() - start_ns);
        cpu = processor_seconds() - cpu;
        if (i == 0) {
            *first = cpu;
            continue;
        }
        best = seconds < best ? seconds : best;
        *processor = cpu < *processor ? cpu : *processor;
    }
    return best;
}

static void time_job(const struct job *job)
{
    double processor, first, seconds = seconds_and_processor(job, &processor, &first);
    printf("%-11s %4u tokens at %5u  %9.3f ms  processor %9.3f ms, %7.2f GFLOP/s, %7.2f GB/s, first %.0f ms\n",
           job->name, job->tokens, job->depth, seconds * 1e3, processor * 1e3, job->flops / processor * 1e-9,
           job->bytes / processor * 1e-9, (first - processor) * 1e3);
    fflush(stdout);
}

// Scores and values of one position: 2 * 2 * 16 * 256 operations, and 2 * 2 * 256 values of K and V.
static struct job attend_job(const char *name, void (*record)(struct gpu_command *, uint32_t, uint32_t),
                             uint32_t tokens, uint32_t depth, double value_bytes)
{
    double pairs = (double)tokens * depth + 0.5 * tokens * (tokens + 1.0);
    return (struct job){name, record, tokens, depth, 16384 * pairs, 1024 * value_bytes * (depth + tokens)};
}

int main(int argc, char **argv)
{
    require(gpu_device_create(&(struct gpu_device_options){.name = argc > 2 ? argv[2] : NULL}, &device));
    require(ops_create(device, NULL, &ops));
    printf("%s\n", gpu_device_caps(device)->device_name);
    for (int i = 0; i < BUFFER_COUNT; i++)
        buffers[i] = buffer_make((enum buffer)i);
    const double scan_flops = 32.0 * 128 * 128 * 7, scan_bytes = 4.0 * (8192 + 4096), state = 8.0 * 32 * 128 * 128;
    const struct job jobs[] = {
        attend_job("attend_f16", attend_f16, 1, DEPTH, 2),
        attend_job("attend_f32", attend_f32, 1, DEPTH, 4),
        attend_job("attend_f16", attend_f16, 1, 2048, 2),
        attend_job("attend_f16", attend_f16, RUN, 0, 2),
        attend_job("attend_f32", attend_f32, RUN, 0, 4),
        attend_job("attend_f16", attend_f16, 32, DEPTH, 2),
        {"scan", scan, 1, 0, scan_flops, scan_bytes + state},
        {"scan", scan, RUN, 0, RUN * scan_flops, RUN * scan_bytes + state},
        {"scan_small", scan_small, RUN, 0, RUN * 4.0 * 64 * 64 * 7, RUN * 4.0 * 1024 + 8.0 * 4 * 64 * 64},
        {"conv", conv, 1, 0, 8192 * 8.0, 8192 * 8.0},
        {"conv", conv, RUN, 0, RUN * 8192 * 8.0, RUN * 8192 * 8.0},
        {"delta_norm", gated_norm, 1, 0, 4096 * 6.0, 4096 * 12.0},
        {"delta_norm", gated_norm, RUN, 0, RUN * 4096 * 6.0, RUN * 4096 * 12.0},
        {"norm_rms", norm, 1, 0, HIDDEN * 4.0, HIDDEN * 12.0},
        {"norm_rms", norm, RUN, 0, RUN * HIDDEN * 4.0, RUN * HIDDEN * 8.0},
        {"route", route, 1, 0, EXPERTS, EXPERTS * 4.0},
        {"route", route, RUN, 0, RUN * EXPERTS, RUN * EXPERTS * 4.0},
        {"rope", rope, 1, DEPTH, 5120 * 4.0, 9216 * 8.0},
        {"rope", rope, RUN, 0, RUN * 5120 * 4.0, RUN * 9216 * 8.0},
        {"merge", merge, 1, DEPTH, 4096 * 64 * 2.0, 4096 * 66 * 4.0},
        {"merge", merge, RUN, 0, RUN * 4096 * 2.0, RUN * 4096 * 12.0},
        {"gated_add", gated, RUN, 0, RUN * HIDDEN * 2.0, RUN * HIDDEN * 12.0},
    };
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++)
        if (argc < 2 || strstr(jobs[i].name, argv[1]))
            time_job(&jobs[i]);
    for (int i = 0; i < BUFFER_COUNT; i++)
        gpu_buffer_destroy(buffers[i].buffer);
    ops_destroy(ops);
    gpu_device_destroy(device);
    return 0;
}
