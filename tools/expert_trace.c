#include "tools/expert_trace.h"

#include <string.h>

#include "offload/prompt_tail.h"
#include "runtime/base/mem.h"

struct expert_trace {
    struct trace_writer *writer;
    uint32_t experts, top_k;
    uint32_t step; // the running one is step - 1
    enum trace_kind kind;
    uint32_t layer;   // whose uses are being collected
    bool *is_used;    // [experts], owned
    uint16_t *record; // [experts], owned
    bool have_uses;
    uint32_t *tail;              // [PROMPT_TAIL_TOKENS][top_k] of a prompt's latest tokens, a ring, owned
    uint64_t tail_next;          // tokens put there so far
    struct prompt_tail *ranking; // owned
};

// What the engine will keep of a prompt's layer.
static void append_kept(struct expert_trace *t)
{
    uint64_t first = t->tail_next > PROMPT_TAIL_TOKENS ? t->tail_next - PROMPT_TAIL_TOKENS : 0;
    prompt_tail_clear(t->ranking, t->experts);
    for (uint64_t token = first; token < t->tail_next; token++)
        prompt_tail_count(t->ranking, t->tail + token % PROMPT_TAIL_TOKENS * t->top_k, 1, t->top_k);
    prompt_tail_rank(t->ranking, t->experts);
    for (uint32_t i = 0; i < t->ranking->count; i++)
        t->record[i] = (uint16_t)t->ranking->ranked[i].expert;
    trace_append(t->writer, &(struct trace_record){t->step - 1, t->layer, TRACE_KEEP, t->ranking->count, t->record});
}

// Writes the collected uses of one layer, by rising expert as the engine takes them.
static void flush(struct expert_trace *t)
{
    uint32_t count = 0;
    if (!t->have_uses)
        return;
    if (t->kind == TRACE_SWEEP)
        append_kept(t);
    t->tail_next = 0;
    for (uint32_t expert = 0; expert < t->experts; expert++)
        if (t->is_used[expert])
            t->record[count++] = (uint16_t)expert;
    trace_append(t->writer, &(struct trace_record){t->step - 1, t->layer, t->kind, count, t->record});
    memset(t->is_used, 0, t->experts * sizeof *t->is_used);
    t->have_uses = false;
}

void expert_trace_take(struct expert_trace *t, uint32_t layer, uint32_t rows, const uint32_t *ids)
{
    if (layer != t->layer)
        flush(t);
    t->layer = layer;
    for (size_t i = 0; i < (size_t)rows * t->top_k; i++)
        t->is_used[ids[i]] = true;
    for (uint32_t row = 0; row < rows; row++, t->tail_next++)
        memcpy(t->tail + t->tail_next % PROMPT_TAIL_TOKENS * t->top_k, ids + (size_t)row * t->top_k,
               t->top_k * sizeof *ids);
    t->have_uses = true;
}

enum sluice_status expert_trace_create(const char *path, struct sluice_engine *engine, struct expert_trace **out)
{
    enum sluice_status status = SLUICE_ERR_MEMORY;
    const struct sluice_model *model = sluice_engine_model(engine);
    struct sluice_stats stats;
    *out = NULL;
    if (model->experts == 0)
        return error_set(SLUICE_ERR_ARGUMENT, "--trace: this model has no experts");
    sluice_stats(engine, &stats);
    struct trace_shape shape = {model->layers, model->experts, stats.expert_bytes};
    struct expert_trace *t = mem_alloc(1, sizeof *t);
    if (!t)
        return status;
    t->experts = model->experts;
    t->top_k = model->top_k;
    t->is_used = mem_alloc(t->experts, sizeof *t->is_used);
    t->record = mem_alloc(t->experts, sizeof *t->record);
    t->tail = mem_alloc((size_t)PROMPT_TAIL_TOKENS * t->top_k, sizeof *t->tail);
    t->ranking = mem_alloc(1, sizeof *t->ranking);
    if (t->is_used && t->record && t->tail && t->ranking)
        status = trace_create(path, &shape, &t->writer);
    if (status == SLUICE_OK)
        *out = t;
    else
        expert_trace_abandon(t);
    return status;
}

void expert_trace_step(struct expert_trace *t, enum trace_kind kind)
{
    flush(t);
    if (kind == TRACE_MARK) {
        trace_append(t->writer, &(struct trace_record){.step = t->step, .kind = TRACE_MARK});
        return;
    }
    t->kind = kind;
    t->step++;
}

enum sluice_status expert_trace_finish(struct expert_trace *t)
{
    if (!t)
        return SLUICE_OK;
    flush(t);
    enum sluice_status status = trace_finish(t->writer);
    t->writer = NULL;
    expert_trace_abandon(t);
    return status;
}

void expert_trace_abandon(struct expert_trace *t)
{
    if (!t)
        return;
    trace_abandon(t->writer);
    mem_free(t->is_used);
    mem_free(t->record);
    mem_free(t->tail);
    mem_free(t->ranking);
    mem_free(t);
}
