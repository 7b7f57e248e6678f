// Brings routed experts to the device: joins the residency decisions and the drive reads of offload/ to transfers.
//
// A *sweep* asks for a set of experts of one layer. Reads for the missing ones are submitted at once, as far as
// slots allow; experts are handed out when their weights will be in a device slot by the time the command they were
// handed out for runs.
//
//   drive --read--> host slot --copy (in the command)--> device slot --> kernels of the same command
//
// Host slots are anonymous memory: registered with the reader, and imported into the device where the driver can;
// elsewhere a memcpy into an upload buffer stands in between. All commands run on one queue in order, so a device slot
// may be overwritten by a copy recorded after its last reader; only host slots are waited for, before a read overwrites
// one.
#ifndef SLUICE_MODEL_PAGER_H
#define SLUICE_MODEL_PAGER_H

#include "offload/container.h"
#include "offload/reader.h"
#include "offload/residency.h"
#include "runtime/gpu/command.h"
#include "runtime/ops/ops.h"

struct pager;

struct pager_options {
    uint32_t device_slots; // >= 1
    uint32_t host_slots;   // >= 1
    bool host_cache;       // host slots keep experts as a second cache
    enum reader_kind io;
    bool skip_checksums;
    const struct reader_faults *faults; // tests; NULL: none
};

// Device and host bytes that pager_create allocates for these options.
uint64_t pager_slot_bytes(const struct container *container);

enum sluice_status pager_create(struct gpu_device *device, const struct container *container,
                                const struct pager_options *options, struct pager **pager);
void pager_destroy(struct pager *pager); // waits for reads in flight; NULL is allowed

// An expert that is ready.
struct pager_place {
    uint32_t index; // position in the sweep's list
    uint32_t slab;  // number for pager_slab
    uint32_t slot;  // within the slab
};

// Starts a sweep over experts[count] of `layer` (each at most once; the array must stay valid until the sweep's end).
//   in_order   hand out in the order of the list; else whatever is ready first
//   mode       RESIDENCY_SWEEP leaves the decode cache alone
// The previous sweep must have ended.
enum sluice_status pager_sweep_begin(struct pager *pager, uint32_t layer, const uint32_t *experts, uint32_t count,
                                     bool in_order, enum residency_mode mode);

// Hands out between 1 and `max` experts that were not handed out yet; records their copies into `cmd`. Waits for the
// drive if none is ready. *count is 0 when every slot is taken by experts handed out for this command: submit it first,
// or when all have been handed out (pager_sweep_left is 0). Errors: SLUICE_ERR_IO, SLUICE_ERR_CHECKSUM, naming layer
// and expert.
enum sluice_status pager_sweep_next(struct pager *pager, struct gpu_command *cmd, struct pager_place *places,
                                    uint32_t max, uint32_t *count);

// The command that the last experts were handed out for was submitted as `tick`.
void pager_sweep_submitted(struct pager *pager, uint64_t tick);

uint32_t pager_sweep_left(const struct pager *pager);

// Ends a sweep, also one that was given up half-way (reads in flight are waited for). Commands that use places of it
// must have been submitted or cancelled.
void pager_sweep_end(struct pager *pager);

// What the kernels need to know about a slab that holds experts of `layer`.
struct moe_slab pager_slab(const struct pager *pager, uint32_t layer, uint32_t slab);
uint32_t pager_slab_count(const struct pager *pager);

struct pager_statistics {
    uint64_t hits_device, hits_host, misses;
    uint64_t bytes_read, wait_ns, busy_ns;
    uint64_t cpu_ns; // of own threads, not the caller's
    uint64_t device_bytes, host_bytes;
};
struct pager_statistics pager_statistics(const struct pager *pager);

#endif
