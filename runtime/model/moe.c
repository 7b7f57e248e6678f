// The routed experts of one layer, for all tokens of a pass: the rows of each block are sorted by expert
// (expert_rows.h), the experts that any token selected are swept through the pager (pager.h), and as they arrive in
// groups the device computes each group (moe_group.h).
#include <math.h>

#include "runtime/base/mem.h"
#include "runtime/model/engine_internal.h"
#include "runtime/model/expert_rows.h"
#include "runtime/model/moe_group.h"

enum { ROUTING_SEED = 1 };

_Static_assert((int)PROMPT_TAIL_EXPERTS_MAX == (int)MODEL_EXPERTS_MAX, "every model's experts can be ranked");

static enum sluice_status create_routing_model(struct sluice_engine *e)
{
    if (e->options.routing == SLUICE_ROUTING_MODEL)
        return e->options.io_only ? error_set(SLUICE_ERR_ARGUMENT, "without computing there is no router: measuring "
                                                                   "reads alone needs drawn experts (--routing)")
                                  : SLUICE_OK;
    struct routing_model_options model = {
        .kind = e->options.routing,
        .seed = ROUTING_SEED,
        .layers = e->config.layer_count,
        .experts = e->config.experts,
        .top_k = e->config.top_k,
        .sessions = e->options.sessions,
    };
    return routing_model_create(&model, &e->routing_model);
}

enum sluice_status moe_create(struct sluice_engine *e)
{
    enum sluice_status status;
    const struct model_config *c = &e->config;
    TRY(moe_group_memos_create(e));
    e->expert_rows = mem_alloc(e->scratch.block_count, sizeof *e->expert_rows);
    e->expert_lists = mem_alloc(c->experts + 1, sizeof *e->expert_lists);
    e->keep = mem_alloc(1, sizeof *e->keep);
    if (!e->expert_rows || !e->expert_lists || !e->keep)
        return SLUICE_ERR_MEMORY;
    for (uint32_t i = 0; i < e->scratch.block_count; i++)
        TRY(expert_rows_create(c->experts, c->top_k, e->scratch.blocks[i].capacity, &e->expert_rows[i]));
    TRY(create_routing_model(e));
fail:
    return status;
}

void moe_finish(struct sluice_engine *e)
{
    for (uint32_t i = 0; e->expert_rows && i < e->scratch.block_count; i++)
        expert_rows_finish(&e->expert_rows[i]);
    mem_free(e->expert_rows);
    mem_free(e->expert_lists);
    mem_free(e->keep);
    mem_free(e->expert_shapes);
    mem_free(e->expert_memos);
    routing_model_destroy(e->routing_model);
    e->expert_rows = NULL;
    e->expert_lists = NULL;
    e->routing_model = NULL;
    e->keep = NULL;
    e->expert_shapes = NULL;
    e->expert_memos = NULL;
}

// --- the router's choice --------------------------------------------------------------------------------------------

// Drawn experts in place of the router's; its weights stay.
static void draw_routing(struct sluice_engine *e, uint32_t layer, uint32_t block, const struct pass_block *content)
{
    uint32_t *ids = gpu_range_map(e->scratch.blocks[block].ids), top_k = e->config.top_k;
    for (uint32_t i = 0; i < content->run_count; i++) {
        const struct run *run = &content->runs[i];
        uint32_t session = (uint32_t)(run->session - e->sessions);
        for (uint32_t row = run->row; row < run->row + run->tokens; row++)
            routing_model_draw(e->routing_model, session, layer, &ids[(size_t)row * top_k]);
    }
}

static enum sluice_status sort_rows(struct sluice_engine *e, uint32_t block, uint32_t tokens)
{
    const struct scratch_block *b = &e->scratch.blocks[block];
    struct expert_picks picks = {
        .ids = gpu_range_map(b->ids),
        .weights = gpu_range_map(b->weights),
        .row = gpu_range_map(b->pick_row),
        .row_weight = gpu_range_map(b->pick_weight),
    };
    return expert_rows_sort(&e->expert_rows[block], tokens, &picks);
}

