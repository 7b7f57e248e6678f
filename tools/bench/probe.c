#include "tools/bench/probe.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/output_file.h"
#include "runtime/base/output_path.h"
#include "tools/bench/bench_compare.h"
#include "tools/bench/kernel_report.h"

static void print_row(void *user, const struct bench_row *row)
{
    (void)user;
    kernel_report_row(row);
}

static enum sluice_status measure(const struct probe_options *options, struct kernel_bench *b)
{
    enum sluice_status status;
    struct gpu_device *device = b->watch.device;
    gpu_times_enable(device, true);
    TRY(roof_probe(device, &b->roof));
    if (!options->as_json)
        kernel_report_roof(device, b);
    if (options->roof_only)
        return SLUICE_OK;
    if (!options->as_json)
        kernel_report_head(device);
    b->only = options->only;
    b->measured = options->as_json ? NULL : print_row;
    TRY(kernel_bench_run(b));
fail:
    return status;
}

static enum sluice_status save(const char *path, const json_t *report)
{
    struct output_file out;
    enum sluice_status status = output_file_create(path, &out);
    if (status < 0)
        return status;
    if (json_dumpf(report, out.file, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) != 0 && !ferror(out.file)) {
        output_file_abandon(&out);
        return error_set(SLUICE_ERR_MEMORY, "out of memory");
    }
    return output_file_finish(&out);
}

static enum sluice_status report(const struct probe_options *options, const struct kernel_bench *b, json_t *before)
{
    enum sluice_status status = SLUICE_OK;
    json_t *now = kernel_report_json(b->watch.device, b);
    if (!now)
        return error_set(SLUICE_ERR_MEMORY, "out of memory");
    if (options->as_json) {
        json_dumpf(now, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        putchar('\n');
    }
    if (options->save)
        status = save(options->save, now);
    if (before && status == SLUICE_OK) {
        if (!options->as_json)
            putchar('\n');
        status = bench_compare_print(options->as_json ? stderr : stdout, before, now);
    }
    json_decref(now);
    return status;
}

enum sluice_status probe_run(const struct probe_options *options)
{
    enum sluice_status status;
    struct gpu_device *device = NULL;
    json_t *before = NULL;
    const struct ops_options ops = {.cache_folder = options->cache_folder, .recalibrate = options->recalibrate};
    struct kernel_bench *b = mem_alloc(1, sizeof *b);
    TRY(b ? SLUICE_OK : SLUICE_ERR_MEMORY);
    if (options->save)
        TRY(output_path_check_in_place(options->save)); // before the work
    if (options->compare)
        TRY(bench_compare_load(options->compare, &before));
    TRY(gpu_device_create(&(struct gpu_device_options){.name = options->device, .cache_folder = options->cache_folder},
                          &device));
    TRY(ops_create(device, &ops, &b->ops));
    b->watch = (struct stopwatch){.device = device, .seconds_max = options->seconds_max};
    TRY(measure(options, b));
    TRY(report(options, b, before));
fail:
    if (b) {
        kernel_bench_finish(b);
        ops_destroy(b->ops);
    }
    gpu_device_destroy(device);
    json_decref(before);
    mem_free(b);
    return status;
}
