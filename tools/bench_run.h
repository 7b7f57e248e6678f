// Measuring prefill and decode, for `sluice bench`.
#ifndef SLUICE_TOOLS_BENCH_RUN_H
#define SLUICE_TOOLS_BENCH_RUN_H

#include "runtime/sluice.h"

enum { BENCH_PROMPTS_MAX = 16, BENCH_KERNELS_MAX = 64, BENCH_DEPTH_DEFAULT = 16 };

struct bench_options {
    uint32_t prompts[BENCH_PROMPTS_MAX]; // lengths of the prefills, each at least 1
    uint32_t prompt_count;
    uint32_t generate;   // tokens to decode; 0: no decode
    uint32_t depth;      // tokens of context before them, at least 1
    uint32_t repeat;     // runs that count, at least 1; one more goes before them
    const char *routing; // kind of routing the engine was opened with, for the report; NULL: the model's
};

// GPU time of one kernel during one run.
struct bench_kernel {
    const char *name; // the library's
    uint64_t ns, count;
};

// The run of median time among those of one length.
struct bench_result {
    uint32_t tokens;
    uint32_t passes; // through the model: 1 for a prefill, one per token for a decode
    uint64_t ns, ns_min, ns_max;
    uint64_t cpu_ns; // processor time of all threads; with a software driver the device's too
    struct sluice_stats stats;
    struct bench_kernel kernels[BENCH_KERNELS_MAX]; // by falling time
    uint32_t kernel_count;                          // 0 without sluice_options.timestamps
};

struct bench_results {
    struct bench_result prefills[BENCH_PROMPTS_MAX]; // [options.prompt_count]
    struct bench_result decode;                      // tokens is 0 if there was none
};

// Runs everything with random token ids: other ones in every run, the same in every call. Each run begins with an empty
// session; the expert cache is what the runs before it left. The first run of each length, in which kernels are
// compiled, does not count. Errors: those of sluice_prefill and sluice_decode.
enum sluice_status bench_run(struct sluice_engine *engine, const struct bench_options *options,
                             struct bench_results *results);

#endif
