#include "runtime/model/moe_group.h"

#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "runtime/model/moe_lists.h"

enum { MEMOS = 32 }; // of a shape of experts: by how many there are, and whether they are a layer's first group

// --- what is remembered ---------------------------------------------------------------------------------------------

static bool same_shape(const struct moe_slab *a, const struct moe_slab *b)
{
    return a->slot_bytes == b->slot_bytes && a->down_offset == b->down_offset && a->gate_up_type == b->gate_up_type &&
           a->down_type == b->down_type && a->hidden == b->hidden && a->inter == b->inter;
}

// Gives layers whose experts have the same shape the same number, that of the first.
enum sluice_status moe_group_memos_create(struct sluice_engine *e)
{
    uint32_t layers = e->config.layer_count;
    e->expert_shapes = mem_alloc(layers, sizeof *e->expert_shapes);
    e->expert_memos = mem_alloc(layers, MEMOS * sizeof *e->expert_memos);
    if (!e->expert_shapes || !e->expert_memos)
        return SLUICE_ERR_MEMORY;
    for (uint32_t layer = 0; layer < layers; layer++) {
        if (!e->config.layers[layer].moe)
            continue;
        struct moe_slab slab = pager_slab(e->pager, layer, 0);
        uint32_t *shape = &e->expert_shapes[layer];
        for (*shape = 0; *shape < layer; ++*shape) {
            struct moe_slab other;
            if (!e->config.layers[*shape].moe)
                continue;
            other = pager_slab(e->pager, *shape, 0);
            if (same_shape(&slab, &other))
                break;
        }
    }
    return SLUICE_OK;
}

// Whether the kernels of a decode's group are known from an earlier group of as many experts, perhaps another layer's.
// What their lists say and which slabs they use may be different then. Only for tiles of one row each: how many there
// are is all that varies.
static bool experts_again(const struct moe_group *g, const struct moe_lists *lists)
{
    struct sluice_engine *e = g->pass->engine;
    struct gpu_range slabs[MOE_SLABS_MAX];
    if (lists->set_count != 1)
        return false;
    const struct moe_slab_set *set = &lists->sets[0];
    uint32_t tiles = set->tiles.counts[0], first = lists->row_token.offset == e->scratch.lists.offset;
    for (uint32_t rows = 2; rows <= MOE_TILE_ROWS; rows++)
        if (set->tiles.counts[rows - 1])
            return false;
    for (uint32_t i = 0; i < set->count; i++)
        slabs[i] = pager_slab_range(e->pager, lists->slabs[set->first + i]);
    // The list of tiles follows that of rows.
    uint64_t key = (lists->row_token.offset << 16 | lists->row_count) << 16 | tiles;
    struct gpu_memo *memos = &e->expert_memos[(size_t)e->expert_shapes[g->layer] * MEMOS];
    return gpu_again_array(g->cmd, &memos[(2 * tiles + first) % MEMOS], key, slabs, set->count);
}

// --- the experts' kernels -------------------------------------------------------------------------------------------

static void describe_slabs(const struct moe_group *g, const struct moe_lists *lists, const struct moe_slab_set *set,
                           struct moe_slab *slabs)
{
    for (uint32_t i = 0; i < set->count; i++)
        slabs[i] = pager_slab(g->pass->engine->pager, g->layer, lists->slabs[set->first + i]);
}

static void record_kernels(struct moe_group *g, uint32_t block, const struct moe_lists *lists)
{
    struct sluice_engine *e = g->pass->engine;
    struct activations act = activations_rows(&e->scratch.act, lists->row_count), x = e->scratch.blocks[block].x;
    struct moe_slab slabs[MOE_SLABS_MAX];
    bool rounded = false;
    for (uint32_t i = 0; i < lists->set_count; i++) {
        const struct moe_slab_set *set = &lists->sets[i];
        describe_slabs(g, lists, set, slabs);
        rounded = op_moe_gate_up(e->ops, g->cmd, slabs, set->count, &set->tiles, lists->row_token, &x, &act);
    }
    if (!rounded)
        op_quantize_q8(e->ops, g->cmd, &act);
    for (uint32_t i = 0; i < lists->set_count; i++) {
        const struct moe_slab_set *set = &lists->sets[i];
        describe_slabs(g, lists, set, slabs);
        op_moe_down(e->ops, g->cmd, slabs, set->count, &set->tiles, &act, e->scratch.y);
    }
}