// Experts that any token of the pass selected, rising. Returns how many.
static uint32_t used_experts(const struct pass *pass, uint32_t *experts)
{
    struct sluice_engine *e = pass->engine;
    uint32_t count = 0;
    for (uint32_t expert = 0; expert < e->config.experts; expert++) {
        bool used = false;
        for (uint32_t block = 0; block < pass->block_count && !used; block++)
            used = expert_rows_count(&e->expert_rows[block], expert) > 0;
        if (used)
            experts[count++] = expert;
    }
    return count;
}

static enum sluice_status tap_experts(struct pass *pass, uint32_t layer)
{
    enum sluice_status status = SLUICE_OK;
    uint32_t first = 0;
    for (uint32_t i = 0; i < pass->block_count; first += pass->blocks[i].rows, i++)
        TRY(pass->tap->experts(pass->tap->user, layer, first, pass->blocks[i].rows,
                               gpu_range_map(pass->engine->scratch.blocks[i].ids)));
fail:
    return status;
}

// --- what stays -----------------------------------------------------------------------------------------------------

// Ranks the experts that the prompt's last tokens selected.
static void rank_tail(struct pass *pass)
{
    struct sluice_engine *e = pass->engine;
    uint32_t tokens = 0, skip, top_k = e->config.top_k;
    prompt_tail_clear(e->keep, e->config.experts);
    for (uint32_t i = 0; i < pass->block_count; i++)
        tokens += pass->blocks[i].rows;
    skip = tokens > PROMPT_TAIL_TOKENS ? tokens - PROMPT_TAIL_TOKENS : 0;
    for (uint32_t i = 0; i < pass->block_count; i++) {
        uint32_t rows = pass->blocks[i].rows, first = skip < rows ? skip : rows;
        const uint32_t *ids = gpu_range_map(e->scratch.blocks[i].ids);
        prompt_tail_count(e->keep, ids + (size_t)first * top_k, rows - first, top_k);
        skip -= first;
    }
    prompt_tail_rank(e->keep, e->config.experts);
}

static void keep(struct sluice_engine *e, uint32_t expert)
{
    uint32_t rank = e->keep->rank[expert], device = pager_keep_count(e->pager, true);
    if (rank < device)
        pager_keep(e->pager, expert, true);
    else if (rank < device + pager_keep_count(e->pager, false))
        pager_keep(e->pager, expert, false);
}

// The group's experts while they are in their slots.
static void keep_group(const struct moe_group *g)
{
    for (uint32_t i = 0; i < g->count; i++)
        keep(g->pass->engine, moe_group_expert(g, i));
}

// Once more at the end, so that the most used are the last to be evicted.
static void keep_ranked(struct sluice_engine *e)
{
    for (uint32_t i = e->keep->count; i-- > 0;)
        keep(e, e->keep->ranked[i].expert);
}

// --- the sweep ------------------------------------------------------------------------------------------------------

// The next layer with experts, or UINT32_MAX.
static uint32_t next_moe_layer(const struct sluice_engine *e, uint32_t layer)
{
    while (++layer < e->config.layer_count)
        if (e->config.layers[layer].moe)
            return layer;
    return UINT32_MAX;
}

// Whether nearly surely every expert of the next layer will be selected, so that reading may begin before the router
// says so: the pass is long enough (evenly routed, less than one in a hundred layers would have an expert to spare),
// and no layer so far had one.
static bool uses_all_experts(const struct pass *pass)
{
    const struct model_config *c = &pass->engine->config;
    double tokens = 0;
    for (uint32_t i = 0; i < pass->block_count; i++)
        tokens += pass->blocks[i].rows;
    return !pass->missed_an_expert && c->experts * exp(-tokens * (double)c->top_k / (double)c->experts) < 0.01;
}

