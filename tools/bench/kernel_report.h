// What `sluice probe` prints.
#ifndef SLUICE_BENCH_KERNEL_REPORT_H
#define SLUICE_BENCH_KERNEL_REPORT_H

#include <jansson.h>

#include "tools/bench/kernel_bench.h"

// The device and its roof; the head of the table of kernels; a line of it. On stdout.
void kernel_report_roof(const struct gpu_device *device, const struct kernel_bench *bench);
void kernel_report_head(const struct gpu_device *device);
void kernel_report_row(const struct bench_row *row);

// The same as JSON: {"device", "driver", "basis", "roof": {...}, "kernels": [...]}; a new reference, NULL when out of
// memory.
json_t *kernel_report_json(const struct gpu_device *device, const struct kernel_bench *bench);

#endif
