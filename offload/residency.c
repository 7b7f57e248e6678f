// Two LRU lists one behind the other are a poor cache: what the second sees are the loads of the first, so it holds the
// same experts until it is the larger one. So evictions are copied back from the device, and a host hit moves the
// expert up: together the places are one LRU list. The copy costs bus time, which is cheap beside the read that it
// saves. Simulated with 48 layers of 512 experts, 10 used, routing_model.h's recorded locality, 600 tokens, host slots
// for 15 %, misses with device slots for            12 %      25 %      42 %
//   no RAM tier                           36.2 %    19.4 %    11.0 %
//   LRU behind LRU                        30.1 %    19.3 %    11.0 %
//   shares of the loads kept in either    26.6 %    15.4 %     9.1 %      each in one place, none copied back
//   as here, less the ring                18.1 %    11.9 %     6.6 %      = LRU of both sizes together
#include "offload/residency.h"

#include <inttypes.h>

#include "offload/residency_private.h"
#include "runtime/base/check.h"
#include "runtime/base/mem.h"

uint32_t residency_ring_slots(uint32_t slots)
{
    uint32_t half = slots / 2 + slots % 2;
    return half < RESIDENCY_LOADS_MAX ? half : RESIDENCY_LOADS_MAX;
}

static bool is_possible(uint32_t slots, uint32_t ring)
{
    return slots > 0 && slots != RESIDENCY_NONE && ring > 0 && ring <= slots;
}

enum sluice_status residency_create(const struct residency_options *o, struct residency **out)
{
    enum sluice_status status = SLUICE_ERR_MEMORY;
    *out = NULL;
    bool host = o->host_slot_count || o->ring_host_slots || o->host_cache;
    if (o->expert_count == 0 || o->expert_count == RESIDENCY_NONE ||
        !is_possible(o->device_slot_count, o->ring_device_slots) ||
        (host && !is_possible(o->host_slot_count, o->ring_host_slots)))
        return error_set(SLUICE_ERR_ARGUMENT,
                         "an expert cache of %" PRIu32 " experts, %" PRIu32 " (ring %" PRIu32 ") device and %" PRIu32
                         " (ring %" PRIu32 ") host slots is impossible",
                         o->expert_count, o->device_slot_count, o->ring_device_slots, o->host_slot_count,
                         o->ring_host_slots);
    struct residency *r = mem_alloc(1, sizeof *r);
    if (!r)
        return SLUICE_ERR_MEMORY;
    r->options = *o;
    r->experts = mem_alloc(o->expert_count, sizeof *r->experts);
    if (!r->experts)
        goto fail;
    TRY(slot_tier_create(&r->device, o->device_slot_count, o->ring_device_slots));
    TRY(slot_tier_create(&r->host, o->host_slot_count, o->ring_host_slots));
    for (uint32_t i = 0; i < o->expert_count; i++)
        r->experts[i] =
            (struct expert){.device_slot = RESIDENCY_NONE, .host_slot = RESIDENCY_NONE, .demoted = RESIDENCY_NONE};
    *out = r;
    return SLUICE_OK;
fail:
    residency_destroy(r);
    return status;
}

void residency_destroy(struct residency *r)
{
    if (!r)
        return;
    slot_tier_destroy(&r->device);
    slot_tier_destroy(&r->host);
    mem_free(r->experts);
    mem_free(r);
}

// --- taking slots ----------------------------------------------------------------------------------------------------

static bool device_is_busy(const void *user, const struct slot *slot)
{
    const struct residency *r = user;
    return r->experts[slot->expert].pin_count > 0;
}

static bool host_is_busy(const void *user, const struct slot *slot)
{
    const struct residency *r = user;
    const struct expert *e = &r->experts[slot->expert];
    return e->state == EXPERT_READING || e->state == EXPERT_LOADED || e->is_arriving;
}

// Returns the expert that lost the slot, or NONE.
static uint32_t take_device_slot(struct residency *r, uint32_t slot, uint32_t expert, enum slot_use use)
{
    uint32_t evicted = r->device.slots[slot].expert;
    if (evicted != RESIDENCY_NONE) {
        struct expert *e = &r->experts[evicted];
        CHECK(e->state == EXPERT_RESIDENT && e->pin_count == 0 && e->device_slot == slot);
        e->state = EXPERT_IDLE;
        e->device_slot = RESIDENCY_NONE;
        r->device.slots[slot].expert = RESIDENCY_NONE;
        r->statistics.device_evictions++;
    }
    slot_assign(&r->device, slot, expert, use);
    r->experts[expert].device_slot = slot;
    return evicted;
}

