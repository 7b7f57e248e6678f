// Two LRU lists one behind the other are a poor cache: what the second sees are the loads of the first, so it holds the
// same experts until it is the larger one. Copying evicted experts back from the device would cost bus time at each
// eviction. So each expert that comes from the drive is *kept* in one place and only *passes through* the other, the
// places taking turns in proportion to their slots; a host hit makes the device keep the expert, since it has proved to
// be used again. Simulated with 512 experts a layer, 10 used, Zipf 0.8 with drift, 30 % taken from the step before,
// device slots for 24 % of the experts:
//
//                                host slots for   15 %             30 %             45 %
//   LRU behind LRU, misses                        36.6 %           31.4 %           24.0 %
//   as here: device, host, miss               63.0 7.2 29.8    61.7 14.8 23.5   62.3 19.0 18.7 %
//
// It does not always win: with device slots for 12 % and host slots for 45 %, misses are 24.9 % instead of 24.0 % and
// device hits 46.9 % instead of 52.2 %. Made-up uses, one seed, 12 layers: to be checked with real traces (trace.h).
#include "offload/residency.h"

#include <inttypes.h>

#include "offload/slot_tier.h"
#include "runtime/base/check.h"
#include "runtime/base/mem.h"

// What is known of an expert, besides its two slots:
//
//              device slot   host slot        pins
//   IDLE       no            cached or none   0
//   READING    yes           yes              > 0
//   LOADED     yes           yes              > 0    copy not recorded yet
//   RESIDENT   yes           cached or none   any
//   FAILED     no            no               > 0
enum expert_state { EXPERT_IDLE, EXPERT_READING, EXPERT_LOADED, EXPERT_RESIDENT, EXPERT_FAILED };

struct expert {
    uint32_t device_slot, host_slot;
    uint32_t pin_count;
    enum expert_state state;
};

struct residency {
    struct residency_options options;
    struct expert *experts; // [expert_count], owned
    struct slot_tier device, host;
    uint64_t host_share; // of loads: grows by the host's slots with each, one is the host's when it reaches all slots
    struct residency_statistics statistics;
};

uint32_t residency_ring_slots(uint32_t slots)
{
    uint32_t half = slots / 2 + slots % 2;
    return half < RESIDENCY_LOADS_MAX ? half : RESIDENCY_LOADS_MAX;
}

