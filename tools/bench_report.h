// What `sluice bench` prints.
#ifndef SLUICE_TOOLS_BENCH_REPORT_H
#define SLUICE_TOOLS_BENCH_REPORT_H

#include <jansson.h>

#include "tools/bench_run.h"

// A table for people on stdout; with GPU time per kernel where that was measured.
void bench_report_print(struct sluice_engine *engine, const struct bench_options *options,
                        const struct bench_results *results);

// The same as JSON: a new reference, NULL when out of memory.
json_t *bench_report_json(struct sluice_engine *engine, const struct bench_options *options,
                          const struct bench_results *results);

#endif