// Records the span's rows: results in scratch.y, rows counted from row0.
static void record_span(struct moe_group *g, struct moe_list_room *room, uint32_t block, const struct moe_span *span,
                        uint32_t row0, uint32_t row_count)
{
    struct moe_lists lists;
    moe_lists_build(g, &g->pass->engine->expert_rows[block], span, row0, row_count, room, &lists);
    if (g->pass->is_prefill || !experts_again(g, &lists))
        record_kernels(g, block, &lists);
}

// --- the sum --------------------------------------------------------------------------------------------------------

static void combine(struct moe_group *g, uint32_t block, uint32_t row0, uint32_t row_count)
{
    struct sluice_engine *e = g->pass->engine;
    const struct scratch_block *b = &e->scratch.blocks[block];
    op_moe_combine(e->ops, g->cmd, e->scratch.y, b->pick_row, b->pick_weight, g->pass->blocks[block].rows,
                   e->config.top_k, row0, row_count, b->h, e->config.hidden_size);
}

// The weighted sum of all rows and the next layer's norm in one.
static void combine_and_norm(struct moe_group *g, uint32_t next)
{
    struct sluice_engine *e = g->pass->engine;
    const struct scratch_block *b = &e->scratch.blocks[0];
    struct activations x = activations_rows(&e->scratch.normed, g->pass->blocks[0].rows);
    op_moe_combine_norm(e->ops, g->cmd, e->scratch.y, b->pick_row, b->pick_weight, e->config.top_k, b->h,
                        e->weights.layers[next].input_norm, e->config.norm_eps, &x);
}

// The weighted sum of all rows; decoding, with the norm if a layer follows.
static void combine_all(struct moe_group *g, uint32_t rows)
{
    uint32_t next = g->layer + 1;
    bool norms = !g->pass->is_prefill && next != g->pass->engine->config.layer_count;
    if (!pass_again(g->pass, g->cmd, g->layer, MEMO_SUM, 0)) {
        if (norms)
            combine_and_norm(g, next);
        else
            combine(g, 0, 0, rows);
    }
    gpu_part(g->cmd);
    if (norms)
        g->pass->normed_layer = next;
}

// --- the group ------------------------------------------------------------------------------------------------------

// The group's experts for one block, in spans whose results fit scratch.y; each is summed before the next overwrites
// it.
static void record_in_order(struct moe_group *g, struct moe_list_room *room, uint32_t block)
{
    struct sluice_engine *e = g->pass->engine;
    const struct expert_rows *rows = &e->expert_rows[block];
    for (uint32_t begin = 0, end; begin < g->count; begin = end) {
        struct moe_span span = {.begin = begin, .first = rows->first[moe_group_expert(g, begin)]};
        for (end = begin; end < g->count; end++) {
            uint32_t last = rows->first[moe_group_expert(g, end) + 1];
            if (last - span.first > e->scratch.moe_rows)
                break;
            span.last = last;
        }
        CHECK(end > begin); // one expert has at most block_tokens <= moe_rows rows in a block
        span.end = end;
        if (span.last == span.first)
            continue;
        record_span(g, room, block, &span, span.first, span.last - span.first);
        combine(g, block, span.first, span.last - span.first);
    }
}

static void record_all_rows(struct moe_group *g, struct moe_list_room *room)
{
    struct sluice_engine *e = g->pass->engine;
    uint32_t rows = g->pass->blocks[0].rows * e->config.top_k;
    struct moe_span span = {.begin = 0, .end = g->count};
    // How many experts there are varies; what precedes and follows them is the same in every token.
    gpu_part(g->cmd);
    record_span(g, room, 0, &span, 0, rows);
    gpu_part(g->cmd);
    if (pager_sweep_left(e->pager) == 0)
        combine_all(g, rows);
}

enum sluice_status moe_group_record(struct moe_group *g, struct moe_list_room *room, bool all_rows_fit)
{
    enum sluice_status status = SLUICE_OK;
    struct sluice_engine *e = g->pass->engine;
    if (g->count == 0 || e->options.io_only)
        return SLUICE_OK;
    if (room->used + moe_lists_bytes_max(g) > room->range.bytes) { // earlier commands of this layer still read theirs
        TRY(pass_submit(g->pass, NULL, NULL));
        TRY(gpu_wait(e->device, gpu_tick_last(e->device)));
        TRY(pass_command(g->pass, &g->cmd));
        room->used = 0;
    }
    if (all_rows_fit)
        record_all_rows(g, room);
    for (uint32_t block = 0; !all_rows_fit && block < g->pass->block_count; block++)
        record_in_order(g, room, block);
fail:
    return status;
}
