#include "runtime/model/slab.h"

#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/integer.h"
#include "runtime/base/mem.h"

static const uint64_t SLAB_BYTES_MAX = (uint64_t)1 << 30; // one allocation of a GiB is granted everywhere

void slab_init(struct slab *slab, struct gpu_device *device, enum gpu_memory memory, const char *label)
{
    memset(slab, 0, sizeof *slab);
    uint64_t limit = gpu_device_caps(device)->max_buffer_bytes;
    slab->device = device;
    slab->memory = memory;
    slab->label = label;
    slab->buffer_bytes = limit < SLAB_BYTES_MAX ? limit : SLAB_BYTES_MAX;
}

void slab_finish(struct slab *slab)
{
    for (uint32_t i = 0; slab->buffers && i < slab->buffer_count; i++)
        gpu_buffer_destroy(slab->buffers[i]);
    mem_free(slab->buffers);
    mem_free(slab->sizes);
    mem_free(slab->places);
    memset(slab, 0, sizeof *slab);
}

uint64_t slab_range_bytes_max(const struct slab *slab)
{
    return slab->buffer_bytes;
}

// Makes room for one more element of `size` bytes.
static enum sluice_status grow(void **array, uint32_t count, uint32_t *capacity, size_t size)
{
    if (count < *capacity)
        return SLUICE_OK;
    uint32_t wanted = *capacity ? 2 * *capacity : 16;
    void *grown = mem_realloc(*array, wanted, size);
    if (!grown)
        return SLUICE_ERR_MEMORY;
    *array = grown;
    *capacity = wanted;
    return SLUICE_OK;
}

static enum sluice_status open_buffer(struct slab *slab)
{
    enum sluice_status status =
        grow((void **)&slab->sizes, slab->buffer_count, &slab->buffer_capacity, sizeof *slab->sizes);
    if (status == SLUICE_OK)
        slab->sizes[slab->buffer_count++] = 0;
    return status;
}

enum sluice_status slab_plan(struct slab *slab, uint64_t bytes, uint32_t *place)
{
    CHECK(!slab->buffers && bytes > 0 && bytes <= slab->buffer_bytes);
    uint64_t alignment = gpu_device_caps(slab->device)->buffer_alignment;
    uint64_t size = u64_round_up(bytes, 4);
    enum sluice_status status;
    TRY(grow((void **)&slab->places, slab->place_count, &slab->place_capacity, sizeof *slab->places));
    uint64_t offset = slab->buffer_count ? u64_round_up(slab->sizes[slab->buffer_count - 1], alignment) : 0;
    if (!slab->buffer_count || offset + size > slab->buffer_bytes) {
        TRY(open_buffer(slab));
        offset = 0;
    }
    uint32_t last = slab->buffer_count - 1;
    slab->bytes += offset + size - slab->sizes[last];
    slab->sizes[last] = offset + size;
    slab->places[slab->place_count] = (struct slab_place){.buffer = last, .offset = offset, .bytes = size};
    *place = slab->place_count++;
    return SLUICE_OK;
fail:
    return status;
}

enum sluice_status slab_allocate(struct slab *slab)
{
    CHECK(!slab->buffers);
    slab->buffers = mem_alloc(slab->buffer_count, sizeof *slab->buffers);
    if (!slab->buffers)
        return SLUICE_ERR_MEMORY;
    for (uint32_t i = 0; i < slab->buffer_count; i++) {
        enum sluice_status status =
            gpu_buffer_create(slab->device, slab->memory, slab->sizes[i], slab->label, &slab->buffers[i]);
        if (status < 0)
            return status;
    }
    return SLUICE_OK;
}

struct gpu_range slab_range(const struct slab *slab, uint32_t place)
{
    CHECK(slab->buffers && place < slab->place_count);
    const struct slab_place *at = &slab->places[place];
    return gpu_range_make(slab->buffers[at->buffer], at->offset, at->bytes);
}
