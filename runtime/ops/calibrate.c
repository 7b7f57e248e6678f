#include "runtime/ops/calibrate.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "quant/tile.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { BUDGET_MS = 700, WAIT_MS = 3000, ROUNDS = 6, COLS = 4096, MATRIX_TOKENS = 128 };

// A software driver's matrix takes a millisecond. Each run has another copy of the matrix, so that none finds its
// weights in a cache: no layer of a model does.
enum { ROWS_SOFTWARE = 2048, COPIES_SOFTWARE = 14, ROWS_GPU = 24576, COPIES_GPU = 4, MATRIX_ROWS = 4096 };

// A choice has to be so much faster than the present one.
static const double GAIN_LEAST = 1.03;

struct bench {
    struct ops *ops;
    struct gpu_range weights, q8, q8_scales, y;
    uint32_t rows, copies; // of the matrix in `weights`
    uint32_t next_copy;
    uint64_t start_ns, start_processor_ns;
    bool gpu_time;
};

static uint64_t processor_ns(void)
{
    struct timespec t;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) != 0)
        return clock_ns();
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// The budget is processor time, without that of compiling, so that neither other programs nor the state of the driver's
// cache decide how much is measured; but nobody should wait long for it either.
static bool in_budget(const struct bench *b)
{
    return processor_ns() - b->start_processor_ns < BUDGET_MS * 1000000ull &&
           clock_ns() - b->start_ns < WAIT_MS * 1000000ull;
}

// A software device works in this process.
static uint64_t host_ns(const struct bench *b)
{
    return b->ops->caps->is_software ? processor_ns() : clock_ns();
}

// --- buffers --------------------------------------------------------------------------------------------------------

static enum sluice_status range_create(struct ops *ops, uint64_t bytes, struct gpu_range *range)
{
    struct gpu_buffer *buffer;
    enum sluice_status status = gpu_buffer_create(ops->device, GPU_MEMORY_DEVICE, bytes, "calibration", &buffer);
    if (status == SLUICE_OK)
        *range = gpu_range_make(buffer, 0, bytes);
    return status;
}

static void bench_finish(struct bench *b)
{
    gpu_buffer_destroy(b->weights.buffer);
    gpu_buffer_destroy(b->q8.buffer);
    gpu_buffer_destroy(b->q8_scales.buffer);
    gpu_buffer_destroy(b->y.buffer);
    gpu_usage_forget_peaks(b->ops->device);
}

static uint64_t matrix_bytes(uint32_t rows)
{
    return quant_tile_bytes(QUANT_Q4_K, rows, COLS);
}

// Fewer copies, then fewer rows, where the device is small.
static void choose_size(struct bench *b, const struct gpu_caps *caps)
{
    uint64_t most = caps->device_budget_bytes / 16;
    if (most > caps->max_buffer_bytes)
        most = caps->max_buffer_bytes;
    b->rows = caps->is_software ? ROWS_SOFTWARE : ROWS_GPU;
    b->copies = caps->is_software ? COPIES_SOFTWARE : COPIES_GPU;
    while (b->copies > 1 && b->copies * matrix_bytes(b->rows) > most)
        b->copies--;
    while (b->rows > QUANT_TILE_ROWS && matrix_bytes(b->rows) > most)
        b->rows /= 2;
}

// Zeros, so that every page has its own memory and no number is slow.
static enum sluice_status clear(struct bench *b)
{
    struct gpu_command *cmd;
    uint64_t tick;
    enum sluice_status status;
    TRY(gpu_command_begin(b->ops->device, &cmd));
    gpu_clear(cmd, b->weights);
    gpu_clear(cmd, b->q8);
    gpu_clear(cmd, b->q8_scales);
    TRY(gpu_command_submit(cmd, &tick));
    TRY(gpu_wait(b->ops->device, tick));
fail:
    return status;
}

static enum sluice_status bench_create(struct ops *ops, struct bench *b)
{
    enum sluice_status status;
    *b = (struct bench){.ops = ops, .start_ns = clock_ns(), .start_processor_ns = processor_ns()};
    choose_size(b, ops->caps);
    uint32_t tokens = ops->caps->is_software ? 1 : MATRIX_TOKENS;
    uint64_t values = (uint64_t)tokens * u32_min(b->rows, MATRIX_ROWS);
    TRY(range_create(ops, b->copies * matrix_bytes(b->rows), &b->weights));
    TRY(range_create(ops, tokens * COLS, &b->q8));
    TRY(range_create(ops, tokens * COLS / 32 * 8, &b->q8_scales));
    TRY(range_create(ops, 4 * (values > b->rows ? values : b->rows), &b->y));
    TRY(clear(b));
    return SLUICE_OK;
fail:
    bench_finish(b);
    return status;
}

// --- one measurement ------------------------------------------------------------------------------------------------

static const char trial_label[] = "calibration";

static void take_time(void *user, const char *label, uint64_t total_ns, uint64_t count)
{
    (void)count;
    if (strcmp(label, trial_label) == 0)
        *(uint64_t *)user = total_ns;
}

