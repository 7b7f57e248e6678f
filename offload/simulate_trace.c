// A trace in memory, checked.
#include <string.h>

#include "offload/simulate.h"
#include "runtime/base/mem.h"

// Grows an array to hold `needed` elements, at least doubling it.
static enum sluice_status grow(void **array, size_t *capacity, size_t needed, size_t size)
{
    if (needed <= *capacity)
        return SLUICE_OK;
    size_t wanted = needed > 2 * *capacity ? needed : 2 * *capacity;
    void *grown = mem_realloc(*array, wanted, size);
    if (!grown)
        return SLUICE_ERR_MEMORY;
    *array = grown;
    *capacity = wanted;
    return SLUICE_OK;
}

struct loading {
    const char *path;
    struct sim_trace *trace;
    size_t record_capacity, expert_capacity;
    size_t *last_use; // [layers * experts]: the record of an expert's last use + 1, owned
    bool *has_layer;  // [layers], owned
};

static enum sluice_status add_record(struct loading *l, const struct trace_record *r)
{
    enum sluice_status status;
    struct sim_trace *t = l->trace;
    if (r->kind == TRACE_MARK) {
        t->counted_from = t->record_count;
        return SLUICE_OK;
    }
    if (t->expert_total + r->count >= UINT32_MAX)
        return error_set(SLUICE_ERR_UNSUPPORTED, "%s: records more than 2^32 uses of experts", l->path);
    void *records = t->records, *experts = t->experts;
    status = grow(&records, &l->record_capacity, t->record_count + 1, sizeof *t->records);
    t->records = records;
    TRY(status);
    status = grow(&experts, &l->expert_capacity, t->expert_total + r->count, sizeof *t->experts);
    t->experts = experts;
    TRY(status);
    t->records[t->record_count++] = (struct sim_record){r->step, r->layer, r->count, r->kind, t->expert_total};
    t->layers += !l->has_layer[r->layer];
    l->has_layer[r->layer] = true;
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t expert = r->layer * t->shape.expert_count + r->experts[i];
        if (l->last_use[expert] == t->record_count)
            return error_set(SLUICE_ERR_FORMAT, "%s: step %u uses expert %u of layer %u twice", l->path, r->step,
                             r->experts[i], r->layer);
        l->last_use[expert] = t->record_count;
        t->experts[t->expert_total++] = expert;
    }
fail:
    return status;
}

static uint32_t count_steps(const struct sim_trace *t)
{
    uint32_t steps = 0, last = 0;
    for (size_t i = t->counted_from; i < t->record_count; i++) {
        const struct sim_record *r = &t->records[i];
        if (r->kind != TRACE_DECODE)
            continue;
        steps += steps == 0 || r->step != last;
        last = r->step;
    }
    return steps;
}

enum sluice_status sim_trace_load(const char *path, struct sim_trace *trace)
{
    enum sluice_status status;
    struct trace_reader *reader = NULL;
    struct trace_record record;
    struct loading l = {.path = path, .trace = trace};
    *trace = (struct sim_trace){0};
    TRY(trace_open(path, &reader));
    trace->shape = *trace_shape(reader);
    uint64_t experts = (uint64_t)trace->shape.layer_count * trace->shape.expert_count;
    if (experts >= UINT32_MAX)
        TRY(error_set(SLUICE_ERR_FORMAT, "%s: a model of %llu experts", path, (unsigned long long)experts));
    l.last_use = mem_alloc(experts, sizeof *l.last_use);
    l.has_layer = mem_alloc(trace->shape.layer_count, sizeof *l.has_layer);
    TRY(l.last_use && l.has_layer ? SLUICE_OK : SLUICE_ERR_MEMORY);
    while ((status = trace_next(reader, &record)) == SLUICE_OK)
        TRY(add_record(&l, &record));
    if (status == SLUICE_PENDING)
        status = SLUICE_OK;
    trace->steps = count_steps(trace);
fail:
    mem_free(l.last_use);
    mem_free(l.has_layer);
    trace_close(reader);
    return status;
}

void sim_trace_finish(struct sim_trace *trace)
{
    mem_free(trace->records);
    mem_free(trace->experts);
    *trace = (struct sim_trace){0};
}
