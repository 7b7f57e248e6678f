// Brings routed experts to the device: joins the residency decisions and the drive reads of offload/ to the device.
//
// A *sweep* asks for a set of experts of one layer. Reads for the missing ones are submitted at once, as far as
// slots allow; experts are handed out when their weights will be in a device slot by the time the command they were
// handed out for runs.
//
//   separate places   drive --read--> host slot --copy (in the command)--> device slot --> kernels of the same command
//   one pool          drive --read--> slot --> kernels of the command
//
// Behind a sweep the next layer's can be *read ahead*: as soon as all experts of the first are requested, those of the
// second follow, so that the drive has work while the device computes and the router's choice is not known.
//
// What the drive reads to is anonymous memory, registered with the reader. With separate places it is the host slots,
// imported into the device for copies where the driver can; elsewhere a memcpy into an upload buffer stands in between.
// All commands run on one queue in order, so a device slot may be overwritten by a copy recorded after its last reader;
// only host slots are waited for, before a read overwrites one.
//
// On a device that shares memory with the host, such a copy would move an expert from main memory to main memory. There
// all slots are one pool: that memory, imported so that kernels read it where it is. A read waits until the commands
// that use its slot are complete. On a card with memory of its own the kernels would read every expert over the bus,
// and again for each token that uses it, at a fraction of the rate of the card's memory: there places are separate.
//
// A prompt's reads and checksums have a thread of their own, a decode's are done by the caller's (loader.h); the pager
// is called from one thread at a time.
#ifndef SLUICE_MODEL_PAGER_H
#define SLUICE_MODEL_PAGER_H

#include "offload/container.h"
#include "offload/loader.h"
#include "offload/reader.h"
#include "offload/residency.h"
#include "runtime/gpu/command.h"
#include "runtime/model/wave.h"
#include "runtime/ops/ops.h"

struct pager;

struct pager_options {
    uint32_t device_slots; // >= 1
    uint32_t host_slots;   // 0: one pool, of device_slots
    bool host_cache;       // host slots keep experts as a second cache; not in one pool
    enum reader_kind io;
    enum loader_verify verify;
    const struct reader_faults *faults; // tests; NULL: none
};

// Device and host bytes that pager_create allocates per slot.
uint64_t pager_slot_bytes(const struct container *container);

// Whether the driver says that its kernels can use a pool of this container's slots.
bool pager_can_unify(const struct gpu_device *device, const struct container *container);

// SLUICE_ERR_UNSUPPORTED: the driver refuses the pool when it comes to it, and separate places may work; or the reader
// refuses options.io, and they will not. Others: as loader_create, gpu_buffer_create.
enum sluice_status pager_create(struct gpu_device *device, const struct container *container,
                                const struct pager_options *options, struct pager **pager);
void pager_destroy(struct pager *pager); // waits for reads in flight; NULL is allowed

// An expert that is ready.
struct pager_place {
    uint32_t index; // position in the sweep's list
    uint32_t slab;  // number for pager_slab
    uint32_t slot;  // within the slab
};

// Starts a sweep over experts[count] of `layer` (each at most once).
//   in_order   hand out in the order of the list; else whatever is ready first
//   mode       RESIDENCY_SWEEP leaves the decode cache alone
// The previous sweep must have ended. What was read ahead of this layer is taken over.
enum sluice_status pager_sweep_begin(struct pager *pager, uint32_t layer, const uint32_t *experts, uint32_t count,
                                     bool in_order, enum residency_mode mode);

// Behind the sweep under way, reads all experts of `layer` in the order of the file, as far as slots allow. The next
// sweep must be of this layer. Experts read in vain are counted (pager_statistics.wasted).
void pager_read_ahead(struct pager *pager, uint32_t layer);

// Gives up what is being read ahead, waiting for its reads.
void pager_read_ahead_end(struct pager *pager);

// Hands out experts that were not handed out yet, as many as wave_next decides; records their copies into `cmd`. Waits
// for the drive if too few are ready. *count is 0 when slots are taken by the command that is being recorded: submit it
// first; or when all have been handed out (pager_sweep_left is 0). Errors: SLUICE_ERR_IO, SLUICE_ERR_CHECKSUM, naming
// layer and expert.
enum sluice_status pager_sweep_next(struct pager *pager, struct gpu_command *cmd, const struct wave_demand *demand,
                                    struct pager_place *places, uint32_t *count);

// The kernels that read the places handed out last have been recorded: their slots may be given to others, whose copies
// are recorded later.
void pager_sweep_recorded(struct pager *pager);

// The command that the places were handed out for was submitted, or given up: then what it should have copied is not on
// the device.
void pager_submitted(struct pager *pager);
void pager_cancelled(struct pager *pager);

uint32_t pager_sweep_left(const struct pager *pager);    // experts not handed out yet
uint32_t pager_sweep_reading(const struct pager *pager); // of them, those that are being read or wait for a slot

// An expert of the sweep that is or was handed out is worth keeping after a prefill, on the device or in host memory.
void pager_keep(struct pager *pager, uint32_t expert, bool on_device);

// How many experts of one layer pager_keep should keep at most, so that all layers get the same number.
uint32_t pager_keep_count(const struct pager *pager, bool on_device);

// Ends a sweep, also one that was given up half-way (reads in flight are waited for).
void pager_sweep_end(struct pager *pager);

// After the last sweep of a prefill: what only passed through may be evicted first (residency_settle).
void pager_settle(struct pager *pager);

// What the kernels need to know about a slab that holds experts of `layer`.
struct moe_slab pager_slab(const struct pager *pager, uint32_t layer, uint32_t slab);
struct gpu_range pager_slab_range(const struct pager *pager, uint32_t slab); // of it, the range
uint32_t pager_slab_count(const struct pager *pager);

// Device slots there are, and how many are left when slots beyond `wanted` are given back in whole slabs: at most
// `wanted`, unless `least` slots need more slabs.
uint32_t pager_device_slots(const struct pager *pager);
uint32_t pager_shrink_to(const struct pager *pager, uint32_t least, uint32_t wanted);

// Gives slabs back until `slots` are left, a result of pager_shrink_to; the experts in them are forgotten. No sweep is
// under way, nothing is read ahead, and all commands that used device slots are complete.
void pager_shrink(struct pager *pager, uint32_t slots);

struct pager_statistics {
    uint64_t hits_device, hits_host, misses;
    uint64_t wasted; // experts read ahead in vain
    uint64_t bytes_read, wait_ns, busy_ns;
    uint64_t wait_cpu_ns;     // the caller's processor time within wait_ns; not in cpu_ns
    uint64_t cpu_ns;          // processor time of reading, checksums included
    uint64_t caller_cpu_ns;   // of that, on the caller's thread
    uint64_t checksum_cpu_ns; // of cpu_ns, checksums
    uint64_t checksums;       // records whose checksum was computed
    uint64_t device_bytes, host_bytes;
};
struct pager_statistics pager_statistics(const struct pager *pager);

#endif
