#include "tools/engine_open.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "offload/container.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/memory_available.h"
#include "runtime/model/config.h"

void engine_options(const struct cli_engine_options *options, uint32_t context_needed, struct sluice_options *out)
{
    static char cache_folder[PATH_MAX];
    *out = (struct sluice_options){
        .device = options->device,
        .vram_bytes = options->vram_bytes,
        .ram_bytes = options->ram_bytes,
        .slots = options->slots,
        .sessions = options->sessions,
        .context_tokens = options->context_tokens ? options->context_tokens : context_needed,
        .expert_pool = options->expert_pool,
        .io = options->io,
        .verify = options->verify,
        .kv = options->kv,
        .activations = options->activations,
        .matrix_cores = options->matrix_cores,
        .routing = options->routing,
        .cache_folder = cli_cache_folder(cache_folder, sizeof cache_folder),
        .recalibrate = options->recalibrate,
        .timestamps = options->verbose,
        .io_only = options->io_only,
    };
}

enum sluice_status engine_tap_interrupt(void *user, uint32_t layer, uint32_t first, uint32_t rows, const uint32_t *ids)
{
    (void)user;
    (void)layer;
    (void)first;
    (void)rows;
    (void)ids;
    return cli_check_interrupt();
}

// --- GPU time -------------------------------------------------------------------------------------------------------

enum { KERNELS_MAX = 96 };

struct kernel_times {
    struct kernel_time {
        const char *name;
        uint64_t ns, count;
    } kernels[KERNELS_MAX];
    size_t count;
};

static void add_time(void *user, const char *label, uint64_t total_ns, uint64_t count)
{
    struct kernel_times *times = user;
    if (times->count < KERNELS_MAX)
        times->kernels[times->count++] = (struct kernel_time){label, total_ns, count};
}

static int compare_times(const void *a, const void *b)
{
    uint64_t x = ((const struct kernel_time *)a)->ns, y = ((const struct kernel_time *)b)->ns;
    return (x < y) - (x > y);
}

static void print_times(struct sluice_engine *engine)
{
    struct kernel_times times = {.count = 0};
    uint64_t total_ns = 0;
    sluice_gpu_times(engine, add_time, &times);
    qsort(times.kernels, times.count, sizeof *times.kernels, compare_times);
    for (size_t i = 0; i < times.count; i++)
        total_ns += times.kernels[i].ns;
    if (total_ns == 0)
        return;
    fprintf(stderr, "gpu time per kernel, %.3f s in all\n", clock_seconds(total_ns));
    for (size_t i = 0; i < times.count; i++) {
        const struct kernel_time *k = &times.kernels[i];
        fprintf(stderr, "  %-28s %9.3f s %5.1f %%  %8llu times  %9.1f us each\n", k->name, clock_seconds(k->ns),
                100.0 * (double)k->ns / (double)total_ns, (unsigned long long)k->count,
                (double)k->ns * 1e-3 / (double)k->count);
    }
}

void engine_report(struct sluice_engine *engine, const struct run_times *t)
{
    struct sluice_stats s;
    sluice_stats(engine, &s);
    uint64_t uses = s.expert_hits_device + s.expert_hits_host + s.expert_misses;
    fprintf(stderr, "device    %s, %s\n", sluice_device_name(engine), s.matrix_path);
    fprintf(stderr, "prompt    %llu tokens in %.2f s, %.1f tokens/s\n", (unsigned long long)t->prompt_tokens,
            clock_seconds(t->prompt_ns), clock_per_second(t->prompt_tokens, t->prompt_ns));
    fprintf(stderr, "answer    %llu tokens in %.2f s, %.1f tokens/s\n", (unsigned long long)t->answer_tokens,
            clock_seconds(t->answer_ns), clock_per_second(t->answer_tokens, t->answer_ns));
    fprintf(
        stderr,
        "experts   %u slots%s of %s for %u experts; %llu uses: %.1f %% on the device, %.1f %% in RAM, %.1f %% read\n",
        s.slots_device, s.unified ? " in one pool" : "", cli_bytes(s.expert_bytes), s.experts_total,
        (unsigned long long)uses, uses ? 100.0 * (double)s.expert_hits_device / (double)uses : 0,
        uses ? 100.0 * (double)s.expert_hits_host / (double)uses : 0,
        uses ? 100.0 * (double)s.expert_misses / (double)uses : 0);
    fprintf(stderr, "drive     %s read in %.2f s, %.2f GB/s; waited %.2f s for it\n", cli_bytes(s.expert_bytes_read),
            clock_seconds(s.reading_ns), clock_per_second(s.expert_bytes_read, s.reading_ns) * 1e-9,
            clock_seconds(s.wait_drive_ns));
    fprintf(stderr, "gpu       %llu submits, %llu dispatches, %llu barriers; waited %.2f s for it\n",
            (unsigned long long)s.submits, (unsigned long long)s.dispatches, (unsigned long long)s.barriers,
            clock_seconds(s.wait_gpu_ns));
    fprintf(stderr, "memory    %s on the device at most; %s host slots; %s resident in all at most\n",
            cli_bytes(s.device_bytes_max), cli_bytes(s.host_bytes), cli_bytes(memory_resident_bytes_max()));
    print_times(engine);
}

