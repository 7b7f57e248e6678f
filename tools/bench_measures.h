// What follows from the counters of `sluice bench`: rates and shares, the same for the table, JSON and CSV.
#ifndef SLUICE_TOOLS_BENCH_MEASURES_H
#define SLUICE_TOOLS_BENCH_MEASURES_H

#include <jansson.h>
#include <stdio.h>

#include "tools/bench_run.h"

// Measures direct reads before (0) and after (1) everything else; the second time the results' drives follow. `io` is
// how the engine reads.
enum sluice_status bench_measure_drive(const char *path, enum sluice_io io, const struct bench_options *options,
                                       unsigned when, struct bench_results *results);

// Adds the measures of a result to its JSON object, those of the drive to the whole report's.
void bench_measures_add_json(json_t *tree, const struct bench_result *result);
void bench_drive_add_json(json_t *tree, const struct bench_options *options, const struct bench_results *results);

// A second table for people.
void bench_measures_print(const struct bench_options *options, const struct bench_results *results);

// One line per result under a line of names. SLUICE_ERR_IO with the file's name.
enum sluice_status bench_measures_write_csv(const char *path, struct sluice_engine *engine,
                                            const struct bench_options *options, const struct bench_results *results);

#endif
