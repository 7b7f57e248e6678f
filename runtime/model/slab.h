// Packs many ranges into few buffers: first every range is planned, then the buffers are allocated in one go.
//
// A device may bind only so much at once (128 MiB on some), so a planned range never crosses a buffer's end; one that
// would not fit any buffer is refused, and the caller cuts it first (slab_range_bytes_max).
#ifndef SLUICE_MODEL_SLAB_H
#define SLUICE_MODEL_SLAB_H

#include "runtime/gpu/buffer.h"

struct slab_place {
    uint32_t buffer;
    uint64_t offset, bytes;
};

struct slab {
    struct gpu_device *device;
    enum gpu_memory memory;
    const char *label;
    uint64_t buffer_bytes; // a buffer is closed when the next range does not fit into this many bytes
    uint32_t place_count, place_capacity;
    struct slab_place *places; // [place_count], owned
    uint32_t buffer_count, buffer_capacity;
    uint64_t *sizes;             // [buffer_count] bytes, owned
    struct gpu_buffer **buffers; // [buffer_count] after slab_allocate, owned
    uint64_t bytes;              // of all buffers
};

void slab_init(struct slab *slab, struct gpu_device *device, enum gpu_memory memory, const char *label);
void slab_finish(struct slab *slab); // a zeroed struct is allowed

// The largest range that can be planned.
uint64_t slab_range_bytes_max(const struct slab *slab);

// Plans a range of `bytes` (> 0, rounded up to 4); *place is its number. Errors: SLUICE_ERR_MEMORY.
enum sluice_status slab_plan(struct slab *slab, uint64_t bytes, uint32_t *place);

// Allocates all buffers. Errors: as gpu_buffer_create.
enum sluice_status slab_allocate(struct slab *slab);

struct gpu_range slab_range(const struct slab *slab, uint32_t place);

#endif
