#include "tools/bench/roof.h"

#include <string.h>
#include <time.h>

#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/doubles.h"
#include "runtime/base/mem.h"
#include "shaders/roof_params.h"
#include "shaders/shader_params.h"

enum { ROUND_TRIPS = 101, DISPATCHES = 256, SMALL_BYTES = 256, OUT_BYTES = 8 << 20 };

static const double PROBE_SECONDS = 0.1;

struct prober {
    struct stopwatch watch;
    struct gpu_buffer *in, *out;
};

// One kernel at one size of workgroup and grid.
struct shot {
    struct prober *prober;
    const struct gpu_kernel *kernel;
    const void *push;
    size_t push_bytes;
    uint32_t groups;
    bool reads;
};

static void fire(void *user, struct gpu_command *cmd)
{
    struct shot *s = user;
    struct gpu_buffer *out = s->prober->out, *in = s->prober->in;
    struct gpu_range to = gpu_range_all(out);
    struct gpu_range both[] = {s->reads ? gpu_range_all(in) : to, to};
    gpu_dispatch(cmd, s->kernel, s->reads ? both : &to, s->reads ? 2 : 1, s->push, s->push_bytes, s->groups, 1, 1);
}

// A software driver's 8 lanes are one vector of its processor.
static const uint32_t lanes_software[] = {8, 64}, lanes_gpu[] = {64, 256}, groups_tried[] = {256, 2048};
enum { LANES_TRIED = 2, GROUPS_TRIED = 2 };

static const uint32_t *lanes_tried(const struct prober *p)
{
    return gpu_device_caps(p->watch.device)->is_software ? lanes_software : lanes_gpu;
}

static enum sluice_status probe_read_with(struct prober *p, uint32_t lanes, uint32_t groups, bool ahead,
                                          double *bytes_s)
{
    enum sluice_status status;
    const uint32_t constants[] = {lanes, ahead};
    uint64_t loads = gpu_buffer_bytes(p->in) / 16 / lanes / groups / ROOF_LOADS * ROOF_LOADS;
    struct roof_read_push push = {.chunk_loads = (uint32_t)loads};
    struct shot shot = {p, NULL, &push, sizeof push, groups, true};
    struct stopwatch_time time;
    if (loads == 0)
        return SLUICE_OK;
    TRY(gpu_kernel_get(p->watch.device, SHADER_ROOF_READ, constants, 2, &shot.kernel));
    TRY(stopwatch_measure(&p->watch, fire, &shot, &time));
    double rate = 16.0 * (double)loads * lanes * groups / time.seconds;
    *bytes_s = rate > *bytes_s ? rate : *bytes_s;
fail:
    return status;
}

static enum sluice_status probe_read(struct prober *p, double *bytes_s)
{
    enum sluice_status status = SLUICE_OK;
    bool software = gpu_device_caps(p->watch.device)->is_software;
    for (int i = 0; i < LANES_TRIED * GROUPS_TRIED; i++) {
        uint32_t lanes = lanes_tried(p)[i % LANES_TRIED], groups = groups_tried[i / LANES_TRIED];
        TRY(probe_read_with(p, lanes, groups, false, bytes_s));
        if (software)
            TRY(probe_read_with(p, lanes, groups, true, bytes_s));
    }
fail:
    return status;
}

// `lane_ops`: operations per lane and round.
static enum sluice_status probe_compute(struct prober *p, enum shader_id shader, bool integer_dot, uint32_t a,
                                        uint32_t b, double lane_ops, double *ops_s)
{
    enum sluice_status status = SLUICE_OK;
    bool software = gpu_device_caps(p->watch.device)->is_software;
    for (int i = 0; i < LANES_TRIED; i++) {
        const uint32_t constants[] = {lanes_tried(p)[i], integer_dot}, groups = software ? 64 : 4096;
        struct roof_compute_push push = {.rounds = software ? 128 : 256, .a = a, .b = b};
        struct shot shot = {p, NULL, &push, sizeof push, groups, false};
        struct stopwatch_time time;
        TRY(gpu_kernel_get(p->watch.device, shader, constants, shader == SHADER_ROOF_DOT ? 2 : 1, &shot.kernel));
        TRY(stopwatch_measure(&p->watch, fire, &shot, &time));
        double rate = lane_ops * push.rounds * constants[0] * groups / time.seconds;
        *ops_s = rate > *ops_s ? rate : *ops_s;
    }
fail:
    return status;
}

static enum sluice_status probe_arithmetic(struct prober *p, struct roof *roof)
{
    enum sluice_status status;
    const uint32_t near_one = 0x3F7FFFF0, small = 0x3A83126F; // 0.999999 and 0.001: the sums stay ordinary numbers
    const struct {
        const char *name;
        enum shader_id shader;
        bool integer_dot;
    } ways[] = {
        {"dot product instruction", SHADER_ROOF_DOT, true},
        {"shifts and multiplies", SHADER_ROOF_DOT, false},
        {"64-bit multiplies", SHADER_ROOF_DOT64, false},
    };
    TRY(probe_compute(p, SHADER_ROOF_FMA, false, near_one, small, 2.0 * ROOF_STEPS * ROOF_FMA_CHAINS,
                      &roof->fma_ops_s));
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        double ops_s = 0;
        if (ways[i].shader == SHADER_ROOF_DOT64 && !gpu_device_caps(p->watch.device)->has_int64)
            continue;
        TRY(probe_compute(p, ways[i].shader, ways[i].integer_dot, 0x7F03FD81, 1, 8.0 * ROOF_STEPS * ROOF_DOT_CHAINS,
                          &ops_s));
        if (ops_s > roof->dot_ops_s) {
            roof->dot_ops_s = ops_s;
            roof->dot_way = ways[i].name;
        }
    }
