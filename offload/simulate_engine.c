// The engine's own cache, without the engine: residency.h as runtime/model/pager.c drives it, with reads that are done
// at once. What the engine keeps of a prompt for the tokens that follow is not simulated: a trace does not say how
// often a prompt uses an expert.
#include "offload/residency.h"
#include "offload/simulate.h"
#include "runtime/base/check.h"

struct engine {
    struct residency *residency;
    uint64_t tick;
};

// Loads as many experts as there are slots for, and gives them back; returns how many.
static uint32_t load_some(struct engine *e, const uint32_t *experts, uint32_t count, enum residency_mode mode)
{
    struct residency_ticket ticket;
    uint32_t taken = 0, reads = 0;
    e->tick++;
    for (; taken < count && reads < RESIDENCY_LOADS_MAX; taken++) {
        enum residency_result result = residency_acquire(e->residency, experts[taken], mode, &ticket);
        if (result == RESIDENCY_NO_SLOT)
            break;
        CHECK(result == RESIDENCY_DEVICE || result == RESIDENCY_HOST || result == RESIDENCY_MISS);
        if (result == RESIDENCY_MISS)
            residency_read_done(e->residency, experts[taken], true);
        reads += result == RESIDENCY_MISS;
        if (result != RESIDENCY_DEVICE)
            residency_copy_recorded(e->residency, experts[taken], e->tick);
    }
    for (uint32_t i = 0; i < taken; i++)
        residency_release(e->residency, experts[i], e->tick);
    return taken;
}

static void use_record(struct engine *e, const struct sim_trace *t, const struct sim_record *r)
{
    const uint32_t *experts = &t->experts[r->first];
    enum residency_mode mode = r->kind == TRACE_SWEEP ? RESIDENCY_SWEEP : RESIDENCY_NORMAL;
    for (uint32_t i = 0; i < r->count && mode == RESIDENCY_NORMAL; i++)
        residency_touch(e->residency, experts[i]);
    for (uint32_t done = 0; done < r->count;) {
        uint32_t taken = load_some(e, experts + done, r->count - done, mode);
        CHECK(taken > 0);
        done += taken;
    }
}

enum sluice_status sim_engine(const struct sim_trace *t, uint32_t device_slots, uint32_t host_slots,
                              struct sim_counts *counts)
{
    struct residency_options options = {
        .expert_count = t->shape.layer_count * t->shape.expert_count,
        .device_slot_count = device_slots,
        .host_slot_count = host_slots ? host_slots : RESIDENCY_LOADS_MAX,
        .ring_device_slots = residency_ring_slots(device_slots),
        .ring_host_slots = residency_ring_slots(host_slots ? host_slots : RESIDENCY_LOADS_MAX),
        .host_cache = host_slots > 0,
    };
    struct engine e = {0};
    struct residency_counts before = {0}, after;
    *counts = (struct sim_counts){0};
    enum sluice_status status = residency_create(&options, &e.residency);
    if (status < 0)
        return status;
    for (size_t i = 0; i < t->record_count; i++) {
        if (i == t->counted_from)
            before = residency_statistics(e.residency).normal;
        if (i > 0 && t->records[i - 1].kind == TRACE_SWEEP && t->records[i - 1].step != t->records[i].step)
            residency_settle(e.residency); // the prompt has ended
        use_record(&e, t, &t->records[i]);
    }
    if (t->counted_from < t->record_count) {
        after = residency_statistics(e.residency).normal;
        counts->hits_device = after.device_hits - before.device_hits;
        counts->hits_host = after.host_hits - before.host_hits;
        counts->uses = counts->hits_device + counts->hits_host + after.misses - before.misses;
    }
    residency_destroy(e.residency);
    return SLUICE_OK;
}