static void record(struct bench *b, enum tuning_trial trial, struct gpu_command *cmd)
{
    uint32_t rows = trial == TUNING_TRIAL_MATRIX ? u32_min(b->rows, MATRIX_ROWS) : b->rows;
    uint64_t copy = b->next_copy++ % b->copies;
    struct gpu_range weights = gpu_range_part(b->weights, copy * matrix_bytes(b->rows), matrix_bytes(rows));
    struct tensor_part part = {.range = weights, .rows = rows};
    struct tensor w = {.type = QUANT_Q4_K, .rows = rows, .cols = COLS, .part_count = 1, .parts = &part};
    struct activations x = {
        .n = trial == TUNING_TRIAL_MATRIX ? MATRIX_TOKENS : 1, .cols = COLS, .q8 = b->q8, .q8_scales = b->q8_scales};
    gpu_label(cmd, trial_label);
    ops_set_prefill(b->ops, trial == TUNING_TRIAL_MATRIX);
    op_matmul(b->ops, cmd, &w, &x, b->y, rows, false);
    ops_set_prefill(b->ops, false);
}

static enum sluice_status run(struct bench *b, enum tuning_trial trial, uint64_t *ns)
{
    struct gpu_command *cmd;
    uint64_t tick;
    enum sluice_status status;
    if (b->gpu_time)
        gpu_times_reset(b->ops->device);
    TRY(gpu_command_begin(b->ops->device, &cmd));
    record(b, trial, cmd);
    uint64_t start_ns = host_ns(b);
    TRY(gpu_command_submit(cmd, &tick));
    TRY(gpu_wait(b->ops->device, tick));
    *ns = host_ns(b) - start_ns;
    if (b->gpu_time)
        gpu_times(b->ops->device, take_time, ns);
fail:
    return status;
}

// --- one knob -------------------------------------------------------------------------------------------------------

struct contest {
    struct tuning tunings[TUNING_KNOB_CHOICES_MAX + 1]; // [0] is the present one
    double scores[TUNING_KNOB_CHOICES_MAX + 1];         // sums of logarithms of the least times
    uint32_t count;
};

static void contest_fill(const struct bench *b, const struct tuning_knob *knob, uint32_t banned, struct contest *c)
{
    *c = (struct contest){.tunings = {b->ops->tuning}, .count = 1};
    for (uint32_t i = 0; i < knob->choice_count; i++) {
        struct tuning t = b->ops->tuning;
        memcpy(tuning_knob_values(knob, &t), knob->choices[i], 4 * knob->width);
        bool other = memcmp(&t, &b->ops->tuning, sizeof t) != 0;
        if (other && tuning_is_valid(&t, b->ops->caps) && !(tuning_paths(&t) & banned))
            c->tunings[c->count++] = t;
    }
}

// The choices take turns, so that a clock that speeds up or another program favours none. *in_time is false when the
// deadline came first; the scores are then incomplete.
static enum sluice_status contest_run(struct bench *b, enum tuning_trial trial, struct contest *c, bool *in_time)
{
    enum sluice_status status = SLUICE_OK;
    const struct tuning before = b->ops->tuning;
    uint64_t least[TUNING_KNOB_CHOICES_MAX + 1], ns;
    memset(least, 0xFF, sizeof least);
    for (uint32_t i = 0; i < c->count * (ROUNDS + 1) && *in_time; i++) {
        uint32_t which = i % c->count;
        uint64_t start_ns = processor_ns();
        b->ops->tuning = c->tunings[which];
        TRY(run(b, trial, &ns));
        if (i < c->count) // the first round compiles
            b->start_processor_ns += processor_ns() - start_ns;
        else if (ns < least[which])
            least[which] = ns;
        *in_time = in_budget(b);
    }
    for (uint32_t i = 0; i < c->count && *in_time; i++)
        c->scores[i] += log(least[i] ? (double)least[i] : 1);
fail:
    b->ops->tuning = before;
    return status;
}

static enum sluice_status turn_knob(struct bench *b, const struct tuning_knob *knob, uint32_t banned, bool *in_time)
{
    enum sluice_status status = SLUICE_OK;
    struct contest contest;
    uint32_t best = 0, trials = 0;
    contest_fill(b, knob, banned, &contest);
    for (enum tuning_trial trial = TUNING_TRIAL_VECTOR; trial <= TUNING_TRIAL_MATRIX && contest.count > 1; trial <<= 1)
        if (knob->trials & trial) {
            TRY(contest_run(b, trial, &contest, in_time));
            trials++;
        }
    for (uint32_t i = 1; i < contest.count && *in_time; i++)
        if (contest.scores[i] < contest.scores[best] - (best ? 0 : trials * log(GAIN_LEAST)))
            best = i;
    if (trials > 0 && *in_time)
        log_message(LOG_DEBUG, "calibration of %s: %.3f ms, at first %.3f ms", knob->name,
                    1e-6 * exp(contest.scores[best] / trials), 1e-6 * exp(contest.scores[0] / trials));
    b->ops->tuning = contest.tunings[best];
fail:
    return status;
}

enum sluice_status calibrate(struct ops *ops, uint32_t banned, uint32_t *measured, bool *complete)
{
    struct bench bench;
    uint32_t count;
    bool in_time = true, timed;
    const struct tuning_knob *knobs = tuning_knobs(ops->caps, &count);
    *measured = 0;
    *complete = false;
    enum sluice_status status = bench_create(ops, &bench);
    if (status < 0)
        return status;
    timed = gpu_times_enabled(ops->device);
    bench.gpu_time = !ops->caps->is_software && gpu_times_enable(ops->device, true);
    for (uint32_t i = 0; i < count && in_time && status >= 0; i++) {
        status = turn_knob(&bench, &knobs[i], banned, &in_time);
        *measured += in_time;
    }
    *complete = *measured == count;
    gpu_times_reset(ops->device);
    gpu_times_enable(ops->device, timed);
    bench_finish(&bench);
    return status;
}
