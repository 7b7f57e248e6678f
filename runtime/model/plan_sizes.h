// What an engine needs beside its expert slots, for one capacity of a session.
#ifndef SLUICE_MODEL_PLAN_SIZES_H
#define SLUICE_MODEL_PLAN_SIZES_H

#include "runtime/model/engine_internal.h"

struct plan_sizes {
    uint32_t passes;                        // that the longest prompt is cut into; 0: 1
    uint64_t trunk, state, kv, activations; // on the device; state and kv of one session
    uint64_t transfers, lists;              // in main memory
    struct scratch_limits limits;
};

// Fills all but `passes`, which is given, and the trunk (weights_bytes), for sessions of `context` tokens. Errors:
// SLUICE_ERR_BUDGET (an array exceeds the device's largest binding), SLUICE_ERR_MEMORY.
enum sluice_status plan_sizes_measure(const struct sluice_engine *engine, uint32_t context, struct plan_sizes *sizes);

// On the device, with so many sessions.
uint64_t plan_sizes_device(const struct plan_sizes *sizes, uint32_t sessions);

// The least that expert slots take on the device: one token's experts of a layer. 0 if the model has none.
uint64_t plan_slots_least(const struct sluice_engine *engine);

#endif
