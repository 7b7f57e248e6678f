// The memory plan of an engine: what lies on the device and in main memory, against the budgets, before anything is
// allocated. engine.c allocates exactly this; `sluice plan` prints it.
//
// Budgets. Device: options.vram_bytes, or what the driver reports as free less a sixteenth. Main memory: what the
// system and the control group leave (memory_available.h) less an eighth; expert slots in it: options.ram_bytes, or all
// of that on a card with memory of its own. Where device memory is main memory (integrated and software devices) both
// must fit into what is available together; experts have one pool there (pager.h), in the device's budget, to which
// options.ram_bytes adds. Where the driver cannot do that, host slots take no more than streaming needs unless
// options.ram_bytes asks for more.
#ifndef SLUICE_MODEL_PLAN_H
#define SLUICE_MODEL_PLAN_H

#include "runtime/model/pager.h"
#include "runtime/model/scratch.h"
#include "runtime/sluice.h"

struct sluice_engine;

struct memory_plan {
    struct scratch_limits limits;
    struct pager_options pager; // zero if the model has no experts
    uint32_t ram_slots;         // of a unified pool: how many of its slots options.ram_bytes holds
    struct sluice_plan report;
};

// Needs the engine's options, hooks, container, config, model and device; the trunk is not read. Errors:
// SLUICE_ERR_BUDGET (the message names the nearest that is possible), SLUICE_ERR_ARGUMENT (--slots below top-k, or a
// unified pool on a card with memory of its own), SLUICE_ERR_UNSUPPORTED (a unified pool that the driver cannot do),
// SLUICE_ERR_FORMAT (a tensor is missing).
enum sluice_status plan_memory(const struct sluice_engine *engine, struct memory_plan *plan);

#endif
