// With separate places: experts go from host slots to device slots, and with a RAM tier back again.
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/model/pager_private.h"

static struct gpu_range slot_range(struct gpu_buffer *const *buffers, uint32_t per_buffer, uint64_t slot_bytes,
                                   uint32_t slot, uint64_t bytes)
{
    return gpu_range_make(buffers[slot / per_buffer], slot % per_buffer * slot_bytes, bytes);
}

static struct gpu_range device_range(const struct pager *pager, uint32_t slot, uint64_t bytes)
{
    return slot_range(pager->slabs, pager->slots_per_slab, pager->slot_bytes, slot, bytes);
}

static struct gpu_range host_range(const struct pager *pager, uint32_t slot, uint64_t bytes)
{
    struct gpu_buffer **buffers = pager->host_buffers ? pager->host_buffers : pager->staging;
    return slot_range(buffers, pager->host_slots_per_buffer, pager->slot_bytes, slot, bytes);
}

// What was in the device slot goes to the host cache first.
static void record_demotion(struct pager *pager, struct gpu_command *cmd, const struct residency_ticket *ticket)
{
    uint32_t slot = ticket->demotion_slot;
    gpu_copy(cmd, device_range(pager, ticket->device_slot, pager->slot_bytes),
             host_range(pager, slot, pager->slot_bytes));
    pager->is_staged[slot] = true;
    pager->demoted_keys[pager->demoted_count++] = ticket->evicted_expert;
}

void pager_record_copy(struct pager *pager, struct gpu_command *cmd, uint32_t key, const struct item *item)
{
    CHECK(!pager->unified);
    uint64_t bytes = pager->sweeps[pager->now].shape->record_bytes;
    uint32_t from_slot = item->ticket.host_slot;
    if (item->ticket.demotion_slot != RESIDENCY_NONE)
        record_demotion(pager, cmd, &item->ticket);
    struct gpu_range from = host_range(pager, from_slot, bytes);
    if (pager->staging && !pager->is_staged[from_slot])
        memcpy(gpu_range_map(from), pager->memory + from_slot * pager->slot_bytes, bytes);
    pager->is_staged[from_slot] = true;
    gpu_copy(cmd, from, device_range(pager, item->ticket.device_slot, bytes));
    pager->unsubmitted_keys[pager->unsubmitted_count++] = key;
    // The tick of the submission to come: commands run in order, so it is the next one.
    residency_copy_recorded(pager->residency, key, gpu_tick_last(pager->device) + 1);
}