enum sluice_status residency_create(const struct residency_options *o, struct residency **out)
{
    enum sluice_status status = SLUICE_ERR_MEMORY;
    *out = NULL;
    if (o->expert_count == 0 || o->expert_count == RESIDENCY_NONE || o->device_slot_count == 0 ||
        o->device_slot_count == RESIDENCY_NONE || o->host_slot_count == 0 || o->host_slot_count == RESIDENCY_NONE ||
        o->ring_device_slots == 0 || o->ring_device_slots > o->device_slot_count || o->ring_host_slots == 0 ||
        o->ring_host_slots > o->host_slot_count)
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
        r->experts[i] = (struct expert){.device_slot = RESIDENCY_NONE, .host_slot = RESIDENCY_NONE};
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

uint64_t residency_bytes(const struct residency_options *o)
{
    return sizeof(struct residency) + o->expert_count * sizeof(struct expert) +
           ((uint64_t)o->device_slot_count + o->host_slot_count) * sizeof(struct slot);
}

// Taking slots.

static bool device_is_busy(const void *user, const struct slot *slot)
{
    const struct residency *r = user;
    return r->experts[slot->expert].pin_count > 0;
}

static bool host_is_busy(const void *user, const struct slot *slot)
{
    const struct residency *r = user;
    enum expert_state state = r->experts[slot->expert].state;
    return state == EXPERT_READING || state == EXPERT_LOADED;
}

// Returns the expert that lost the slot, or NONE. Nothing is copied back: the file has it.
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

static void free_device_slot(struct residency *r, struct expert *e)
{
    slot_clear(&r->device, e->device_slot);
    e->device_slot = RESIDENCY_NONE;
}

static void free_host_slot(struct residency *r, struct expert *e)
{
    slot_clear(&r->host, e->host_slot);
    e->host_slot = RESIDENCY_NONE;
}

// Acquiring.

static void fill_ticket(const struct residency *r, uint32_t expert, struct residency_ticket *ticket)
{
    const struct expert *e = &r->experts[expert];
    *ticket = (struct residency_ticket){
        .expert = expert,
        .device_slot = e->device_slot,
        .host_slot = e->host_slot,
        .evicted_expert = RESIDENCY_NONE,
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
    fill_ticket(r, expert, ticket);
    return resident ? RESIDENCY_DEVICE : RESIDENCY_PENDING;
}

// Which place keeps an expert that comes from the drive: see the comment at the top.
struct keeping {
    enum slot_use device, host;
};

static struct keeping choose_place(const struct residency *r, enum residency_mode mode, bool cached)
{
    uint64_t host_count = r->host.slot_count, all_count = host_count + r->device.slot_count;
    if (mode == RESIDENCY_SWEEP)
        return (struct keeping){SLOT_SWEPT, SLOT_SWEPT};
    if (r->options.host_cache && !cached && r->host_share + host_count >= all_count)
        return (struct keeping){SLOT_PASSING, SLOT_KEPT};
    return (struct keeping){SLOT_KEPT, SLOT_PASSING};
}

static void count_load(struct residency *r)
{
    r->host_share += r->host.slot_count;
    if (r->host_share >= (uint64_t)r->host.slot_count + r->device.slot_count)
        r->host_share -= (uint64_t)r->host.slot_count + r->device.slot_count;
}

// The expert is not on the device: assigns the slots that it lacks, all or none.
static enum residency_result load(struct residency *r, uint32_t expert, enum residency_mode mode,
                                  struct residency_counts *counts, struct residency_ticket *ticket)
{
    struct expert *e = &r->experts[expert];
    bool cached = e->host_slot != RESIDENCY_NONE;
    struct keeping keeping = choose_place(r, mode, cached);
    uint32_t device_slot = slot_victim(&r->device, keeping.device, device_is_busy, r);
    uint32_t host_slot = cached ? e->host_slot : slot_victim(&r->host, keeping.host, host_is_busy, r);
    if (device_slot == RESIDENCY_NONE || host_slot == RESIDENCY_NONE) {
        counts->no_slot++;
        return RESIDENCY_NO_SLOT;
    }
    uint32_t evicted = take_device_slot(r, device_slot, expert, keeping.device);
    if (!cached)
        take_host_slot(r, host_slot, expert, keeping.host);
    else if (mode == RESIDENCY_NORMAL)
        slot_move(&r->host, host_slot, LIST_LRU, false); // the device keeps it from now on
    if (!cached && mode == RESIDENCY_NORMAL)
        count_load(r);
    e->state = cached ? EXPERT_LOADED : EXPERT_READING;
    e->pin_count = 1;
    counts->host_hits += cached;
    counts->misses += !cached;
    fill_ticket(r, expert, ticket);
    ticket->evicted_expert = evicted;
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

// What the caller did.

void residency_read_done(struct residency *r, uint32_t expert, bool ok)
{
    CHECK(expert < r->options.expert_count);
    struct expert *e = &r->experts[expert];
    CHECK(e->state == EXPERT_READING);
    if (ok) {
        e->state = EXPERT_LOADED;
        return;
    }
    free_device_slot(r, e);
    free_host_slot(r, e);
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
    if (!r->options.host_cache)
        free_host_slot(r, e);
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
        free_device_slot(r, e);
        if (!r->options.host_cache)
            free_host_slot(r, e);
    }
    e->state = EXPERT_IDLE;
}

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

static void settle(struct slot_tier *tier)
{
    while (tier->lists[LIST_RING].count > 0) // the latest first, so that the oldest ends up coldest
        slot_move(tier, tier->lists[LIST_RING].hot, LIST_LRU, false);
}

void residency_settle(struct residency *r)
{
    settle(&r->device);
    settle(&r->host);
}

void residency_copy_lost(struct residency *r, uint32_t expert)
{
    CHECK(expert < r->options.expert_count);
    struct expert *e = &r->experts[expert];
    if (e->state != EXPERT_RESIDENT)
        return;
    CHECK(e->pin_count == 0);
    free_device_slot(r, e);
    e->state = EXPERT_IDLE;
}

enum residency_result residency_look(const struct residency *r, uint32_t expert, struct residency_ticket *ticket)
{
    CHECK(expert < r->options.expert_count);
    const struct expert *e = &r->experts[expert];
    if (ticket)
        fill_ticket(r, expert, ticket);
    switch (e->state) {
    case EXPERT_READING:
        return RESIDENCY_PENDING;
    case EXPERT_LOADED:
        return RESIDENCY_HOST;
    case EXPERT_RESIDENT:
        return RESIDENCY_DEVICE;
    case EXPERT_FAILED:
        return RESIDENCY_FAILED;
    case EXPERT_IDLE:
        break;
    }
    return e->host_slot != RESIDENCY_NONE ? RESIDENCY_HOST : RESIDENCY_MISS;
}

struct residency_statistics residency_statistics(const struct residency *r)
{
    return r->statistics;
}

static void check_expert(const struct residency *r, uint32_t expert)
{
    const struct expert *e = &r->experts[expert];
    bool on_device = e->device_slot != RESIDENCY_NONE, on_host = e->host_slot != RESIDENCY_NONE;
    bool under_way = e->state == EXPERT_READING || e->state == EXPERT_LOADED;
    CHECK(on_device == (under_way || e->state == EXPERT_RESIDENT));
    CHECK(!under_way || on_host);
    CHECK(on_host <= (under_way || r->options.host_cache));
    CHECK(e->state != EXPERT_FAILED || !on_host);
    CHECK(e->state == EXPERT_RESIDENT || (e->pin_count > 0) == (under_way || e->state == EXPERT_FAILED));
    if (on_device)
        CHECK(e->device_slot < r->device.slot_count && r->device.slots[e->device_slot].expert == expert);
    if (on_host)
        CHECK(e->host_slot < r->host.slot_count && r->host.slots[e->host_slot].expert == expert);
}

void residency_check(const struct residency *r)
{
    slot_tier_check(&r->device);
    slot_tier_check(&r->host);
    for (uint32_t expert = 0; expert < r->options.expert_count; expert++)
        check_expert(r, expert);
    for (uint32_t slot = 0; slot < r->device.slot_count; slot++)
        if (r->device.slots[slot].expert != RESIDENCY_NONE)
            CHECK(r->experts[r->device.slots[slot].expert].device_slot == slot);
    for (uint32_t slot = 0; slot < r->host.slot_count; slot++)
        if (r->host.slots[slot].expert != RESIDENCY_NONE)
            CHECK(r->experts[r->host.slots[slot].expert].host_slot == slot);
}
