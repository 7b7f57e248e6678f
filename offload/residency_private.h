// What residency.c, residency_loss.c and residency_check.c share.
#ifndef SLUICE_OFFLOAD_RESIDENCY_PRIVATE_H
#define SLUICE_OFFLOAD_RESIDENCY_PRIVATE_H

#include "offload/residency.h"
#include "offload/slot_tier.h"

// What is known of an expert, besides its two slots:
//
//              device slot   host slot        pins
//   IDLE       no            cached or none   0
//   READING    yes           yes              > 0    (in one pool none has a host slot)
//   LOADED     yes           yes              > 0    copy not recorded yet
//   RESIDENT   yes           cached or none   any
//   FAILED     no            no               > 0
enum expert_state { EXPERT_IDLE, EXPERT_READING, EXPERT_LOADED, EXPERT_RESIDENT, EXPERT_FAILED };

struct expert {
    uint32_t device_slot, host_slot;
    uint32_t demoted; // whose content goes to a host slot with this one's copy, or NONE; while READING or LOADED
    bool is_arriving; // in host_slot: that copy is not recorded yet; IDLE
    uint32_t pin_count;
    enum expert_state state;
};

struct residency {
    struct residency_options options;
    struct expert *experts; // [expert_count], owned
    struct slot_tier device, host;
    struct residency_statistics statistics;
};

static inline bool residency_is_pool(const struct residency *r)
{
    return r->options.host_slot_count == 0;
}

// residency.c: takes the expert off the device, which has it; off the host, which may have it. Its state is the
// caller's.
void residency_free_device_slot(struct residency *r, struct expert *e);
void residency_free_host_slot(struct residency *r, struct expert *e);

// residency.c: the expert's slots and their ticks; nothing is evicted for it.
void residency_fill_ticket(const struct residency *r, uint32_t expert, struct residency_ticket *ticket);

#endif
