#include "offload/slot_tier.h"

#include "runtime/base/check.h"
#include "runtime/base/mem.h"

static void unlink_slot(struct slot_tier *tier, uint32_t slot)
{
    struct slot *s = &tier->slots[slot];
    struct slot_ends *ends = &tier->lists[s->list];
    if (s->hotter != RESIDENCY_NONE)
        tier->slots[s->hotter].colder = s->colder;
    else
        ends->hot = s->colder;
    if (s->colder != RESIDENCY_NONE)
        tier->slots[s->colder].hotter = s->hotter;
    else
        ends->cold = s->hotter;
    ends->count--;
}

static void link_slot(struct slot_tier *tier, uint32_t slot, enum slot_list list, bool hot_end)
{
    struct slot *s = &tier->slots[slot];
    struct slot_ends *ends = &tier->lists[list];
    s->list = list;
    s->hotter = hot_end ? RESIDENCY_NONE : ends->cold;
    s->colder = hot_end ? ends->hot : RESIDENCY_NONE;
    if (s->hotter != RESIDENCY_NONE)
        tier->slots[s->hotter].colder = slot;
    else
        ends->hot = slot;
    if (s->colder != RESIDENCY_NONE)
        tier->slots[s->colder].hotter = slot;
    else
        ends->cold = slot;
    ends->count++;
}

enum sluice_status slot_tier_create(struct slot_tier *tier, uint32_t slot_count, uint32_t ring_slots)
{
    *tier = (struct slot_tier){.slot_count = slot_count, .ring_slots = ring_slots};
    tier->slots = mem_alloc(slot_count, sizeof *tier->slots);
    if (!tier->slots)
        return SLUICE_ERR_MEMORY;
    for (int list = 0; list < LIST_COUNT; list++)
        tier->lists[list] = (struct slot_ends){RESIDENCY_NONE, RESIDENCY_NONE, 0};
    for (uint32_t slot = 0; slot < slot_count; slot++) {
        tier->slots[slot].expert = RESIDENCY_NONE;
        link_slot(tier, slot, LIST_FREE, true);
    }
    return SLUICE_OK;
}

void slot_tier_destroy(struct slot_tier *tier)
{
    mem_free(tier->slots);
    tier->slots = NULL;
}

void slot_move(struct slot_tier *tier, uint32_t slot, enum slot_list list, bool hot_end)
{
    unlink_slot(tier, slot);
    link_slot(tier, slot, list, hot_end);
}

static uint32_t coldest_idle(const struct slot_tier *tier, enum slot_list list, slot_busy_function *busy,
                             const void *user)
{
    // What is busy was used lately, so it is rarely met before an idle one.
    uint32_t slot = tier->lists[list].cold;
    while (slot != RESIDENCY_NONE && busy(user, &tier->slots[slot]))
        slot = tier->slots[slot].hotter;
    return slot;
}

uint32_t slot_victim(const struct slot_tier *tier, enum slot_use use, slot_busy_function *busy, const void *user)
{
    if (tier->lists[LIST_FREE].count > 0)
        return tier->lists[LIST_FREE].cold;
    uint32_t ring_count = tier->lists[LIST_RING].count;
    bool ring_first = use == SLOT_KEPT ? ring_count > tier->ring_slots : ring_count >= tier->ring_slots;
    uint32_t slot = coldest_idle(tier, ring_first ? LIST_RING : LIST_LRU, busy, user);
    if (slot != RESIDENCY_NONE || (ring_first && use == SLOT_SWEPT))
        return slot;
    return coldest_idle(tier, ring_first ? LIST_LRU : LIST_RING, busy, user);
}

void slot_assign(struct slot_tier *tier, uint32_t slot, uint32_t expert, enum slot_use use)
{
    struct slot *s = &tier->slots[slot];
    bool to_ring = s->list == LIST_RING || (s->list == LIST_LRU && tier->lists[LIST_RING].count < tier->ring_slots);
    CHECK(s->expert == RESIDENCY_NONE);
    s->expert = expert;
    if (use == SLOT_KEPT)
        slot_move(tier, slot, LIST_LRU, true);
    else
        slot_move(tier, slot, to_ring ? LIST_RING : LIST_LRU, to_ring);
}

void slot_clear(struct slot_tier *tier, uint32_t slot)
{
    tier->slots[slot].expert = RESIDENCY_NONE;
    slot_move(tier, slot, LIST_FREE, true);
}

void slot_tier_settle(struct slot_tier *tier)
{
    while (tier->lists[LIST_RING].count > 0) // the latest first, so that the oldest ends up coldest
        slot_move(tier, tier->lists[LIST_RING].hot, LIST_LRU, false);
}

void slot_tier_shrink(struct slot_tier *tier, uint32_t slot_count, uint32_t ring_slots)
{
    CHECK(tier->lists[LIST_RING].count == 0 && slot_count <= tier->slot_count);
    for (uint32_t slot = slot_count; slot < tier->slot_count; slot++) {
        CHECK(tier->slots[slot].list == LIST_FREE);
        unlink_slot(tier, slot);
    }
    tier->slot_count = slot_count;
    tier->ring_slots = ring_slots;
}

static void check_list(const struct slot_tier *tier, enum slot_list list)
{
    const struct slot_ends *ends = &tier->lists[list];
    uint32_t count = 0, hotter = RESIDENCY_NONE;
    for (uint32_t slot = ends->hot; slot != RESIDENCY_NONE; slot = tier->slots[slot].colder) {
        const struct slot *s = &tier->slots[slot];
        CHECK(slot < tier->slot_count && ++count <= tier->slot_count);
        CHECK(s->list == list && s->hotter == hotter);
        CHECK((s->expert == RESIDENCY_NONE) == (list == LIST_FREE));
        hotter = slot;
    }
    CHECK(ends->cold == hotter && ends->count == count);
}

void slot_tier_check(const struct slot_tier *tier)
{
    uint32_t count = 0;
    for (int list = 0; list < LIST_COUNT; list++) {
        check_list(tier, (enum slot_list)list);
        count += tier->lists[list].count;
    }
    CHECK(count == tier->slot_count);
}
