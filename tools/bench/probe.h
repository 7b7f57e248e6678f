// `sluice probe` without the command line.
#ifndef SLUICE_BENCH_PROBE_H
#define SLUICE_BENCH_PROBE_H

#include <stdbool.h>

#include "runtime/base/status.h"

struct probe_options {
    const char *device;       // index, or part of the name; NULL: the best one
    const char *only;         // rows whose name contains or, with * and ?, matches this; NULL: all
    const char *compare;      // an earlier report; NULL: none
    const char *save;         // where to write the JSON besides what is printed; NULL: nowhere
    const char *cache_folder; // of the tuning, or NULL
    double seconds_max;       // to spend on one row, about
    bool roof_only, as_json, recalibrate;
};

// Measures, and prints a table or JSON on stdout; the comparison too, with JSON to stderr. Errors: those of
// gpu_device_create and ops_create; SLUICE_ERR_ARGUMENT (no such row, nothing in common), SLUICE_ERR_FORMAT.
enum sluice_status probe_run(const struct probe_options *options);

#endif
