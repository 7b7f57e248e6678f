// What the files of the pager share.
#ifndef SLUICE_MODEL_PAGER_PRIVATE_H
#define SLUICE_MODEL_PAGER_PRIVATE_H

#include "offload/loader.h"
#include "runtime/model/pager.h"

enum {
    READ_DEPTH = RESIDENCY_LOADS_MAX / 2,   // reads in the drive's queue
    REQUESTS_MAX = 2 * RESIDENCY_LOADS_MAX, // queued for the drive and not collected yet
};

//   NONE       not acquired
//   STALLED    acquired; the slot that it is to be read to is not free yet
//   READING, LOADED
//   RESIDENT   was on the device already
//   HANDED_OUT its kernels are being recorded
//   DONE       released
//   UNWANTED   read ahead, and then no token selected it; still being read
//   FAILED     its read failed while it was read ahead
enum item_state {
    ITEM_NONE,
    ITEM_STALLED,
    ITEM_READING,
    ITEM_LOADED,
    ITEM_RESIDENT,
    ITEM_HANDED_OUT,
    ITEM_DONE,
    ITEM_UNWANTED,
    ITEM_FAILED
};

// One expert of a sweep.
struct item {
    enum item_state state;
    bool from_drive;                // not from the host cache
    struct residency_ticket ticket; // from STALLED on
};

struct sweep {
    bool open;
    uint32_t layer;
    const struct container_expert_layer *shape;
    bool in_order;
    enum residency_mode mode;
    uint32_t *order;     // [count] experts, owned
    struct item *items;  // [experts], by expert, owned; all NONE while the sweep is not open
    uint32_t count;      // of the list
    uint32_t requested;  // of the list, before this one all have been acquired
    uint32_t first_left; // before this one all have been handed out
    uint32_t left;       // not handed out yet
    uint32_t reading;    // READING and UNWANTED
};

struct pager {
    struct gpu_device *device;
    const struct container *container;
    struct pager_options options;
    uint64_t slot_bytes;

    bool unified; // one pool: `slabs` are parts of `memory`, nothing is copied
    uint8_t
        *memory; // what the drive reads to: [device_slots in one pool, else host_slots][slot_bytes], read_memory_map
    uint64_t memory_bytes; // of it

    uint32_t slots_per_slab, slab_count;
    struct gpu_buffer **slabs; // [slab_count] device slots, owned

    // Only with separate places.
    uint32_t host_slots_per_buffer, host_buffer_count;
    struct gpu_buffer **host_buffers; // imported parts of `memory`, or NULL: no import
    struct gpu_buffer **staging;      // upload buffers of the same division, if there is no import
    bool *is_staged;                  // [host_slots] the content is in the upload buffer already, owned; if staging

    struct residency *residency;
    struct loader *loader;
    struct loader_request batch[REQUESTS_MAX]; // reads that are given to the loader together
    uint32_t batch_count;

    struct sweep sweeps[2];
    unsigned now;          // the sweep under way; the other one is read ahead
    struct sweep *stalled; // the sweep that `stalled_expert` belongs to, or NULL: none is STALLED
    uint32_t stalled_expert;
    uint32_t *unsubmitted_keys; // [device_slots] experts copied by the command that is being recorded, owned
    uint32_t unsubmitted_count;
    uint32_t *demoted_keys; // [device_slots] experts copied back by that command, owned
    uint32_t demoted_count;
    bool unsubmitted; // experts were handed out for a command that is not submitted yet
    uint64_t wasted;  // reads of experts that no token selected
};

static inline struct sweep *sweep_now(struct pager *pager)
{
    return &pager->sweeps[pager->now];
}

static inline struct sweep *sweep_ahead(struct pager *pager)
{
    return &pager->sweeps[1 - pager->now];
}

static inline uint32_t expert_key(const struct sweep *sweep, uint32_t expert)
{
    return (uint32_t)sweep->shape->expert_first + expert;
}

// pager_memory.c: the memory of the slots, and the buffers over it. What was made before a failure is released by
// pager_memory_finish. Errors: SLUICE_ERR_MEMORY, SLUICE_ERR_DEVICE_MEMORY; SLUICE_ERR_UNSUPPORTED (the driver refuses
// to use the pool); SLUICE_ERR_BUDGET (an expert exceeds the device's largest buffer).
enum sluice_status pager_memory_map(struct pager *pager);
enum sluice_status pager_buffers_create(struct pager *pager);
void pager_memory_finish(struct pager *pager);

// Gives back what lies behind the first `slots` device slots, whole slabs. Nothing is in flight.
void pager_memory_shrink(struct pager *pager, uint32_t slots);

// pager_copy.c, for separate places: records the copy of `key`, which lies in the item's host slot, to its device slot.
void pager_record_copy(struct pager *pager, struct gpu_command *cmd, uint32_t key, const struct item *item);

// pager_reads.c: acquires further experts, as far as slots and the loader allow: of the sweep under way, then of the
// one read ahead. Their reads begin together.
void pager_reads_request(struct pager *pager);

// Takes finished reads, waiting for at least `min` of them. The first failure is returned, after all were taken.
enum sluice_status pager_reads_collect(struct pager *pager, uint32_t min);

// Gives up an expert that is not needed, in whatever state it is. read_ahead: a read in vain is counted.
void pager_reads_give_up(struct pager *pager, struct sweep *sweep, uint32_t expert, bool read_ahead);

// When a read may overwrite what is in the item's slot: once the copy out of the host slot has run, or the last kernel
// that reads the pool's slot.
uint64_t pager_reads_free_tick(const struct pager *pager, const struct item *item);

#endif
