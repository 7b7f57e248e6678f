// Creation of the pager and what others ask it; its work is in pager_sweep.c and pager_reads.c.
#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "runtime/model/pager_private.h"

uint64_t pager_slot_bytes(const struct container *container)
{
    return container_expert_record_bytes_max(container);
}

bool pager_can_unify(const struct gpu_device *device, const struct container *container)
{
    const struct gpu_caps *caps = gpu_device_caps(device);
    return caps->can_bind_imports && pager_slot_bytes(container) % caps->import_alignment == 0;
}

// --- creation -------------------------------------------------------------------------------------------------------

static enum sluice_status create_loader(struct pager *pager)
{
    uint32_t slots = (uint32_t)(pager->memory_bytes / pager->slot_bytes);
    struct loader_options options = {
        .reader = {.kind = pager->options.io,
                   .depth = READ_DEPTH,
                   .region = pager->memory,
                   .region_bytes = pager->memory_bytes,
                   .region_unit_bytes = pager->slot_bytes,
                   .faults = pager->options.faults},
        .capacity = slots < REQUESTS_MAX ? slots : REQUESTS_MAX,
        .verify = pager->options.verify,
    };
    return loader_create(pager->container, &options, &pager->loader);
}

static enum sluice_status create_residency(struct pager *pager)
{
    uint32_t device_slots = pager->options.device_slots, host_slots = pager->options.host_slots;
    struct residency_options options = {
        .expert_count = (uint32_t)container_expert_count(pager->container),
        .device_slot_count = device_slots,
        .host_slot_count = host_slots,
        .ring_device_slots = residency_ring_slots(device_slots),
        .ring_host_slots = residency_ring_slots(host_slots),
        .host_cache = pager->options.host_cache,
    };
    return residency_create(&options, &pager->residency);
}

static enum sluice_status create_sweeps(struct pager *pager)
{
    uint32_t experts = 0;
    for (uint32_t i = 0; i < container_expert_layer_count(pager->container); i++) {
        uint32_t count = container_expert_layer_at(pager->container, i)->expert_count;
        experts = count > experts ? count : experts;
    }
    pager->unsubmitted_keys = mem_alloc(pager->options.device_slots, sizeof *pager->unsubmitted_keys);
    pager->demoted_keys = mem_alloc(pager->options.device_slots, sizeof *pager->demoted_keys);
    pager->is_staged = mem_alloc(pager->options.host_slots, sizeof *pager->is_staged);
    if (!pager->unsubmitted_keys || !pager->demoted_keys || !pager->is_staged)
        return SLUICE_ERR_MEMORY;
    for (int i = 0; i < 2; i++) {
        struct sweep *sweep = &pager->sweeps[i];
        sweep->items = mem_alloc(experts, sizeof *sweep->items);
        sweep->order = mem_alloc(experts, sizeof *sweep->order);
        if (!sweep->items || !sweep->order)
            return SLUICE_ERR_MEMORY;
    }
    return SLUICE_OK;
}

enum sluice_status pager_create(struct gpu_device *device, const struct container *container,
                                const struct pager_options *options, struct pager **out)
{
    enum sluice_status status;
    *out = NULL;
    struct pager *pager = mem_alloc(1, sizeof *pager);
    if (!pager)
        return SLUICE_ERR_MEMORY;
    pager->device = device;
    pager->container = container;
    pager->options = *options;
    pager->slot_bytes = pager_slot_bytes(container);
    pager->unified = options->host_slots == 0;
    CHECK(pager->slot_bytes > 0 && options->device_slots > 0 && !(pager->unified && options->host_cache));
    TRY(pager_memory_map(pager));
    TRY(create_loader(pager)); // first: what the reader has registered does not move any more once it is imported
    TRY(pager_buffers_create(pager));
    TRY(create_residency(pager));
    TRY(create_sweeps(pager));
    *out = pager;
    return SLUICE_OK;
fail:
    pager_destroy(pager);
    return status;
}

void pager_destroy(struct pager *pager)
{
    if (!pager)
        return;
    loader_destroy(pager->loader);
    residency_destroy(pager->residency);
    pager_memory_finish(pager);
    for (int i = 0; i < 2; i++) {
        mem_free(pager->sweeps[i].items);
        mem_free(pager->sweeps[i].order);
    }
    mem_free(pager->unsubmitted_keys);
    mem_free(pager->demoted_keys);
    mem_free(pager->is_staged);
    mem_free(pager);
}

// --- what others need -----------------------------------------------------------------------------------------------

struct gpu_range pager_slab_range(const struct pager *pager, uint32_t slab)
{
    CHECK(slab < pager->slab_count);
    return gpu_range_all(pager->slabs[slab]);
}

struct moe_slab pager_slab(const struct pager *pager, uint32_t layer, uint32_t slab)
{
    const struct container_expert_layer *shape = container_expert_layer(pager->container, layer);
    CHECK(shape);
    return (struct moe_slab){
        .range = pager_slab_range(pager, slab),
        .slot_bytes = (uint32_t)pager->slot_bytes,
        .down_offset = (uint32_t)shape->down_offset,
        .gate_up_type = (enum quant_type)shape->gate_up_type_id,
        .down_type = (enum quant_type)shape->down_type_id,
        .hidden = shape->hidden,
        .inter = shape->intermediate,
    };
}

uint32_t pager_keep_count(const struct pager *pager, bool on_device)
{
    uint32_t slots = on_device ? pager->options.device_slots : pager->options.host_slots;
    uint32_t layers = container_expert_layer_count(pager->container);
    return on_device || pager->options.host_cache ? (slots - residency_ring_slots(slots)) / layers : 0;
}

uint32_t pager_slab_count(const struct pager *pager)
{
    return pager->slab_count;
}

uint32_t pager_device_slots(const struct pager *pager)
{
    return pager->options.device_slots;
}

uint32_t pager_shrink_to(const struct pager *pager, uint32_t least, uint32_t wanted)
{
    uint32_t per_slab = pager->slots_per_slab, slots = wanted / per_slab * per_slab;
    while (slots < least)
        slots += per_slab;
    return slots < pager->options.device_slots ? slots : pager->options.device_slots;
}

void pager_shrink(struct pager *pager, uint32_t slots)
{
    CHECK(!pager->sweeps[0].open && !pager->sweeps[1].open && !pager->unsubmitted);
    CHECK(slots > 0 && slots <= pager->options.device_slots && slots % pager->slots_per_slab == 0);
    residency_shrink(pager->residency, slots);
    pager->options.device_slots = slots;
    pager_memory_shrink(pager, slots);
}

struct pager_statistics pager_statistics(const struct pager *pager)
{
    struct residency_statistics r = residency_statistics(pager->residency);
    struct loader_statistics d = loader_statistics(pager->loader);
    return (struct pager_statistics){
        .hits_device = r.normal.device_hits + r.sweep.device_hits,
        .hits_host = r.normal.host_hits + r.sweep.host_hits,
        .misses = r.normal.misses + r.sweep.misses,
        .wasted = pager->wasted,
        .bytes_read = d.reader.bytes,
        .wait_ns = d.wait_ns,
        .wait_cpu_ns = d.wait_cpu_ns,
        .busy_ns = d.reader.busy_ns,
        .cpu_ns = d.cpu_ns,
        .caller_cpu_ns = d.caller_cpu_ns,
        .checksum_cpu_ns = d.checksum_cpu_ns,
        .checksums = d.checksums,
        .device_bytes = pager->options.device_slots * pager->slot_bytes,
        .host_bytes = pager->options.host_slots * pager->slot_bytes,
    };
}
