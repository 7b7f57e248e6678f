// Buffers of device memory. A buffer is one Vulkan buffer with its own allocation: buffers are few and large (slabs),
// and the layers above hand out ranges of them.
#ifndef SLUICE_GPU_BUFFER_H
#define SLUICE_GPU_BUFFER_H

#include "runtime/gpu/device.h"

struct gpu_buffer;

enum gpu_memory {
    GPU_MEMORY_DEVICE,   // fastest for kernels, not visible to the host
    GPU_MEMORY_UPLOAD,   // host writes, kernels read or copies from it; mapped, coherent
    GPU_MEMORY_READBACK, // kernels write or copies to it, host reads; mapped, coherent, cached
};

// Part of a buffer.
struct gpu_range {
    struct gpu_buffer *buffer;
    uint64_t offset; // bytes; a multiple of gpu_caps.buffer_alignment when bound to a kernel
    uint64_t bytes;  // a multiple of 4
};

// `label` names the buffer in messages and tools. Contents are undefined. Errors: SLUICE_ERR_ARGUMENT (larger than
// max_buffer_bytes), SLUICE_ERR_DEVICE_MEMORY (the message says what, how much, and what is free).
enum sluice_status gpu_buffer_create(struct gpu_device *device, enum gpu_memory memory, uint64_t bytes,
                                     const char *label, struct gpu_buffer **buffer);

// Makes host memory a buffer. `host` must be anonymous private memory (mmap), address and size multiples of
// import_alignment, and outlive the buffer.
//   GPU_MEMORY_UPLOAD  for copies only; the caller's memory, not counted in gpu_usage
//   GPU_MEMORY_DEVICE  kernels may use it, too; counted as device memory. What the host, or a drive for it, has written
//                      before a command is submitted, the command sees; before something is overwritten the commands
//                      that read it must be complete
// Errors: SLUICE_ERR_UNSUPPORTED (the driver refuses; the caller falls back to gpu_buffer_create).
enum sluice_status gpu_buffer_import(struct gpu_device *device, enum gpu_memory memory, void *host, uint64_t bytes,
                                     const char *label, struct gpu_buffer **buffer);

// No submission that uses it may be pending. NULL is allowed.
void gpu_buffer_destroy(struct gpu_buffer *buffer);

uint64_t gpu_buffer_bytes(const struct gpu_buffer *buffer);

// The host address of an upload, readback or imported buffer.
void *gpu_buffer_map(const struct gpu_buffer *buffer);

// The host address of a range of such a buffer.
static inline void *gpu_range_map(struct gpu_range range)
{
    return (char *)gpu_buffer_map(range.buffer) + range.offset;
}

// The range of `buffer` from `offset`, checked against its size.
struct gpu_range gpu_range_make(struct gpu_buffer *buffer, uint64_t offset, uint64_t bytes);
// All of `buffer`.
struct gpu_range gpu_range_all(struct gpu_buffer *buffer);
// A part of a range, checked.
struct gpu_range gpu_range_part(struct gpu_range range, uint64_t offset, uint64_t bytes);

#endif
