#include "tools/bench/kernel_report.h"

#include <stdio.h>

void kernel_report_roof(const struct gpu_device *device, const struct kernel_bench *bench)
{
    const struct roof *r = &bench->roof;
    const struct gpu_caps *caps = gpu_device_caps(device);
    printf("device      %s\ndriver      %s\nrates       per second of %s\n", caps->device_name, caps->driver_name,
           stopwatch_basis(device));
    printf("prefill     %s\n", ops_matrix_path(bench->ops));
    printf("read        %10.1f GB/s by 16-byte loads\n", r->read_bytes_s * 1e-9);
    printf("int-dot     %10.1f Gop/s by %s\n", r->dot_ops_s * 1e-9, r->dot_way);
    printf("f32 fma     %10.1f GFLOP/s\n", r->fma_ops_s * 1e-9);
    printf("round trip  %10.1f us to submit and wait, on the wall\n", r->round_trip_s * 1e6);
    printf("dispatch    %10.2f us, behind a barrier %.2f us; to record %.2f us on the wall\n", r->dispatch_s * 1e6,
           r->dependent_s * 1e6, r->record_s * 1e6);
    printf("host        %10.1f GB/s read by one thread, per second of its processor time\n\n",
           r->host_read_bytes_s * 1e-9);
}

void kernel_report_head(const struct gpu_device *device)
{
    printf("%-24s %12s %12s %9s %10s %8s %5s %10s\n", "", "us of", "us on", "", "Gop/s or", "share", "", "ms of");
    printf("%-24s %12s %12s %9s %10s %8s %5s %10s\n", "kernel, shape, tokens", stopwatch_basis(device), "the wall",
           "GB/s", "GFLOP/s", "of roof", "bound", "first run");
}

static double ops_of(const struct bench_row *row)
{
    return row->work.dot_ops + row->work.fma_ops;
}

void kernel_report_row(const struct bench_row *row)
{
    printf("%-24s %14.1f %12.1f %9.2f %10.1f %7.1f%% %5s %10.0f\n", row->name, row->time.seconds * 1e6,
           row->time.wall_seconds * 1e6, row->work.bytes / row->time.seconds * 1e-9,
           ops_of(row) / row->time.seconds * 1e-9, row->share * 100, row->bound, row->time.first_seconds * 1e3);
    fflush(stdout);
}

static json_t *roof_json(const struct roof *r)
{
    return json_pack("{s:f, s:f, s:f, s:s, s:f, s:f, s:f, s:f, s:f}", "read_bytes_s", r->read_bytes_s, "dot_ops_s",
                     r->dot_ops_s, "fma_ops_s", r->fma_ops_s, "dot_way", r->dot_way, "round_trip_s", r->round_trip_s,
                     "record_s", r->record_s, "dispatch_s", r->dispatch_s, "dependent_s", r->dependent_s,
                     "host_read_bytes_s", r->host_read_bytes_s);
}

static json_t *row_json(const struct bench_row *row)
{
    return json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:s}", "name", row->name, "seconds", row->time.seconds,
                     "wall_seconds", row->time.wall_seconds, "first_seconds", row->time.first_seconds, "bytes",
                     row->work.bytes, "bytes_s", row->work.bytes / row->time.seconds, "ops_s",
                     ops_of(row) / row->time.seconds, "share", row->share, "bound", row->bound);
}

json_t *kernel_report_json(const struct gpu_device *device, const struct kernel_bench *b)
{
    const struct gpu_caps *caps = gpu_device_caps(device);
    json_t *kernels = json_array();
    for (unsigned i = 0; i < b->row_count; i++)
        json_array_append_new(kernels, row_json(&b->rows[i]));
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "device", caps->device_name, "driver", caps->driver_name,
                     "basis", stopwatch_basis(device), "prefill_path", ops_matrix_path(b->ops), "roof",
                     roof_json(&b->roof), "kernels", kernels);
}
