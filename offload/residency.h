// Which expert lies in which slot, and which slot is given up for the next one. Decides, executes nothing: reads and
// copies are the caller's. Experts are numbered 0..expert_count-1 by the caller (container_expert_layer.expert_first +
// expert), device slots 0..device_slot_count-1, host slots likewise.
//
//            acquire: MISS             read_done          copy_recorded
//   absent ---------------> reading -------------> loaded --------------> resident --evicted--> absent or cached
//             acquire: HOST                           ^
//   cached ------------------------------------------/      cached: in a host slot only
//
// A drive read fills a host slot, a copy takes it from there to a device slot. Each
// place has one LRU list of the experts that it keeps, and a short *ring* of slots through which others only pass,
// recycled oldest first. RESIDENCY_SWEEP uses rings only, so that a prefill sweep never flushes the decode cache, and
// its hits move nothing. While there are free slots, a sweep fills those instead, at the cold end of the LRU list,
// where they stay for the next sweep: of a cyclic scan a fixed part should remain, not the latest part.
//
// RAM tier (host_cache): what the device gives up in the normal mode is copied back to a host slot, and kept there by
// last use; what the drive brings only passes through the host's ring. So the device holds what an LRU cache of its
// size holds, and both places together what one of both sizes holds, less the host's ring (figures at the top of
// residency.c). Without host_cache host slots are staging only, free again once their copy is recorded, and nothing is
// copied back.
//
// One pool (host_slot_count 0): the device works in memory that the drive can read to, so there is no host place and
// nothing is copied. A miss is read straight to its device slot, and with read_done the expert is there:
//
//            acquire: MISS             read_done
//   absent ---------------> reading -------------> resident --evicted--> absent
//
// The price is that a slot is taken from the start of the read, which must wait for the slot's last reader
// (device_reader_tick); a ring of RESIDENCY_LOADS_MAX is long enough all the same, because with two places the host's
// ring waits for the same commands.
//
// Ticks: copies and readers may run on different timelines, so both are kept: a slot may be overwritten only when the
// last copy and the last reader recorded for it have completed. A tick in a ticket may belong to work that the caller
// has recorded and not submitted yet: submit before waiting.
//
// Threads: one at a time. Nothing is allocated after creation. Misuse is our own bug (checked).
#ifndef SLUICE_OFFLOAD_RESIDENCY_H
#define SLUICE_OFFLOAD_RESIDENCY_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

#define RESIDENCY_NONE UINT32_MAX // no slot, no expert

// Loads that the engine keeps in work at the same time: what the drive reads (half of them), what was read and waits
// for the device, and what the device copies.
enum { RESIDENCY_LOADS_MAX = 64 };

// Length of the engine's ring in a place of so many slots: as many as there can be loads, but a small cache keeps half.
uint32_t residency_ring_slots(uint32_t slots);

struct residency_options {
    uint32_t expert_count;      // >= 1
    uint32_t device_slot_count; // >= 1
    uint32_t host_slot_count;   // 0: one pool
    uint32_t ring_device_slots; // length of the device's ring, 1..device_slot_count: what a sweep may have in work
    uint32_t ring_host_slots;   // of the host's, 1..host_slot_count (0 in one pool): reads and copies in work; unused
                                // without host_cache
    bool host_cache;            // host slots are a RAM tier, not just staging; not in one pool
};

enum residency_mode { RESIDENCY_NORMAL, RESIDENCY_SWEEP };

enum residency_result {
    RESIDENCY_DEVICE,  // in device_slot; wait for device_copy_tick before reading it
    RESIDENCY_HOST,    // in host_slot: copy it to device_slot, then residency_copy_recorded
    RESIDENCY_MISS,    // read it to host_slot, residency_read_done, then copy as above; in one pool read it to
                       // device_slot once device_reader_tick is complete, residency_read_done: it is there
    RESIDENCY_PENDING, // an earlier acquire's read or copy is not done; both slots are those of that ticket
    RESIDENCY_FAILED,  // an earlier acquire's read failed and not all its users have released it; nothing was pinned
    RESIDENCY_NO_SLOT, // every slot is in use, or the expert is about to be copied back: finish and release something
                       // first; nothing was pinned
};

