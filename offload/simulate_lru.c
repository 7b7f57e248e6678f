// LRU caches of all sizes at once.
//
// Every use gets a number. A Fenwick tree holds a one at each expert's latest use, so that the ones behind an expert's
// last use are the experts used since.
#include "offload/simulate.h"
#include "runtime/base/check.h"
#include "runtime/base/mem.h"

struct stack {
    uint32_t *tree;     // [uses + 1], Fenwick; owned
    size_t uses;        // of the trace
    uint32_t *last_use; // [layers * experts]: number of the last use, 1..; 0: none; owned
    uint32_t *distance; // [experts that occur + 1]: counted uses by distance; owned
    uint32_t distance_max;
};

static void tree_add(const struct stack *s, size_t at, int value)
{
    for (; at <= s->uses; at += at & -at)
        s->tree[at] += (uint32_t)value;
}

static uint32_t tree_sum(const struct stack *s, size_t at)
{
    uint32_t sum = 0;
    for (; at > 0; at &= at - 1)
        sum += s->tree[at];
    return sum;
}

static void stack_finish(struct stack *s)
{
    mem_free(s->tree);
    mem_free(s->last_use);
    mem_free(s->distance);
}

static enum sluice_status stack_init(struct stack *s, const struct sim_trace *t)
{
    size_t experts = (size_t)t->shape.layer_count * t->shape.expert_count;
    *s = (struct stack){.uses = t->expert_total, .distance_max = (uint32_t)experts};
    CHECK(t->expert_total < UINT32_MAX); // see sim_trace_load
    s->tree = mem_alloc(s->uses + 1, sizeof *s->tree);
    s->last_use = mem_alloc(experts, sizeof *s->last_use);
    s->distance = mem_alloc(experts + 1, sizeof *s->distance);
    return s->tree && s->last_use && s->distance ? SLUICE_OK : SLUICE_ERR_MEMORY;
}

// One record: first the distances of all its uses, then the uses. A distance of d is a hit with d slots or more.
static void use_record(struct stack *s, const struct sim_trace *t, const struct sim_record *r, bool counted,
                       uint32_t *used, uint32_t *present)
{
    const uint32_t *experts = &t->experts[r->first];
    bool backwards = r->kind == TRACE_KEEP; // the most used becomes the latest
    for (uint32_t i = 0; i < r->count && counted; i++) {
        uint32_t last = s->last_use[experts[i]];
        if (last)
            s->distance[*present - tree_sum(s, last) + 1]++;
    }
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t *last = &s->last_use[experts[backwards ? r->count - 1 - i : i]];
        if (*last)
            tree_add(s, *last, -1);
        else
            ++*present;
        *last = ++*used;
        tree_add(s, *last, 1);
    }
}

// The distances of one layer's uses, or of all (layer is UINT32_MAX). Returns how many were counted.
static uint64_t count_distances(struct stack *s, const struct sim_trace *t, uint32_t layer)
{
    uint32_t used = 0, present = 0;
    uint64_t counted_uses = 0;
    for (size_t i = 0; i < t->record_count; i++) {
        const struct sim_record *r = &t->records[i];
        bool counted = i >= t->counted_from && r->kind == TRACE_DECODE;
        if (r->kind == TRACE_SWEEP || (layer != UINT32_MAX && r->layer != layer))
            continue;
        use_record(s, t, r, counted, &used, &present);
        counted_uses += counted ? r->count : 0;
    }
    return counted_uses;
}

static void add_hits(const struct stack *s, uint32_t slots, uint64_t uses, struct sim_counts *counts)
{
    counts->uses += uses;
    for (uint32_t distance = 1; distance <= slots && distance <= s->distance_max; distance++)
        counts->hits_device += s->distance[distance];
}

// One layer's list with its part of the slots.
static enum sluice_status add_layer(const struct sim_trace *t, uint32_t layer, uint32_t index, const uint32_t *slots,
                                    uint32_t count, struct sim_counts *counts)
{
    struct stack s;
    enum sluice_status status = stack_init(&s, t);
    if (status == SLUICE_OK) {
        uint64_t uses = count_distances(&s, t, layer);
        for (uint32_t i = 0; i < count; i++)
            add_hits(&s, slots[i] / t->layers + (index < slots[i] % t->layers), uses, &counts[i]);
    }
    stack_finish(&s);
    return status;
}

static bool layer_occurs(const struct sim_trace *t, uint32_t layer)
{
    for (size_t i = 0; i < t->record_count; i++)
        if (t->records[i].layer == layer)
            return true;
    return false;
}

enum sluice_status sim_lru(const struct sim_trace *t, bool per_layer, const uint32_t *slots, uint32_t count,
                           struct sim_counts *counts)
{
    enum sluice_status status = SLUICE_OK;
    for (uint32_t i = 0; i < count; i++)
        counts[i] = (struct sim_counts){0};
    for (uint32_t layer = 0, index = 0; per_layer && layer < t->shape.layer_count; layer++)
        if (layer_occurs(t, layer))
            TRY(add_layer(t, layer, index++, slots, count, counts));
    if (!per_layer) {
        struct stack s;
        status = stack_init(&s, t);
        uint64_t uses = status == SLUICE_OK ? count_distances(&s, t, UINT32_MAX) : 0;
        for (uint32_t i = 0; i < count && status == SLUICE_OK; i++)
            add_hits(&s, slots[i], uses, &counts[i]);
        stack_finish(&s);
    }
fail:
    return status;
}
