// Measuring prefill and decode, for `sluice bench`.
#ifndef SLUICE_TOOLS_BENCH_RUN_H
#define SLUICE_TOOLS_BENCH_RUN_H

#include "runtime/sluice.h"

#include "tools/drive_rate.h"

enum { BENCH_PROMPTS_MAX = 16, BENCH_KERNELS_MAX = 64 };

struct bench_options {
    uint32_t prompts[BENCH_PROMPTS_MAX]; // lengths of the prefills, each at least 1
    uint32_t prompt_count;
    uint32_t generate;      // tokens to decode, of each session; 0: no decode
    uint32_t sessions;      // that decode together, 1..SLUICE_SESSIONS_MAX; 0: 1
    uint32_t depth;         // tokens of context before every prefill and decode; random numbers, not computed
    bool io_only;           // the engine was opened to compute nothing: for the report
    uint32_t repeat;        // runs that count, at least 1; one more goes before them
    const char *routing;    // kind of routing the engine was opened with, for the report; NULL: the model's
    const char *trace_path; // file to record the experts used in all runs, for offload_sim; NULL: none
};

// GPU time of one kernel during one run.
struct bench_kernel {
    const char *name; // the library's
    uint64_t ns, count;
};

// The run of median time among those of one length.
struct bench_result {
    uint32_t tokens, sessions; // tokens of all sessions together
    uint32_t passes;           // through the model: 1 for a prefill, one per token of a session for a decode
    uint64_t ns, ns_min, ns_max;
    uint64_t cpu_ns; // processor time of all threads; with a software driver the device's too
    // Processor time of the engine's own work: the calling thread outside of waiting (for the device, the
    // drive, a thread), and the threads that read. A driver's threads are not in it, nor the kernel's workers of
    // io_uring.
    uint64_t host_cpu_ns;
    uint64_t thread_cpu_ns; // of that, the calling thread's without reading; stats.record_cpu_ns of it are recording
                            // and submitting
    uint64_t wait_cpu_ns;   // of the calling thread's waiting
    // Counted from the router's choice, not by the cache: (layer, expert) pairs that a prefill selected, each once; and
    // for a decode those of each pass, so that with one session every selection counts.
    uint64_t experts_used;
    // What direct reads in the same order reach, many at once and as many as this result had misses per layer and pass.
    struct drive_rate drive, drive_at_depth; // bytes_s is 0 if not measured
    struct sluice_stats stats;
    struct bench_kernel kernels[BENCH_KERNELS_MAX]; // by falling time
    uint32_t kernel_count;                          // 0 without sluice_options.timestamps
};

struct bench_results {
    struct bench_result prefills[BENCH_PROMPTS_MAX]; // [options.prompt_count]
    struct bench_result decode;                      // tokens is 0 if there was none
    uint32_t expert_layers;                          // layers of the model that selected experts
    uint64_t peak_rss_bytes;                         // resident memory of the process at most
    struct bench_drive {
        struct drive_rate sequential[2], random[2]; // before and after everything else
    } drive;
};

// Runs everything with random token ids: other ones in every run, the same in every call. Each run begins with
// the same `depth` tokens of context (sluice_session_fill); the expert cache is what the runs before it left. The first
// run of each length, in which kernels are compiled, does not count. Errors: those of sluice_prefill and sluice_decode.
// results->drive and the results' drives are not touched.
enum sluice_status bench_run(struct sluice_engine *engine, const struct bench_options *options,
                             struct bench_results *results);

#endif
