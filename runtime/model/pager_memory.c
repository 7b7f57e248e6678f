// The memory of the pager's slots: mapped, imported into the device, given back.
#include "offload/read_memory.h"
#include "runtime/base/check.h"
#include "runtime/base/integer.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/model/pager_private.h"

static uint32_t slots_per_buffer(const struct pager *pager, uint32_t slots)
{
    uint64_t limit = gpu_device_caps(pager->device)->max_buffer_bytes;
    uint64_t gib = (uint64_t)1 << 30;
    uint64_t fit = (limit < gib ? limit : gib) / pager->slot_bytes;
    return (uint32_t)(fit < slots ? fit : slots);
}

// --- buffers --------------------------------------------------------------------------------------------------------

// Slots cut into buffers.
struct division {
    enum gpu_memory memory;
    uint8_t *host; // to be imported; NULL: the buffers' own memory
    uint32_t slots, per_buffer;
    const char *label;
};

static enum sluice_status create_buffer(struct pager *pager, const struct division *d, uint32_t first,
                                        struct gpu_buffer **buffer)
{
    uint32_t here = d->slots - first < d->per_buffer ? d->slots - first : d->per_buffer;
    uint64_t bytes = here * pager->slot_bytes;
    if (!d->host)
        return gpu_buffer_create(pager->device, d->memory, bytes, d->label, buffer);
    return gpu_buffer_import(pager->device, d->memory, d->host + first * pager->slot_bytes, bytes, d->label, buffer);
}

static void destroy_buffers(struct gpu_buffer **buffers, uint32_t count)
{
    for (uint32_t i = 0; buffers && i < count; i++)
        gpu_buffer_destroy(buffers[i]);
    mem_free(buffers);
}

// All or none.
static enum sluice_status create_buffers(struct pager *pager, const struct division *d, struct gpu_buffer ***buffers,
                                         uint32_t *count)
{
    uint32_t needed = u32_divide_up(d->slots, d->per_buffer);
    struct gpu_buffer **made = mem_alloc(needed, sizeof *made);
    if (!made)
        return SLUICE_ERR_MEMORY;
    for (uint32_t i = 0; i < needed; i++) {
        enum sluice_status status = create_buffer(pager, d, i * d->per_buffer, &made[i]);
        if (status < 0) {
            destroy_buffers(made, i);
            return status;
        }
    }
    *buffers = made;
    *count = needed;
    return SLUICE_OK;
}

static enum sluice_status create_slabs(struct pager *pager)
{
    struct division slabs = {
        .memory = GPU_MEMORY_DEVICE,
        .host = pager->unified ? pager->memory : NULL,
        .slots = pager->options.device_slots,
        .per_buffer = pager->slots_per_slab,
        .label = pager->unified ? "expert pool" : "expert slots",
    };
    return create_buffers(pager, &slabs, &pager->slabs, &pager->slab_count);
}

// Imports the host slots; if the driver refuses one buffer of them, none is used.
static enum sluice_status create_host_buffers(struct pager *pager)
{
    struct division host = {
        .memory = GPU_MEMORY_UPLOAD,
        .host = pager->memory,
        .slots = pager->options.host_slots,
        .per_buffer = slots_per_buffer(pager, pager->options.host_slots),
        .label = "host expert slots",
    };
    pager->host_slots_per_buffer = host.per_buffer;
    if (gpu_device_caps(pager->device)->can_import) {
        enum sluice_status status = create_buffers(pager, &host, &pager->host_buffers, &pager->host_buffer_count);
        if (status != SLUICE_ERR_UNSUPPORTED)
            return status;
    }
    log_message(LOG_NOTE, "host memory cannot be imported by this driver: experts are copied once more on their way");
    host.host = NULL;
    host.label = "expert staging";
    return create_buffers(pager, &host, &pager->staging, &pager->host_buffer_count);
}

enum sluice_status pager_buffers_create(struct pager *pager)
{
    pager->slots_per_slab = slots_per_buffer(pager, pager->options.device_slots);
    if (pager->slots_per_slab == 0)
        return error_set(SLUICE_ERR_BUDGET, "one expert (%llu bytes) exceeds the device's largest buffer",
                         (unsigned long long)pager->slot_bytes);
    enum sluice_status status = create_slabs(pager);
    return status < 0 || pager->unified ? status : create_host_buffers(pager);
}

// --- memory ---------------------------------------------------------------------------------------------------------

enum sluice_status pager_memory_map(struct pager *pager)
{
    uint32_t slots = pager->unified ? pager->options.device_slots : pager->options.host_slots;
    uint64_t bytes = slots * pager->slot_bytes;
    void *memory = read_memory_map(bytes);
    if (!memory)
        return error_set(SLUICE_ERR_MEMORY, "cannot map %llu bytes for expert slots; lower %s",
                         (unsigned long long)bytes, pager->unified ? "--vram" : "--ram");
    pager->memory = memory;
    pager->memory_bytes = bytes;
    return SLUICE_OK;
}

void pager_memory_finish(struct pager *pager)
{
    destroy_buffers(pager->slabs, pager->slab_count);
    destroy_buffers(pager->host_buffers, pager->host_buffer_count);
    destroy_buffers(pager->staging, pager->host_buffer_count);
    read_memory_unmap(pager->memory, pager->memory_bytes);
}

void pager_memory_shrink(struct pager *pager, uint32_t slots)
{
    while (pager->slab_count > slots / pager->slots_per_slab)
        gpu_buffer_destroy(pager->slabs[--pager->slab_count]);
    uint64_t left = slots * pager->slot_bytes;
    if (!pager->unified || left == pager->memory_bytes)
        return;
    loader_region_shrink(pager->loader, left); // otherwise the pages stay
    read_memory_unmap(pager->memory + left, pager->memory_bytes - left);
    pager->memory_bytes = left;
}