static void take_host_slot(struct residency *r, uint32_t slot, uint32_t expert, enum slot_use use)
{
    uint32_t evicted = r->host.slots[slot].expert;
    if (evicted != RESIDENCY_NONE) {
        r->experts[evicted].host_slot = RESIDENCY_NONE;
        r->host.slots[slot].expert = RESIDENCY_NONE;
        r->statistics.host_evictions++;
    }
    slot_assign(&r->host, slot, expert, use);
    r->experts[expert].host_slot = slot;
}

void residency_free_device_slot(struct residency *r, struct expert *e)
{
    slot_clear(&r->device, e->device_slot);
    e->device_slot = RESIDENCY_NONE;
}

void residency_free_host_slot(struct residency *r, struct expert *e)
{
    if (e->host_slot != RESIDENCY_NONE) // none in one pool
        slot_clear(&r->host, e->host_slot);
    e->host_slot = RESIDENCY_NONE;
}

// --- acquiring -------------------------------------------------------------------------------------------------------

void residency_fill_ticket(const struct residency *r, uint32_t expert, struct residency_ticket *ticket)
{
    const struct expert *e = &r->experts[expert];
    *ticket = (struct residency_ticket){
        .expert = expert,
        .device_slot = e->device_slot,
        .host_slot = e->host_slot,
        .evicted_expert = RESIDENCY_NONE,
        .demotion_slot = RESIDENCY_NONE,
    };
    if (e->device_slot != RESIDENCY_NONE) {
        ticket->device_copy_tick = r->device.slots[e->device_slot].copy_tick;
        ticket->device_reader_tick = r->device.slots[e->device_slot].reader_tick;
    }
    if (e->host_slot != RESIDENCY_NONE)
        ticket->host_copy_tick = r->host.slots[e->host_slot].copy_tick;
}

// A use in the normal mode; a sweep's hits move nothing.
static void heat(struct residency *r, const struct expert *e)
{
    if (e->device_slot != RESIDENCY_NONE)
        slot_move(&r->device, e->device_slot, LIST_LRU, true);
    else if (e->host_slot != RESIDENCY_NONE)
        slot_move(&r->host, e->host_slot, LIST_LRU, true);
}

// The expert is on the device, or on its way: one more user.
static enum residency_result join(struct residency *r, uint32_t expert, enum residency_mode mode,
                                  struct residency_counts *counts, struct residency_ticket *ticket)
{
    struct expert *e = &r->experts[expert];
    bool resident = e->state == EXPERT_RESIDENT;
    e->pin_count++;
    counts->device_hits += resident;
    counts->pending += !resident;
    if (mode == RESIDENCY_NORMAL)
        heat(r, e);
    residency_fill_ticket(r, expert, ticket);
    return resident ? RESIDENCY_DEVICE : RESIDENCY_PENDING;
}

// What the device gives up moves to the host's list. Returns the host slot that it must be copied to; NONE: none, it is
// there already or there is no room.
static uint32_t demote(struct residency *r, uint32_t evicted)
{
    struct expert *e = &r->experts[evicted];
    if (e->host_slot != RESIDENCY_NONE) {
        slot_move(&r->host, e->host_slot, LIST_LRU, true);
        return RESIDENCY_NONE;
    }
    uint32_t slot = slot_victim(&r->host, SLOT_KEPT, host_is_busy, r);
    if (slot == RESIDENCY_NONE)
        return RESIDENCY_NONE;
    take_host_slot(r, slot, evicted, SLOT_KEPT);
    e->is_arriving = true;
    return slot;
}

// The copy to the host will not happen.
static void forget_demotion(struct residency *r, struct expert *e)
{
    if (e->demoted == RESIDENCY_NONE)
        return;
    struct expert *demoted = &r->experts[e->demoted];
    demoted->is_arriving = false;
    residency_free_host_slot(r, demoted);
    e->demoted = RESIDENCY_NONE;
}

// The expert is not on the device: assigns the slots that it lacks, all or none.
static enum residency_result load(struct residency *r, uint32_t expert, enum residency_mode mode,
                                  struct residency_counts *counts, struct residency_ticket *ticket)
{
    struct expert *e = &r->experts[expert];
    bool cached = e->host_slot != RESIDENCY_NONE;
    enum slot_use device_use = mode == RESIDENCY_SWEEP ? SLOT_SWEPT : SLOT_KEPT;
    enum slot_use host_use = mode == RESIDENCY_SWEEP ? SLOT_SWEPT : SLOT_PASSING;
    if (e->is_arriving) {
        counts->no_slot++;
        return RESIDENCY_NO_SLOT;
    }
    uint32_t device_slot = slot_victim(&r->device, device_use, device_is_busy, r);
    uint32_t host_slot = cached ? e->host_slot : slot_victim(&r->host, host_use, host_is_busy, r);
    if (device_slot == RESIDENCY_NONE || (host_slot == RESIDENCY_NONE && !residency_is_pool(r))) {
        counts->no_slot++;
        return RESIDENCY_NO_SLOT;
    }
    uint32_t evicted = take_device_slot(r, device_slot, expert, device_use);
    if (!cached && !residency_is_pool(r))
        take_host_slot(r, host_slot, expert, host_use);
    else if (cached && mode == RESIDENCY_NORMAL)
        slot_move(&r->host, host_slot, LIST_RING, true); // the device keeps it from now on
    e->state = cached ? EXPERT_LOADED : EXPERT_READING;
    e->pin_count = 1;
    counts->host_hits += cached;
    counts->misses += !cached;
    residency_fill_ticket(r, expert, ticket);
    ticket->evicted_expert = evicted;
    if (evicted != RESIDENCY_NONE && r->options.host_cache && mode == RESIDENCY_NORMAL)
        ticket->demotion_slot = demote(r, evicted);
    e->demoted = ticket->demotion_slot != RESIDENCY_NONE ? evicted : RESIDENCY_NONE;
    return cached ? RESIDENCY_HOST : RESIDENCY_MISS;
}

