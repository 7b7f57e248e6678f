#include "tools/bench_run.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/integer.h"
#include "runtime/base/mem.h"
#include "runtime/base/memory_available.h"
#include "runtime/base/random.h"
#include "tools/cli.h"
#include "tools/expert_trace.h"

struct bench {
    struct sluice_engine *engine;
    struct sluice_session *sessions[SLUICE_SESSIONS_MAX]; // [session_count]
    uint32_t session_count;
    uint32_t vocab;
    uint64_t random_state;
    int32_t *ids;               // of the running prefill, owned
    struct expert_trace *trace; // NULL: none; owned

    // When the running measurement began.
    uint64_t start_ns, start_cpu_ns, start_thread_cpu_ns;
    struct bench_kernel kernels_before[BENCH_KERNELS_MAX];
    uint32_t kernels_before_count;

    // Which experts the running pass selected: seen[layer][expert] is `pass`.
    uint32_t *seen, pass; // owned
    uint64_t experts_used;
};

static int32_t random_id(struct bench *b)
{
    return (int32_t)(random_next(&b->random_state) % b->vocab);
}

// --- GPU time of a run ----------------------------------------------------------------------------------------------

struct kernel_list {
    struct bench_kernel *items; // [BENCH_KERNELS_MAX]
    uint32_t count;
};

static void add_kernel(void *user, const char *name, uint64_t ns, uint64_t count)
{
    struct kernel_list *list = user;
    if (list->count < BENCH_KERNELS_MAX)
        list->items[list->count++] = (struct bench_kernel){name, ns, count};
}

static uint32_t list_kernels(struct bench *b, struct bench_kernel *kernels)
{
    struct kernel_list list = {.items = kernels};
    sluice_gpu_times(b->engine, add_kernel, &list);
    return list.count;
}

static int compare_kernels(const void *a, const void *b)
{
    uint64_t x = ((const struct bench_kernel *)a)->ns, y = ((const struct bench_kernel *)b)->ns;
    return (x < y) - (x > y);
}

// What the device's totals grew by since the run began.
static void subtract_kernels(const struct bench *b, struct bench_result *r)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->kernel_count; i++) {
        struct bench_kernel kernel = r->kernels[i];
        for (uint32_t j = 0; j < b->kernels_before_count; j++)
            if (strcmp(b->kernels_before[j].name, kernel.name) == 0) {
                kernel.ns -= b->kernels_before[j].ns;
                kernel.count -= b->kernels_before[j].count;
            }
        if (kernel.count)
            r->kernels[kept++] = kernel;
    }
    r->kernel_count = kept;
    qsort(r->kernels, kept, sizeof *r->kernels, compare_kernels);
}

// --- one run --------------------------------------------------------------------------------------------------------

// Layers that selected experts in any pass.
static uint32_t count_expert_layers(const struct bench *b)
{
    const struct sluice_model *m = sluice_engine_model(b->engine);
    uint32_t count = 0;
    for (uint32_t layer = 0; layer < m->layers; layer++) {
        bool used = false;
        for (uint32_t expert = 0; expert < m->experts; expert++)
            used |= b->seen[(size_t)layer * m->experts + expert] != 0;
        count += used;
    }
    return count;
}

static enum sluice_status count_experts(void *user, uint32_t layer, uint32_t first_token, uint32_t rows,
                                        const uint32_t *ids)
{
    struct bench *b = user;
    const struct sluice_model *m = sluice_engine_model(b->engine);
    uint32_t *seen = &b->seen[(size_t)layer * m->experts];
    (void)first_token;
    for (size_t i = 0; i < (size_t)rows * m->top_k; i++) {
        b->experts_used += seen[ids[i]] != b->pass;
        seen[ids[i]] = b->pass;
    }
    if (b->trace)
        expert_trace_take(b->trace, layer, rows, ids);
    return cli_check_interrupt();
}

static void begin_step(struct bench *b, enum trace_kind kind)
{
    b->pass++;
    if (b->trace)
        expert_trace_step(b->trace, kind);
}

static void begin(struct bench *b)
{
    if (b->trace)
        expert_trace_step(b->trace, TRACE_MARK);
    b->kernels_before_count = list_kernels(b, b->kernels_before);
    sluice_stats_reset(b->engine);
    b->experts_used = 0;
    b->start_cpu_ns = clock_process_cpu_ns();
    b->start_thread_cpu_ns = clock_thread_cpu_ns();
    b->start_ns = clock_ns();
}

static void end(struct bench *b, struct bench_result *r)
{
    r->ns = clock_ns() - b->start_ns;
    uint64_t thread_cpu_ns = clock_thread_cpu_ns() - b->start_thread_cpu_ns;
    r->cpu_ns = clock_process_cpu_ns() - b->start_cpu_ns;
    r->experts_used = b->experts_used;
    sluice_stats(b->engine, &r->stats);
    // Recording, and reading and waiting for the drive on this thread, are estimates from some of its calls: they may
    // come out larger than what was spent.
    r->wait_cpu_ns = u64_min(r->stats.wait_gpu_cpu_ns + r->stats.wait_drive_cpu_ns, thread_cpu_ns);
    uint64_t busy_ns = thread_cpu_ns - r->wait_cpu_ns;
    r->stats.record_cpu_ns = u64_min(r->stats.record_cpu_ns, busy_ns);
    uint64_t estimate_ns = r->stats.io_caller_cpu_ns, rest_ns = busy_ns - r->stats.record_cpu_ns;
    uint64_t reading_ns = u64_min(estimate_ns, rest_ns);
    r->stats.io_cpu_ns -= estimate_ns - reading_ns;
    r->thread_cpu_ns = busy_ns - reading_ns;
    r->host_cpu_ns = r->thread_cpu_ns + r->stats.io_cpu_ns;
    r->kernel_count = list_kernels(b, r->kernels);
    subtract_kernels(b, r);
}