json_t *engine_report_json(struct sluice_engine *engine, const struct run_times *t)
{
    struct sluice_stats s;
    sluice_stats(engine, &s);
    return json_pack(
        "{s:s, s:{s:I,s:f,s:f}, s:{s:I,s:f,s:f}, s:{s:I,s:I,s:I,s:I,s:I,s:I}, s:{s:I,s:f,s:f}, s:{s:I,s:I,s:I,s:f},"
        " s:I, s:I}",
        "device", sluice_device_name(engine),                                                               //
        "prefill", "tokens", (json_int_t)t->prompt_tokens, "seconds", clock_seconds(t->prompt_ns), "tok_s", //
        clock_per_second(t->prompt_tokens, t->prompt_ns),                                                   //
        "decode", "tokens", (json_int_t)t->answer_tokens, "seconds", clock_seconds(t->answer_ns), "tok_s",  //
        clock_per_second(t->answer_tokens, t->answer_ns),                                                   //
        "experts", "total", (json_int_t)s.experts_total, "slots", (json_int_t)s.slots_device, "bytes_each",
        (json_int_t)s.expert_bytes, "hits_device", (json_int_t)s.expert_hits_device, "hits_host",
        (json_int_t)s.expert_hits_host, "misses", (json_int_t)s.expert_misses, //
        "drive", "bytes", (json_int_t)s.expert_bytes_read, "reading_seconds", clock_seconds(s.reading_ns),
        "wait_seconds",
        clock_seconds(s.wait_drive_ns), //
        "gpu", "submits", (json_int_t)s.submits, "dispatches", (json_int_t)s.dispatches, "barriers",
        (json_int_t)s.barriers, "wait_seconds", clock_seconds(s.wait_gpu_ns), //
        "peak_device", (json_int_t)s.device_bytes_max, "peak_rss", (json_int_t)memory_resident_bytes_max());
}

// How many tokens the model in the container takes.
static enum sluice_status read_positions(const char *path, uint32_t *positions)
{
    char *text = NULL;
    size_t bytes;
    struct model_config *config = NULL;
    struct container *container;
    enum sluice_status status = container_open(path, &container);
    if (status < 0)
        return status;
    TRY(container_document(container, "config.json", &text, &bytes));
    config = mem_alloc(1, sizeof *config);
    TRY(config ? SLUICE_OK : SLUICE_ERR_MEMORY);
    status = model_config_parse(text, bytes, config);
    if (status < 0)
        error_prefix(status, "%s", path);
    *positions = config->positions_max;
fail:
    mem_free(text);
    mem_free(config);
    container_close(container);
    return status;
}

static enum sluice_status open_model(const char *path, const struct cli_engine_options *options,
                                     uint32_t context_needed, struct sluice_engine **engine)
{
    struct sluice_options open;
    engine_options(options, context_needed, &open);
    return sluice_open(path, &open, engine);
}

enum sluice_status engine_open(const char *path, const struct cli_engine_options *options, uint32_t context_needed,
                               struct sluice_engine **engine)
{
    uint32_t positions;
    *engine = NULL;
    enum sluice_status status = read_positions(path, &positions);
    if (status < 0)
        return status;
    if (!options->context_tokens && context_needed > positions) // sluice_open would blame --ctx
        return error_set(SLUICE_ERR_ARGUMENT, "a text of %u tokens is too long: the model has %u positions",
                         context_needed, positions);
    return open_model(path, options, context_needed, engine);
}

enum sluice_status engine_open_fitting(const char *path, const struct cli_engine_options *options, size_t prompt_tokens,
                                       size_t answer_tokens, struct sluice_engine **engine)
{
    // Whole kibitokens, so that runs of about the same length plan the same memory.
    size_t wanted = (prompt_tokens + answer_tokens + 1023) / 1024 * 1024;
    uint32_t positions;
    *engine = NULL;
    enum sluice_status status = read_positions(path, &positions);
    if (status < 0)
        return status;
    if (prompt_tokens + (answer_tokens > 0) > positions)
        return error_set(SLUICE_ERR_ARGUMENT, "a text of %zu tokens is too long: the model has %u positions, for %s",
                         prompt_tokens, positions, answer_tokens ? "text and answer together" : "all of it");
    return open_model(path, options, wanted < positions ? (uint32_t)wanted : positions, engine);
}