enum residency_result residency_acquire(struct residency *r, uint32_t expert, enum residency_mode mode,
                                        struct residency_ticket *ticket)
{
    CHECK(expert < r->options.expert_count);
    struct residency_counts *counts = mode == RESIDENCY_SWEEP ? &r->statistics.sweep : &r->statistics.normal;
    switch (r->experts[expert].state) {
    case EXPERT_FAILED:
        return RESIDENCY_FAILED;
    case EXPERT_IDLE:
        return load(r, expert, mode, counts, ticket);
    case EXPERT_READING:
    case EXPERT_LOADED:
    case EXPERT_RESIDENT:
        break;
    }
    return join(r, expert, mode, counts, ticket);
}

// --- what the caller did ---------------------------------------------------------------------------------------------

void residency_read_done(struct residency *r, uint32_t expert, bool ok)
{
    CHECK(expert < r->options.expert_count);
    struct expert *e = &r->experts[expert];
    CHECK(e->state == EXPERT_READING);
    if (ok) {
        e->state = residency_is_pool(r) ? EXPERT_RESIDENT : EXPERT_LOADED;
        return;
    }
    forget_demotion(r, e);
    residency_free_device_slot(r, e);
    residency_free_host_slot(r, e);
    e->state = EXPERT_FAILED;
    r->statistics.read_failures++;
}

void residency_copy_recorded(struct residency *r, uint32_t expert, uint64_t tick)
{
    CHECK(expert < r->options.expert_count && tick > 0);
    struct expert *e = &r->experts[expert];
    CHECK(e->state == EXPERT_LOADED);
    e->state = EXPERT_RESIDENT;
    r->device.slots[e->device_slot].copy_tick = tick;
    r->host.slots[e->host_slot].copy_tick = tick;
    if (e->demoted != RESIDENCY_NONE) {
        struct expert *demoted = &r->experts[e->demoted];
        demoted->is_arriving = false;
        r->host.slots[demoted->host_slot].copy_tick = tick;
        e->demoted = RESIDENCY_NONE;
    }
    if (!r->options.host_cache)
        residency_free_host_slot(r, e);
}

void residency_release(struct residency *r, uint32_t expert, uint64_t last_reader_tick)
{
    CHECK(expert < r->options.expert_count);
    struct expert *e = &r->experts[expert];
    CHECK(e->pin_count > 0);
    e->pin_count--;
    if (e->device_slot != RESIDENCY_NONE && r->device.slots[e->device_slot].reader_tick < last_reader_tick)
        r->device.slots[e->device_slot].reader_tick = last_reader_tick;
    if (e->pin_count > 0 || e->state == EXPERT_RESIDENT)
        return;
    CHECK(e->state != EXPERT_READING);
    if (e->state == EXPERT_LOADED) {
        forget_demotion(r, e);
        residency_free_device_slot(r, e);
        if (!r->options.host_cache)
            residency_free_host_slot(r, e);
    }
    e->state = EXPERT_IDLE;
}

// --- the order -------------------------------------------------------------------------------------------------------

bool residency_touch(struct residency *r, uint32_t expert)
{
    CHECK(expert < r->options.expert_count);
    const struct expert *e = &r->experts[expert];
    heat(r, e);
    return e->device_slot != RESIDENCY_NONE || e->host_slot != RESIDENCY_NONE;
}

bool residency_keep_host(struct residency *r, uint32_t expert)
{
    CHECK(expert < r->options.expert_count);
    uint32_t slot = r->options.host_cache ? r->experts[expert].host_slot : RESIDENCY_NONE;
    if (slot != RESIDENCY_NONE)
        slot_move(&r->host, slot, LIST_LRU, true);
    return slot != RESIDENCY_NONE;
}

void residency_settle(struct residency *r)
{
    slot_tier_settle(&r->device);
    slot_tier_settle(&r->host);
}

struct residency_statistics residency_statistics(const struct residency *r)
{
    return r->statistics;
}
