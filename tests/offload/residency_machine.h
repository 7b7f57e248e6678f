// What the tests of the slot cache share: a machine that does what tickets say and checks the contents.
#ifndef SLUICE_TESTS_RESIDENCY_MACHINE_H
#define SLUICE_TESTS_RESIDENCY_MACHINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "offload/residency.h"

enum { MACHINE_EXPERTS = 60, MACHINE_SLOTS_MAX = 40, MACHINE_PINS_MAX = 24 };

// What really lies where, and who still needs it: the part of the caller.
struct machine {
    struct residency *r; // destroyed by the test
    bool pool;           // reads go straight to device slots
    uint32_t device_content[MACHINE_SLOTS_MAX], host_content[MACHINE_SLOTS_MAX];
    // Last ticks, as used by us.
    uint64_t device_reader[MACHINE_SLOTS_MAX], device_copy[MACHINE_SLOTS_MAX], host_copy[MACHINE_SLOTS_MAX];
    uint64_t tick;
    struct pin {
        uint32_t expert, device_slot;
        bool reading, failed; // failed: has no slot any more
    } pins[MACHINE_PINS_MAX];
    uint32_t pin_count;
    struct demotion {
        uint32_t slot, expert; // what goes where with the copy of the expert
    } demotions[MACHINE_EXPERTS];
};

void machine_create(struct machine *m, const struct residency_options *options);

// Options of the same cache with host slots that only pass experts on, and as one pool.
struct residency_options machine_without_tier(uint32_t slots, uint32_t ring, bool pool);

// The steps of a load. What residency says is checked against what the machine has seen.
enum residency_result machine_acquire(struct machine *m, uint32_t expert, enum residency_mode mode);
void machine_read_done(struct machine *m, uint32_t expert, bool ok);
void machine_copy(struct machine *m, uint32_t expert);
void machine_release(struct machine *m, uint32_t index); // of m->pins

// All of them: the expert is used and let go at once. Returns where it was.
enum residency_result machine_use(struct machine *m, uint32_t expert, enum residency_mode mode);

#endif
