// The engine's own cache, without the engine: residency.h as runtime/model/pager.c drives it, with reads that are done
// at once.
#include <string.h>

#include "offload/residency.h"
#include "offload/simulate.h"
#include "runtime/base/check.h"
#include "runtime/base/mem.h"

struct engine {
    struct residency *residency;
    uint64_t tick;
    const struct sim_record *kept; // of the next sweep; NULL: none
    uint32_t *rank;                // [layers * experts] in `kept`, owned; UINT32_MAX: not there
    uint32_t keep_device, keep_host;
    bool unified;
};

// As runtime/model/moe.c does with an expert of a prompt.
static void keep(struct engine *e, uint32_t expert)
{
    if (e->rank[expert] < e->keep_device)
        residency_touch(e->residency, expert);
    else if (e->rank[expert] < e->keep_device + e->keep_host)
        residency_keep_host(e->residency, expert);
}

static void rank_kept(struct engine *e, const struct sim_trace *t, const struct sim_record *kept)
{
    for (uint32_t i = 0; e->kept && i < e->kept->count; i++)
        e->rank[t->experts[e->kept->first + i]] = UINT32_MAX;
    e->kept = kept;
    for (uint32_t i = 0; kept && i < kept->count; i++)
        e->rank[t->experts[kept->first + i]] = i;
}

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
        if (result != RESIDENCY_DEVICE && !e->unified)
            residency_copy_recorded(e->residency, experts[taken], e->tick);
    }
    for (uint32_t i = 0; i < taken; i++)
        residency_release(e->residency, experts[i], e->tick);
    for (uint32_t i = 0; i < taken && mode == RESIDENCY_SWEEP; i++)
        keep(e, experts[i]);
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
    for (uint32_t i = mode == RESIDENCY_SWEEP && e->kept ? e->kept->count : 0; i-- > 0;)
        keep(e, t->experts[e->kept->first + i]);
}

// The prompt's last sweep is over.
static bool ends_prompt(const struct sim_trace *t, size_t i)
{
    return t->records[i].kind == TRACE_SWEEP &&
           (i + 1 == t->record_count || t->records[i + 1].step != t->records[i].step);
}

static uint32_t keep_count(const struct sim_trace *t, uint32_t slots)
{
    return (slots - residency_ring_slots(slots)) / t->layers;
}

enum sluice_status sim_engine(const struct sim_trace *t, const struct sim_places *places, struct sim_counts *counts)
{
    uint32_t tier_slots = places->unified ? 0 : places->host_slots;
    uint32_t device_slots = places->device_slots + (places->unified ? places->host_slots : 0);
    uint32_t host_slots = places->unified || tier_slots ? tier_slots : RESIDENCY_LOADS_MAX;
    struct residency_options options = {
        .expert_count = t->shape.layer_count * t->shape.expert_count,
        .device_slot_count = device_slots,
        .host_slot_count = host_slots,
        .ring_device_slots = residency_ring_slots(device_slots),
        .ring_host_slots = residency_ring_slots(host_slots),
        .host_cache = tier_slots > 0,
    };
    struct engine e = {.unified = places->unified};
    struct residency_counts before = {0}, after;
    *counts = (struct sim_counts){0};
    enum sluice_status status = residency_create(&options, &e.residency);
    if (status < 0)
        return status;
    size_t experts = options.expert_count;
    e.rank = mem_alloc(experts, sizeof *e.rank);
    TRY(e.rank ? SLUICE_OK : SLUICE_ERR_MEMORY);
    memset(e.rank, 0xFF, experts * sizeof *e.rank);
    e.keep_device = t->layers ? keep_count(t, device_slots) : 0;
    e.keep_host = t->layers && tier_slots ? keep_count(t, tier_slots) : 0;
    for (size_t i = 0; i < t->record_count; i++) {
        const struct sim_record *r = &t->records[i];
        if (i == t->counted_from)
            before = residency_statistics(e.residency).normal;
        if (r->kind != TRACE_DECODE) // a sweep without a record before it keeps nothing
            rank_kept(&e, t, r->kind == TRACE_KEEP ? r : e.kept && e.kept + 1 == r ? e.kept : NULL);
        if (r->kind != TRACE_KEEP)
            use_record(&e, t, r);
        if (ends_prompt(t, i))
            residency_settle(e.residency);
    }
    if (t->counted_from < t->record_count) {
        after = residency_statistics(e.residency).normal;
        counts->hits_device = after.device_hits - before.device_hits;
        counts->hits_host = after.host_hits - before.host_hits;
        counts->uses = counts->hits_device + counts->hits_host + after.misses - before.misses;
    }
fail:
    mem_free(e.rank);
    residency_destroy(e.residency);
    return status;
}
