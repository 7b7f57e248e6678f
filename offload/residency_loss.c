// What is taken away: slots whose memory is given back, and what commands should have done that were given up.
#include "offload/residency_private.h"
#include "runtime/base/check.h"

void residency_shrink(struct residency *r, uint32_t slots)
{
    CHECK(slots > 0 && slots <= r->options.device_slot_count);
    slot_tier_settle(&r->device); // the ring may become shorter than what is in it
    for (uint32_t slot = slots; slot < r->options.device_slot_count; slot++) {
        uint32_t expert = r->device.slots[slot].expert;
        if (expert == RESIDENCY_NONE)
            continue;
        struct expert *e = &r->experts[expert];
        CHECK(e->state == EXPERT_RESIDENT && e->pin_count == 0);
        residency_free_device_slot(r, e);
        e->state = EXPERT_IDLE;
        r->statistics.device_evictions++;
    }
    uint32_t ring = residency_ring_slots(slots);
    r->options.device_slot_count = slots;
    r->options.ring_device_slots = r->options.ring_device_slots < ring ? r->options.ring_device_slots : ring;
    slot_tier_shrink(&r->device, slots, r->options.ring_device_slots);
}

void residency_copy_lost(struct residency *r, uint32_t expert)
{
    CHECK(expert < r->options.expert_count);
    struct expert *e = &r->experts[expert];
    if (e->state != EXPERT_RESIDENT)
        return;
    CHECK(e->pin_count == 0);
    residency_free_device_slot(r, e);
    e->state = EXPERT_IDLE;
}

void residency_demotion_lost(struct residency *r, uint32_t evicted_expert)
{
    CHECK(evicted_expert < r->options.expert_count);
    struct expert *e = &r->experts[evicted_expert];
    CHECK(e->pin_count == 0);
    if (e->host_slot != RESIDENCY_NONE && !e->is_arriving)
        residency_free_host_slot(r, e);
}

void residency_readers_lost(struct residency *r, uint64_t tick)
{
    for (uint32_t slot = 0; slot < r->device.slot_count; slot++)
        if (r->device.slots[slot].reader_tick > tick)
            r->device.slots[slot].reader_tick = tick;
}