struct residency_ticket {
    uint32_t expert;
    uint32_t device_slot;
    uint32_t host_slot; // RESIDENCY_NONE if the expert is only on the device, and in one pool
    // The last copy into device_slot: for RESIDENCY_DEVICE the one that brought this expert, else an earlier one that
    // must have completed before the next copy is executed. 0: none.
    uint64_t device_copy_tick;
    uint64_t device_reader_tick; // the last reader of device_slot; complete before the slot is overwritten. 0: none
    uint64_t host_copy_tick;     // the last copy out of host_slot; complete before a read into it starts. 0: none
    uint32_t evicted_expert;     // lost its device slot to this ticket (clear it in the slot table), or NONE
    // Host slot to copy the content of device_slot to, before it is overwritten, in the same submission; or NONE. No
    // read or copy out of it is under way except those that host_copy_tick told of when it was last given out.
    uint32_t demotion_slot;
};

struct residency_counts {
    uint64_t device_hits, host_hits, misses, pending, no_slot;
};

struct residency_statistics {
    struct residency_counts normal, sweep;
    uint64_t device_evictions, host_evictions; // an expert lost its slot to another one
    uint64_t read_failures;
};

struct residency;

// SLUICE_ERR_ARGUMENT for counts outside their range, SLUICE_ERR_MEMORY. *r is NULL then.
enum sluice_status residency_create(const struct residency_options *options, struct residency **r);
void residency_destroy(struct residency *r); // NULL is allowed

// Pins `expert` (except for FAILED and NO_SLOT) and fills *ticket. Each pin needs one residency_release.
enum residency_result residency_acquire(struct residency *r, uint32_t expert, enum residency_mode mode,
                                        struct residency_ticket *ticket);

// The read of a MISS ended. ok: the bytes are where they were read to, and verified. Otherwise both slots are free at
// once; all who pinned it release it and may then acquire it anew. Also the way to give up a read that was never
// started.
void residency_read_done(struct residency *r, uint32_t expert, bool ok);

// The copy host_slot -> device_slot was recorded, and before it the one to demotion_slot; they will have completed at
// `tick` (> 0) of the copy timeline.
void residency_copy_recorded(struct residency *r, uint32_t expert, uint64_t tick);

// Unpins once. last_reader_tick: of the reader timeline, when the last reader that this pin protected will have ended;
// 0 if there was none. The last release of an expert that was never copied gives its device slot back; while its read
// is under way, it is a bug.
void residency_release(struct residency *r, uint32_t expert, uint64_t last_reader_tick);

// Moves an expert to the hot end of the lists it is in, as if it had been used: seeds the cache after a sweep. False if
// it is neither on the device nor in the host cache.
bool residency_touch(struct residency *r, uint32_t expert);

// Keeps an expert that a sweep brings in the host cache, where it would soon be recycled. False if it is not there.
bool residency_keep_host(struct residency *r, uint32_t expert);

// After a sweep: what is left in the rings goes to the cold ends of the LRU lists, to be given up first; without that
// the rings' slots would be lost to the normal mode.
void residency_settle(struct residency *r);

// The copy that residency_copy_recorded announced will never run: its command was given up. The expert is forgotten on
// the device. Nothing happens if it has lost its slot since. It must not be pinned.
void residency_copy_lost(struct residency *r, uint32_t expert);

// The same for a copy to demotion_slot, of the ticket's evicted_expert: the expert is forgotten in the host cache.
void residency_demotion_lost(struct residency *r, uint32_t evicted_expert);

// Commands were given up: no reader runs beyond `tick`, whatever residency_release was told. In one pool a read would
// wait for it for ever.
void residency_readers_lost(struct residency *r, uint64_t tick);

// From now on there are only device slots 0..slots-1, 1 <= slots; the experts in the others are forgotten on the
// device. Nothing is pinned, and all copies and readers of those slots are complete.
void residency_shrink(struct residency *r, uint32_t slots);

struct residency_statistics residency_statistics(const struct residency *r);

// For tests (residency_check.c, which the programs do not link).

// Where an expert is now, without pinning or counting. DEVICE, HOST (cached or loaded), PENDING (being read), FAILED,
// or MISS (nowhere). Fills *ticket (may be NULL; evicted_expert is NONE).
enum residency_result residency_look(const struct residency *r, uint32_t expert, struct residency_ticket *ticket);

// Walks everything and CHECKs all invariants; O(experts + slots).
void residency_check(const struct residency *r);

#endif
