// The optimum, which knows the future: a heap of what is there by next use.
#include "offload/simulate.h"
#include "runtime/base/mem.h"

// An expert in the cache as it was when its next use became known; outdated if that has changed since.
struct heap_item {
    size_t next_use; // record; SIZE_MAX: never again
    uint32_t expert;
};

struct optimum {
    const struct sim_trace *trace;
    uint32_t slots, cached;
    size_t *next_of_use;    // [expert_total]: the record that uses the same expert next, owned
    size_t *next_use;       // [layers * experts]: of what is in the cache, owned
    bool *is_cached;        // [layers * experts], owned
    struct heap_item *heap; // [expert_total]: the latest next use first, owned
    size_t heap_count;
};

static void heap_push(struct optimum *o, struct heap_item item)
{
    size_t at = o->heap_count++;
    for (; at > 0 && o->heap[(at - 1) / 2].next_use < item.next_use; at = (at - 1) / 2)
        o->heap[at] = o->heap[(at - 1) / 2];
    o->heap[at] = item;
}

static struct heap_item heap_pop(struct optimum *o)
{
    struct heap_item top = o->heap[0], moved = o->heap[--o->heap_count];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < o->heap_count; at = child) {
        if (child + 1 < o->heap_count && o->heap[child + 1].next_use > o->heap[child].next_use)
            child++;
        if (o->heap[child].next_use <= moved.next_use)
            break;
        o->heap[at] = o->heap[child];
    }
    o->heap[at] = moved;
    return top;
}

static enum sluice_status optimum_init(struct optimum *o, const struct sim_trace *t, uint32_t slots)
{
    size_t experts = (size_t)t->shape.layer_count * t->shape.expert_count;
    *o = (struct optimum){.trace = t, .slots = slots};
    o->next_of_use = mem_alloc(t->expert_total, sizeof *o->next_of_use);
    o->next_use = mem_alloc(experts, sizeof *o->next_use);
    o->is_cached = mem_alloc(experts, sizeof *o->is_cached);
    o->heap = mem_alloc(t->expert_total, sizeof *o->heap);
    if (!o->next_of_use || !o->next_use || !o->is_cached || !o->heap)
        return SLUICE_ERR_MEMORY;
    for (size_t i = 0; i < experts; i++)
        o->next_use[i] = SIZE_MAX;
    for (size_t i = t->record_count; i-- > 0;) { // backwards, so that next_use is the future's
        const struct sim_record *r = &t->records[i];
        for (size_t j = r->first; j < r->first + r->count && r->kind != TRACE_SWEEP; j++) {
            o->next_of_use[j] = o->next_use[t->experts[j]];
            if (r->kind == TRACE_DECODE)
                o->next_use[t->experts[j]] = i;
        }
    }
    return SLUICE_OK;
}

static void optimum_finish(struct optimum *o)
{
    mem_free(o->next_of_use);
    mem_free(o->next_use);
    mem_free(o->is_cached);
    mem_free(o->heap);
}

// Gives up what is used again last. Experts of the record under way are used again now: they go last of all.
static void evict_one(struct optimum *o)
{
    for (;;) {
        struct heap_item item = heap_pop(o);
        if (!o->is_cached[item.expert] || o->next_use[item.expert] != item.next_use)
            continue;
        o->is_cached[item.expert] = false;
        o->cached--;
        return;
    }
}

static void use_record(struct optimum *o, const struct sim_record *r, bool counted, struct sim_counts *counts)
{
    const uint32_t *experts = &o->trace->experts[r->first];
    uint32_t misses = 0;
    for (uint32_t i = 0; i < r->count; i++)
        misses += !o->is_cached[experts[i]];
    if (counted) {
        counts->uses += r->count;
        counts->hits_device += r->count - misses;
    }
    while (o->cached > 0 && o->cached + misses > o->slots)
        evict_one(o);
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t expert = experts[i];
        if (!o->is_cached[expert] && o->cached == o->slots)
            continue; // more experts than slots: the rest only passes through
        o->cached += !o->is_cached[expert];
        o->is_cached[expert] = true;
        o->next_use[expert] = o->next_of_use[r->first + i];
        heap_push(o, (struct heap_item){o->next_use[expert], expert});
    }
}

// What may be had for nothing: of it and of what is there, what is used again first.
static void keep_record(struct optimum *o, const struct sim_record *r)
{
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t expert = o->trace->experts[r->first + i];
        if (o->is_cached[expert])
            continue;
        o->is_cached[expert] = true;
        o->cached++;
        o->next_use[expert] = o->next_of_use[r->first + i];
        heap_push(o, (struct heap_item){o->next_use[expert], expert});
    }
    while (o->cached > o->slots)
        evict_one(o);
}

enum sluice_status sim_optimum(const struct sim_trace *t, uint32_t slots, struct sim_counts *counts)
{
    struct optimum o;
    enum sluice_status status = optimum_init(&o, t, slots);
    *counts = (struct sim_counts){0};
    for (size_t i = 0; i < t->record_count && status == SLUICE_OK; i++) {
        if (t->records[i].kind == TRACE_DECODE)
            use_record(&o, &t->records[i], i >= t->counted_from, counts);
        else if (t->records[i].kind == TRACE_KEEP)
            keep_record(&o, &t->records[i]);
    }
    optimum_finish(&o);
    return status;
}
