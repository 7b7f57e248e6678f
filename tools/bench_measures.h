// What follows from the counters of `sluice bench`: rates and shares, the same for the table, JSON and CSV.
#ifndef SLUICE_TOOLS_BENCH_MEASURES_H
#define SLUICE_TOOLS_BENCH_MEASURES_H

#include <jansson.h>
#include <stdio.h>

#include "tools/bench_run.h"

struct bench_measures {
    double tok_s;
    double bytes_read_per_token;
    double hit_device, hit_host; // share of the experts' uses, 0..1
    double drive_bytes_s;        // bytes read / time with at least one read in flight
    double direct_bytes_s;       // of direct reads in the same order, many at once; 0: not measured
    double direct_depth_bytes_s; // and with as many reads in flight as there were misses per layer and pass
    double wait_drive, wait_gpu; // share of the time, 0..1
    double submits_per_token, host_cpu_per_token; // and seconds
    // The parts of host_cpu_per_token: recording and submitting commands, what else the calling thread does (lists, the
    // cache's decisions), reading, and checksums of what was read.
    double record_cpu, other_cpu, read_cpu, checksum_cpu;
};

struct bench_measures bench_measures(const struct bench_result *result);

// Rate of direct reads of the whole run, many at once: in file order if there was a prefill, else random.
double bench_direct_bytes_s(const struct bench_options *options, const struct bench_results *results);

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