static enum sluice_status prefill(struct bench *b, struct sluice_session *session, uint32_t tokens)
{
    const struct sluice_tap tap = {.user = b, .experts = count_experts};
    begin_step(b, TRACE_SWEEP);
    return sluice_prefill(session, b->ids, tokens, &(struct sluice_prefill_options){.tap = &tap});
}

// A session with `depth` tokens of context, the same in every run.
static enum sluice_status prepare(struct sluice_session *session, uint32_t depth)
{
    return sluice_session_fill(session, depth, 1);
}

static enum sluice_status run_prefill(struct bench *b, const struct bench_options *options, uint32_t tokens,
                                      struct bench_result *r)
{
    enum sluice_status status;
    *r = (struct bench_result){.tokens = tokens, .sessions = 1, .passes = 1};
    for (uint32_t i = 0; i < tokens; i++)
        b->ids[i] = random_id(b);
    TRY(prepare(b->sessions[0], options->depth));
    begin(b);
    TRY(prefill(b, b->sessions[0], tokens));
    end(b, r);
fail:
    return status;
}

static enum sluice_status run_decode(struct bench *b, const struct bench_options *options, uint32_t tokens,
                                     struct bench_result *r)
{
    enum sluice_status status = SLUICE_OK;
    const struct sluice_tap tap = {.user = b, .experts = count_experts};
    *r = (struct bench_result){.tokens = tokens * b->session_count, .sessions = b->session_count, .passes = tokens};
    for (uint32_t s = 0; s < b->session_count; s++)
        TRY(prepare(b->sessions[s], options->depth));
    begin(b);
    for (uint32_t i = 0; i < tokens; i++) {
        int32_t ids[SLUICE_SESSIONS_MAX];
        for (uint32_t s = 0; s < b->session_count; s++)
            ids[s] = random_id(b);
        begin_step(b, TRACE_DECODE);
        TRY(sluice_decode(b->engine, b->sessions, ids, b->session_count, &tap));
    }
    end(b, r);
fail:
    return status;
}

// --- all runs -------------------------------------------------------------------------------------------------------

typedef enum sluice_status run_function(struct bench *b, const struct bench_options *options, uint32_t tokens,
                                        struct bench_result *r);

static int compare_results(const void *a, const void *b)
{
    uint64_t x = ((const struct bench_result *)a)->ns, y = ((const struct bench_result *)b)->ns;
    return (x > y) - (x < y);
}

// runs[options->repeat] is room for the results of all.
static enum sluice_status measure(struct bench *b, const struct bench_options *options, run_function *run,
                                  uint32_t tokens, struct bench_result *runs, struct bench_result *median)
{
    enum sluice_status status;
    TRY(run(b, options, tokens, &runs[0])); // does not count
    for (uint32_t i = 0; i < options->repeat; i++)
        TRY(run(b, options, tokens, &runs[i]));
    qsort(runs, options->repeat, sizeof *runs, compare_results);
    *median = runs[(options->repeat - 1) / 2];
    median->ns_min = runs[0].ns;
    median->ns_max = runs[options->repeat - 1].ns;
fail:
    return status;
}

static uint32_t longest_prefill(const struct bench_options *options)
{
    uint32_t most = 1;
    for (uint32_t i = 0; i < options->prompt_count; i++)
        most = options->prompts[i] > most ? options->prompts[i] : most;
    return most;
}

enum sluice_status bench_run(struct sluice_engine *engine, const struct bench_options *options,
                             struct bench_results *results)
{
    enum sluice_status status;
    const struct sluice_model *model = sluice_engine_model(engine);
    struct bench b = {.engine = engine, .vocab = model->vocab, .random_state = 1};
    struct bench_result *runs = mem_alloc(options->repeat, sizeof *runs);
    b.ids = mem_alloc(longest_prefill(options), sizeof *b.ids);
    b.seen = mem_alloc((size_t)model->layers * (model->experts + 1), sizeof *b.seen);
    TRY(runs && b.ids && b.seen ? SLUICE_OK : SLUICE_ERR_MEMORY);
    if (options->trace_path)
        TRY(expert_trace_create(options->trace_path, engine, &b.trace));
    for (uint32_t wanted = options->sessions ? options->sessions : 1; b.session_count < wanted; b.session_count++)
        TRY(sluice_session_create(engine, &b.sessions[b.session_count]));
    for (uint32_t i = 0; i < options->prompt_count; i++)
        TRY(measure(&b, options, run_prefill, options->prompts[i], runs, &results->prefills[i]));
    if (options->generate)
        TRY(measure(&b, options, run_decode, options->generate, runs, &results->decode));
    results->expert_layers = count_expert_layers(&b);
    struct expert_trace *trace = b.trace;
    b.trace = NULL;
    TRY(expert_trace_finish(trace));
    results->peak_rss_bytes = memory_resident_bytes_max();
fail:
    expert_trace_abandon(b.trace);
    for (uint32_t i = 0; i < b.session_count; i++)
        sluice_session_destroy(b.sessions[i]);
    mem_free(runs);
    mem_free(b.ids);
    mem_free(b.seen);
    return status;
}