fail:
    return status;
}

// --- what a dispatch and a submission cost --------------------------------------------------------------------------

struct small_dispatches {
    struct prober *prober;
    const struct gpu_kernel *kernel;
    unsigned count;
    bool dependent; // each writes where the one before it wrote
};

static void record_small(void *user, struct gpu_command *cmd)
{
    struct small_dispatches *s = user;
    const struct probe_push push = {.count = SMALL_BYTES / 4, .multiplier = 3, .addend = 1};
    for (unsigned i = 0; i < s->count; i++) {
        struct gpu_range ranges[] = {
            gpu_range_make(s->prober->in, 0, SMALL_BYTES),
            gpu_range_make(s->prober->out, s->dependent ? 0 : (uint64_t)i * SMALL_BYTES, SMALL_BYTES)};
        gpu_dispatch(cmd, s->kernel, ranges, 2, &push, sizeof push, 1, 1, 1);
    }
}

static enum sluice_status probe_dispatch(struct prober *p, bool dependent, double *seconds)
{
    enum sluice_status status;
    struct small_dispatches s = {.prober = p, .dependent = dependent};
    struct stopwatch_time one, many;
    TRY(gpu_kernel_get(p->watch.device, SHADER_PROBE, NULL, 0, &s.kernel));
    s.count = 1;
    TRY(stopwatch_measure(&p->watch, record_small, &s, &one));
    s.count = DISPATCHES + 1;
    TRY(stopwatch_measure(&p->watch, record_small, &s, &many));
    *seconds = many.seconds > one.seconds ? (many.seconds - one.seconds) / DISPATCHES : 0;
fail:
    return status;
}

static enum sluice_status probe_submit(struct prober *p, struct roof *roof)
{
    enum sluice_status status = SLUICE_OK;
    double round_trips[ROUND_TRIPS], records[ROUND_TRIPS];
    struct small_dispatches s = {.prober = p, .count = 1};
    TRY(gpu_kernel_get(p->watch.device, SHADER_PROBE, NULL, 0, &s.kernel));
    for (int i = 0; i < ROUND_TRIPS; i++) {
        struct gpu_command *cmd;
        uint64_t tick;
        TRY(gpu_command_begin(p->watch.device, &cmd));
        uint64_t begin_ns = clock_ns();
        record_small(&s, cmd);
        uint64_t recorded_ns = clock_ns();
        TRY(gpu_command_submit(cmd, &tick));
        TRY(gpu_wait(p->watch.device, tick));
        records[i] = clock_seconds(recorded_ns - begin_ns);
        round_trips[i] = clock_seconds(clock_ns() - recorded_ns);
    }
    roof->round_trip_s = doubles_median(round_trips, ROUND_TRIPS);
    roof->record_s = doubles_median(records, ROUND_TRIPS);
fail:
    return status;
}

// --- all of it ------------------------------------------------------------------------------------------------------

static enum sluice_status probe_host(double *bytes_s)
{
    enum { WORDS = 16 << 20 };
    volatile uint64_t keep;
    uint64_t *data = mem_alloc(WORDS, sizeof *data), sum = 0;
    if (!data)
        return SLUICE_ERR_MEMORY;
    memset(data, 1, WORDS * sizeof *data);
    clock_t start = clock();
    for (int round = 0; round < 4; round++)
        for (size_t i = 0; i < WORDS; i++)
            sum += data[i];
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    keep = sum;
    (void)keep;
    *bytes_s = seconds > 0 ? 4.0 * WORDS * sizeof *data / seconds : 0;
    mem_free(data);
    return SLUICE_OK;
}

// As large as one binding may be, 512 MiB at most; every page written, so that it has memory of its own.
static enum sluice_status create_buffers(struct prober *p)
{
    enum sluice_status status;
    const struct gpu_caps *caps = gpu_device_caps(p->watch.device);
    uint64_t bytes = caps->is_software ? 128u << 20 : 512u << 20;
    while (bytes > caps->max_buffer_bytes || bytes > caps->device_budget_bytes / 2)
        bytes /= 2;
    struct gpu_command *cmd;
    uint64_t tick;
    TRY(gpu_buffer_create(p->watch.device, GPU_MEMORY_DEVICE, bytes, "roof, read", &p->in));
    TRY(gpu_buffer_create(p->watch.device, GPU_MEMORY_DEVICE, OUT_BYTES, "roof, written", &p->out));
    TRY(gpu_command_begin(p->watch.device, &cmd));
    gpu_clear(cmd, gpu_range_make(p->in, 0, bytes));
    gpu_clear(cmd, gpu_range_make(p->out, 0, OUT_BYTES));
    TRY(gpu_command_submit(cmd, &tick));
    TRY(gpu_wait(p->watch.device, tick));
fail:
    return status;
}

enum sluice_status roof_probe(struct gpu_device *device, struct roof *roof)
{
    enum sluice_status status;
    struct prober prober = {.watch = {.device = device, .seconds_max = PROBE_SECONDS}};
    *roof = (struct roof){.dot_way = "?"};
    TRY(create_buffers(&prober));
    TRY(probe_read(&prober, &roof->read_bytes_s));
    TRY(probe_arithmetic(&prober, roof));
    TRY(probe_submit(&prober, roof));
    TRY(probe_dispatch(&prober, false, &roof->dispatch_s));
    TRY(probe_dispatch(&prober, true, &roof->dependent_s));
    TRY(probe_host(&roof->host_read_bytes_s));
fail:
    gpu_buffer_destroy(prober.in);
    gpu_buffer_destroy(prober.out);
    return status;
}
