#include "tools/bench_run.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

struct bench {
    struct sluice_engine *engine;
    struct sluice_session *session;
    uint32_t vocab;
    uint64_t random_state;
    int32_t *ids; // of the running prefill, owned

    // When the running measurement began.
    uint64_t start_ns, start_cpu_ns;
    struct bench_kernel kernels_before[BENCH_KERNELS_MAX];
    uint32_t kernels_before_count;
};

// splitmix64
static int32_t random_id(struct bench *b)
{
    uint64_t z = b->random_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (int32_t)((z ^ z >> 31) % b->vocab);
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

static uint64_t cpu_ns(void)
{
    struct timespec time;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) != 0)
        return 0;
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void begin(struct bench *b)
{
    b->kernels_before_count = list_kernels(b, b->kernels_before);
    sluice_stats_reset(b->engine);
    b->start_cpu_ns = cpu_ns();
    b->start_ns = clock_ns();
}

static void end(struct bench *b, struct bench_result *r)
{
    r->ns = clock_ns() - b->start_ns;
    r->cpu_ns = cpu_ns() - b->start_cpu_ns;
    sluice_stats(b->engine, &r->stats);
    r->kernel_count = list_kernels(b, r->kernels);
    subtract_kernels(b, r);
}

// An empty session and the ids of a prefill.
static enum sluice_status prepare(struct bench *b, uint32_t tokens)
{
    for (uint32_t i = 0; i < tokens; i++)
        b->ids[i] = random_id(b);
    return sluice_session_reset(b->session);
}

static enum sluice_status run_prefill(struct bench *b, const struct bench_options *options, uint32_t tokens,
                                      struct bench_result *r)
{
    enum sluice_status status;
    (void)options;
    *r = (struct bench_result){.tokens = tokens, .passes = 1};
    TRY(prepare(b, tokens));
    begin(b);
    TRY(sluice_prefill(b->session, b->ids, tokens, NULL));
    end(b, r);
fail:
    return status;
}

static enum sluice_status run_decode(struct bench *b, const struct bench_options *options, uint32_t tokens,
                                     struct bench_result *r)
{
    enum sluice_status status;
    *r = (struct bench_result){.tokens = tokens, .passes = tokens};
    TRY(prepare(b, options->depth));
    TRY(sluice_prefill(b->session, b->ids, options->depth, NULL));
    begin(b);
    for (uint32_t i = 0; i < tokens; i++) {
        int32_t id = random_id(b);
        TRY(sluice_decode(b->engine, &b->session, &id, 1, NULL));
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
    uint32_t most = options->depth;
    for (uint32_t i = 0; i < options->prompt_count; i++)
        most = options->prompts[i] > most ? options->prompts[i] : most;
    return most;
}

enum sluice_status bench_run(struct sluice_engine *engine, const struct bench_options *options,
                             struct bench_results *results)
{
    enum sluice_status status;
    struct bench b = {.engine = engine, .vocab = sluice_engine_model(engine)->vocab, .random_state = 1};
    struct bench_result *runs = mem_alloc(options->repeat, sizeof *runs);
    memset(results, 0, sizeof *results);
    b.ids = mem_alloc(longest_prefill(options), sizeof *b.ids);
    TRY(runs && b.ids ? SLUICE_OK : SLUICE_ERR_MEMORY);
    TRY(sluice_session_create(engine, &b.session));
    for (uint32_t i = 0; i < options->prompt_count; i++)
        TRY(measure(&b, options, run_prefill, options->prompts[i], runs, &results->prefills[i]));
    if (options->generate)
        TRY(measure(&b, options, run_decode, options->generate, runs, &results->decode));
fail:
    sluice_session_destroy(b.session);
    mem_free(runs);
    mem_free(b.ids);
    return status;
}
