// A Vulkan device with one compute queue and one timeline semaphore.
//
// Work is recorded into a gpu_command (command.h) and submitted; every submission gets the next value of the timeline,
// its tick. Ticks complete in order. Device objects that a submission uses must live until its tick is complete.
// Threads: one thread uses a device and everything made from it.
#ifndef SLUICE_GPU_DEVICE_H
#define SLUICE_GPU_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

struct gpu_device;

struct gpu_device_options {
    const char *name; // part of the device's name (case-insensitive) or its index as a number; NULL: the best one
    uint64_t max_buffer_bytes; // tests: pretend that one buffer or binding may not be larger; 0: the driver's limits
    bool no_import;            // tests: behave as if host memory could not be imported
    bool no_array_updates;     // tests: behave as if arrays of buffers stayed as they were recorded
    bool timestamps;           // measure GPU time per label
    // Where compiled kernels are kept for the next run, made when needed; NULL: nowhere. A damaged or impossible cache
    // is no error. Must outlive gpu_device_create only.
    const char *cache_folder;
    uint32_t fail_buffer_at; // tests: no memory for the n-th buffer, imports included, from 1; 0: none
};

// The product that one matrix-core instruction does: c[m, n] += a[m, k] * b[k, n], a and b in f16, c in f32.
struct gpu_matrix_shape {
    uint32_t m, n, k;
};

// What the driver reports, after quirks.
struct gpu_caps {
    char device_name[256];
    char driver_name[256]; // driver and version, for reports
    // What tells this device and this driver from all others: for caches.
    uint8_t device_uuid[16], driver_uuid[16];
    uint32_t driver_version;
    bool is_software;            // a CPU implementation such as llvmpipe
    bool integrated;             // shares memory with the host
    bool has_int64;              // shaders may use 64-bit integers
    bool updates_arrays;         // gpu_again_array knows what it knows with other buffers, too
    bool can_import;             // anonymous host memory can be imported (VK_EXT_external_memory_host)
    bool can_bind_imports;       // and kernels may use it
    uint64_t import_alignment;   // bytes; of address and size
    uint64_t max_buffer_bytes;   // largest buffer that is also bindable as a whole
    uint64_t import_max_bytes;   // largest single import
    uint64_t buffer_alignment;   // of offsets of ranges bound to a kernel
    uint64_t device_local_bytes; // size of the heap that GPU_MEMORY_DEVICE comes from
    // Free for us in that heap when the device was created, from VK_EXT_memory_budget; else the heap's size.
    uint64_t device_budget_bytes;
    uint32_t shared_bytes; // of shared memory per workgroup
    uint32_t subgroup_size;
    uint32_t max_groups_x; // of one dispatch
    uint32_t max_groups_y;
    uint32_t max_groups_z;
    uint32_t max_invocations; // of one workgroup, at least 256
    // Matrix cores (VK_KHR_cooperative_matrix with a shape that our kernels can use); the shape is all 0 without.
    // Kernels with cooperative matrices always run in subgroups of matrix_subgroup_size.
    bool matrix_cores;
    struct gpu_matrix_shape matrix_shape;
    uint32_t matrix_subgroup_size;
};

// Devices present, for `--device` and messages: calls `visit` with index and name for each; returns the count.
typedef void gpu_device_visit(void *user, unsigned index, const char *name, bool usable, const char *why_not);
enum sluice_status gpu_device_list(gpu_device_visit *visit, void *user, unsigned *count);

// Without a name: the first usable discrete GPU, else integrated, else software. Errors: SLUICE_ERR_DEVICE (no Vulkan
// loader, no usable device: the message lists what was found and which feature is missing), SLUICE_ERR_ARGUMENT.
enum sluice_status gpu_device_create(const struct gpu_device_options *options, struct gpu_device **device);

// Waits for all submitted work. Everything made from the device must be destroyed before. NULL is allowed.
void gpu_device_destroy(struct gpu_device *device);

const struct gpu_caps *gpu_device_caps(const struct gpu_device *device);

// Device memory allocated now and at most so far, bytes, all buffers of GPU_MEMORY_DEVICE (and of the others).
struct gpu_usage {
    uint64_t device_bytes, device_bytes_max;
    uint64_t host_bytes, host_bytes_max;    // upload and readback buffers; imports are the caller's memory
    uint64_t submits, dispatches, barriers; // submitted
    uint64_t recorded, replayed; // parts of commands that were made into command buffers, and that there was one for
    uint64_t command_buffers;    // that exist
    uint64_t sets_filled;        // descriptor sets; a dispatch whose ranges another one had needs none of its own
    uint64_t wait_ns;            // time spent in gpu_wait
    uint64_t wait_cpu_ns;        // processor time of that: polling
};
struct gpu_usage gpu_device_usage(const struct gpu_device *device);

// "At most so far" begins anew: after work at start-up whose memory was given back.
void gpu_usage_forget_peaks(struct gpu_device *device);

// What the driver reports now (VK_EXT_memory_budget) about the heap of GPU_MEMORY_DEVICE: how many bytes there this
// process may use in all before the driver moves some elsewhere, and how many it uses. False if it reports nothing.
// Some microseconds.
bool gpu_device_budget(const struct gpu_device *device, uint64_t *budget_bytes, uint64_t *used_bytes);

// The tick of the last submission, and the last one known to be complete.
uint64_t gpu_tick_last(const struct gpu_device *device);
uint64_t gpu_tick_done(struct gpu_device *device);

// Waits until `tick` is complete. Errors: SLUICE_ERR_DEVICE (lost device).
enum sluice_status gpu_wait(struct gpu_device *device, uint64_t tick);

// Tests only: from submission number `index` on (0 is the next), `count` of them fail for want of device memory.
void gpu_submit_fail(struct gpu_device *device, uint64_t index, uint32_t count);

#endif