static struct wave_demand choose_demand(const struct moe_group *g, bool first)
{
    struct sluice_engine *e = g->pass->engine;
    uint32_t max = e->scratch.group_experts < MOE_GROUP_MAX ? e->scratch.group_experts : MOE_GROUP_MAX;
    if (g->pass->is_prefill)
        return wave_of_prompt(max);
    uint32_t left = pager_sweep_left(e->pager), at_hand = left - pager_sweep_reading(e->pager);
    bool last_layer = next_moe_layer(e, g->layer) == UINT32_MAX;
    return wave_of_decode(max, left, at_hand, first && !last_layer);
}

// What was handed out. The command stays open if it is the sweep's last: the next layer goes on with it.
static enum sluice_status finish_group(struct moe_group *g, struct moe_list_room *room, bool all_rows_fit)
{
    enum sluice_status status;
    struct sluice_engine *e = g->pass->engine;
    TRY(moe_group_record(g, room, all_rows_fit));
    pager_sweep_recorded(e->pager);
    if (g->pass->is_prefill && g->pass->is_last)
        keep_group(g);
    if (pager_sweep_left(e->pager) > 0) {
        TRY(pass_submit(g->pass, NULL, NULL));
        TRY(pass_command(g->pass, &g->cmd)); // while the device is at work
    }
fail:
    return status;
}

static enum sluice_status sweep_group(struct moe_group *g, struct moe_list_room *room, bool all_rows_fit, bool first)
{
    enum sluice_status status;
    struct wave_demand demand = choose_demand(g, first);
    TRY(pass_command(g->pass, &g->cmd));
    TRY(pager_sweep_next(g->pass->engine->pager, g->cmd, &demand, g->places, &g->count));
    pass_record_begin(g->pass);
    status = finish_group(g, room, all_rows_fit);
    pass_record_end(g->pass);
fail:
    return status;
}

static enum sluice_status sweep(struct moe_group *g, uint32_t expert_count, bool all_rows_fit)
{
    enum sluice_status status;
    struct pass *pass = g->pass;
    struct sluice_engine *e = pass->engine;
    struct moe_list_room room = {.range = e->scratch.lists};
    // A prompt reads each expert once: it passes through without displacing what decoding uses.
    enum residency_mode mode = pass->is_prefill ? RESIDENCY_SWEEP : RESIDENCY_NORMAL;
    bool keeps = pass->is_prefill && pass->is_last;
    uint32_t next = next_moe_layer(e, g->layer);
    if (keeps)
        rank_tail(pass);
    TRY(pager_sweep_begin(e->pager, g->layer, g->experts, expert_count, !all_rows_fit, mode));
    pass->missed_an_expert |= expert_count < e->config.experts;
    if (pass->is_prefill && next != UINT32_MAX && uses_all_experts(pass))
        pager_read_ahead(e->pager, next);
    for (bool first = true; pager_sweep_left(e->pager) > 0; first = false) {
        TRY(sweep_group(g, &room, all_rows_fit, first));
        TRY(pass_progress(pass, g->layer + 1 - 0.5 * pager_sweep_left(e->pager) / expert_count));
    }
    if (keeps)
        keep_ranked(e);
    pager_sweep_end(e->pager);
fail:
    return status; // pass_abandon cleans up
}

enum sluice_status moe_layer(struct pass *pass, uint32_t layer)
{
    enum sluice_status status;
    struct sluice_engine *e = pass->engine;
    for (uint32_t block = 0; block < pass->block_count; block++) {
        if (e->routing_model)
            draw_routing(e, layer, block, &pass->blocks[block]);
        TRY(sort_rows(e, block, pass->blocks[block].rows));
    }
    if (pass->tap && pass->tap->experts)
        TRY(tap_experts(pass, layer));
    uint32_t count = used_experts(pass, e->expert_lists);
    uint64_t rows = (uint64_t)pass->blocks[0].rows * e->config.top_k;
    bool all_rows_fit = pass->block_count == 1 && rows <= e->scratch.moe_rows;
    struct moe_group group = {.pass = pass, .layer = layer, .experts = e->expert_lists};
    TRY(sweep(&group, count, all_rows_fit));
fail:
    return status;
}
