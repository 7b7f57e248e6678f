// Records which experts were used, for offload_sim (--trace).
#ifndef SLUICE_TOOLS_EXPERT_TRACE_H
#define SLUICE_TOOLS_EXPERT_TRACE_H

#include "offload/trace.h"
#include "runtime/sluice.h"

struct expert_trace;

// Writes PATH.part, which replaces PATH at the end.
enum sluice_status expert_trace_create(const char *path, struct sluice_engine *engine, struct expert_trace **trace);

// Before each prefill (TRACE_SWEEP) and decode (TRACE_DECODE); TRACE_MARK: what follows is being measured.
void expert_trace_step(struct expert_trace *trace, enum trace_kind kind);

// What the step's tap is told: selected experts ids[rows][top_k] of `layer`, in any number of calls per layer.
void expert_trace_take(struct expert_trace *trace, uint32_t layer, uint32_t rows, const uint32_t *ids);

// Writes the rest. Returns the first error of all writing. NULL is allowed.
enum sluice_status expert_trace_finish(struct expert_trace *trace);

// After a failure: what has been written stays in PATH.part. NULL is allowed.
void expert_trace_abandon(struct expert_trace *trace);

#endif
