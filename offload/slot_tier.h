// The slots of one place (device or host) and the order in which they are given up. Used by residency*.c only.
//
//   LIST_FREE   hold nothing; oldest freed first
//   LIST_RING   only passing through, oldest first; at most ring_slots, but for those that were moved there
//   LIST_LRU    kept: [hot] ... [cold]
#ifndef SLUICE_OFFLOAD_SLOT_TIER_H
#define SLUICE_OFFLOAD_SLOT_TIER_H

#include <stdbool.h>
#include <stdint.h>

#include "offload/residency.h"

// What a slot is wanted for. KEPT takes the coldest of the LRU list, or the oldest of a ring that is too long. PASSING
// takes the oldest of the ring once that has its full length, and falls back to the LRU list; SWEPT does the same
// without falling back, so that it never gets more.
enum slot_use { SLOT_KEPT, SLOT_PASSING, SLOT_SWEPT };

enum slot_list { LIST_FREE, LIST_RING, LIST_LRU, LIST_COUNT };

struct slot {
    uint32_t expert;         // RESIDENCY_NONE when free
    uint32_t hotter, colder; // neighbours in its list, RESIDENCY_NONE at the ends
    enum slot_list list;
    uint64_t copy_tick, reader_tick;
};

struct slot_ends {
    uint32_t hot, cold, count;
};

struct slot_tier {
    struct slot *slots; // [slot_count], owned
    uint32_t slot_count;
    uint32_t ring_slots;
    struct slot_ends lists[LIST_COUNT];
};

enum sluice_status slot_tier_create(struct slot_tier *tier, uint32_t slot_count, uint32_t ring_slots);
void slot_tier_destroy(struct slot_tier *tier);

// Moves a slot to the hot or cold end of a list.
void slot_move(struct slot_tier *tier, uint32_t slot, enum slot_list list, bool hot_end);

// Whether a slot must not be given up now.
typedef bool slot_busy_function(const void *user, const struct slot *slot);

// Which slot to give up, or RESIDENCY_NONE. Free ones come first. Changes nothing.
uint32_t slot_victim(const struct slot_tier *tier, enum slot_use use, slot_busy_function *busy, const void *user);

// Gives the slot that slot_victim chose to `expert`: KEPT at the hot end of the LRU list; else in the ring, or at the
// cold end of the LRU list if the slot was free or the ring is full.
void slot_assign(struct slot_tier *tier, uint32_t slot, uint32_t expert, enum slot_use use);

// The slot holds nothing from now on; its ticks stay.
void slot_clear(struct slot_tier *tier, uint32_t slot);

// What is in the ring goes to the cold end of the LRU list, the oldest coldest.
void slot_tier_settle(struct slot_tier *tier);

// The slots from `slot_count` on, all of them free, do not exist any more; the ring holds nothing.
void slot_tier_shrink(struct slot_tier *tier, uint32_t slot_count, uint32_t ring_slots);

// CHECKs the lists.
void slot_tier_check(const struct slot_tier *tier);

#endif
