// Ratios between two reports in JSON, for --compare: those of `sluice bench` and of `sluice probe`.
#ifndef SLUICE_BENCH_BENCH_COMPARE_H
#define SLUICE_BENCH_BENCH_COMPARE_H

#include <jansson.h>
#include <stdio.h>

#include "runtime/base/status.h"

// Reads an earlier report; *report is released with json_decref. Errors: SLUICE_ERR_FORMAT (no JSON, or no report; the
// message names the file), SLUICE_ERR_IO.
enum sluice_status bench_compare_load(const char *path, json_t **report);

// Prints what both have: kernels by name, the roof, prefills by number of tokens, decode by depth. A ratio above 1 is
// faster now. To `out`, so that it can stay apart from JSON on standard output. Errors: SLUICE_ERR_ARGUMENT (nothing in
// common).
enum sluice_status bench_compare_print(FILE *out, json_t *before, json_t *now);

#endif
