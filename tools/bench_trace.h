// Records which experts a measurement used, for offload_sim.
#ifndef SLUICE_TOOLS_BENCH_TRACE_H
#define SLUICE_TOOLS_BENCH_TRACE_H

#include "offload/trace.h"
#include "runtime/sluice.h"

struct bench_trace;

// Replaces the file `path`.
enum sluice_status bench_trace_create(const char *path, struct sluice_engine *engine, struct bench_trace **trace);

// Before each prefill (TRACE_SWEEP) and decode (TRACE_DECODE); TRACE_MARK: what follows is being measured.
void bench_trace_step(struct bench_trace *trace, enum trace_kind kind);

// What the step's tap is told: selected experts ids[rows][top_k] of `layer`, in any number of calls per layer.
void bench_trace_take(struct bench_trace *trace, uint32_t layer, uint32_t rows, const uint32_t *ids);

// Writes the rest. Returns the first error of all writing. NULL is allowed.
enum sluice_status bench_trace_finish(struct bench_trace *trace);

#endif
