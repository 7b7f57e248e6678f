// When the experts of a layer are computed: in waves, while others arrive. Decides, executes nothing (pager_sweep.c
// does), and never changes a result: the order of sums does not depend on waves (moe_group.h).
//
// A prompt keeps the device busy. Each wave costs a pass over the residual stream (op_moe_combine) and the ends of its
// kernels, in which processors wait for each other; so waves are as large as can be while there is other work:
//
//   device   | shared expert | wave 1 | wave 2   | wave 3     |       one runs, one is queued, one gathers what arrives
//   drive    | reads ..............| ........ | ......... |
//
// A decode of few tokens makes at most two submissions per layer. The reads of one layer, which share the drive, end at
// about the same time; so what is at hand runs during all of them, and the arrivals follow together, in the command of
// the next layer:
//
//   device   | mixer, router | shared expert | at hand |           | arrivals, next layer's mixer
//   drive                    | reads ............................. |
#ifndef SLUICE_MODEL_WAVE_H
#define SLUICE_MODEL_WAVE_H

#include <stdbool.h>
#include <stdint.h>

// Experts to compute together.
struct wave_demand {
    uint32_t want; // 1..max
    uint32_t max;  // of one wave
    bool steady;   // keep the device busy: fewer if it would be idle, more as long as it is not about to be
};

struct wave_demand wave_of_prompt(uint32_t max);

//   left      experts of the layer that are not handed out yet
//   at_hand   of them, those that need not be read
//   split     those at hand may have a submission of their own
struct wave_demand wave_of_decode(uint32_t max, uint32_t left, uint32_t at_hand, bool split);

// What there is.
struct wave_view {
    uint32_t ready;    // experts that can be handed out; max or more are all the same
    uint32_t left;     // not handed out yet, >= 1
    uint32_t queued;   // submitted commands that the device has not completed
    bool arriving;     // reads are under way
    bool slot_awaited; // the next read has to wait for a slot
    bool slot_is_last; // which is free only when all submitted commands are complete, if then
    bool unsubmitted;  // the command that is being recorded uses slots
};

enum wave_turn {
    WAVE_HAND_OUT,   // what is ready, at least one
    WAVE_AWAIT_READ, // reads are under way
    WAVE_AWAIT_SLOT, // for the next read
    WAVE_SUBMIT      // what is recorded first: it holds the slots
};

enum wave_turn wave_next(const struct wave_demand *demand, const struct wave_view *view);

#endif
