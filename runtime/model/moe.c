// The routed experts of one layer, for all tokens of a pass.
//
// Each (token, selected expert) pair is a row; a block's rows are sorted by expert, so that an expert's rows are
// contiguous and its weights are used once. For block b:
//
//   row_token    token of row r                      rows of expert e: expert_row[e] .. expert_row[e + 1] - 1
//   pick_row     rows of token t, by rising expert   (on the device, for the weighted sum)
//
// Experts arrive in groups (pager.h). A group's rows are computed at once: gate and up, SwiGLU, down, then the sum into
// h. The sum adds a token's experts one by one in rising order, so the result does not depend on how the experts were
// grouped: not on slots, arrival, or drive. If the results of all rows fit, experts run in any order of arrival and the
// sum follows at the end; otherwise they run in rising order and each group is summed at once.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/integer.h"
#include "runtime/base/mem.h"
#include "runtime/model/engine_internal.h"

enum { GROUP_MAX = 64, RANGE_ALIGN = 256, ROUTING_SEED = 1 };
enum { EXPERT_MEMOS = 32 }; // of a shape of experts: by how many there are, and whether they are a layer's first group

_Static_assert((int)GROUP_MAX >= (int)MOE_SLABS_MAX, "all slabs can be used ones where one operation takes them");
_Static_assert((int)PROMPT_TAIL_EXPERTS_MAX == (int)MODEL_EXPERTS_MAX, "every model's experts can be ranked");

struct routing {
    uint32_t *expert_row; // [experts + 1]
    uint32_t *row_token;  // [capacity * top_k]
};

// A group of experts being recorded.
struct group {
    struct pass *pass;
    struct gpu_command *cmd;
    uint32_t layer;
    const uint32_t *experts; // the sweep's list
    struct pager_place places[GROUP_MAX];
    uint32_t count;
};

static bool same_shape(const struct moe_slab *a, const struct moe_slab *b)
{
    return a->slot_bytes == b->slot_bytes && a->down_offset == b->down_offset && a->gate_up_type == b->gate_up_type &&
           a->down_type == b->down_type && a->hidden == b->hidden && a->inter == b->inter;
}

// Gives layers whose experts have the same shape the same number, that of the first.
static enum sluice_status compare_shapes(struct sluice_engine *e)
{
    uint32_t layers = e->config.layer_count;
    e->expert_shapes = mem_alloc(layers, sizeof *e->expert_shapes);
    e->expert_memos = mem_alloc(layers, EXPERT_MEMOS * sizeof *e->expert_memos);
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

enum sluice_status moe_create(struct sluice_engine *e)
{
    enum sluice_status status = compare_shapes(e);
    if (status < 0)
        return status;
    const struct model_config *c = &e->config;
    e->routings = mem_alloc(e->scratch.block_count, sizeof *e->routings);
    e->expert_lists = mem_alloc(c->experts + 1, sizeof *e->expert_lists);
    e->keep = mem_alloc(1, sizeof *e->keep);
    if (!e->routings || !e->expert_lists || !e->keep)
        return SLUICE_ERR_MEMORY;
    for (uint32_t i = 0; i < e->scratch.block_count; i++) {
        struct routing *r = &e->routings[i];
        r->expert_row = mem_alloc(c->experts + 1, sizeof *r->expert_row);
        r->row_token = mem_alloc((size_t)e->scratch.blocks[i].capacity * c->top_k, sizeof *r->row_token);
        if (!r->expert_row || !r->row_token)
            return SLUICE_ERR_MEMORY;
    }
    if (e->options.routing == SLUICE_ROUTING_MODEL)
        return e->options.io_only ? error_set(SLUICE_ERR_ARGUMENT, "without computing there is no router: measuring "
                                                                   "reads alone needs drawn experts (--routing)")
                                  : SLUICE_OK;
    struct routing_model_options model = {
        .kind = e->options.routing,
        .seed = ROUTING_SEED,
        .layers = c->layer_count,
        .experts = c->experts,
        .top_k = c->top_k,
        .sessions = e->options.sessions,
    };
    return routing_model_create(&model, &e->routing_model);
}

void moe_finish(struct sluice_engine *e)
{
    for (uint32_t i = 0; e->routings && i < e->scratch.block_count; i++) {
        mem_free(e->routings[i].expert_row);
        mem_free(e->routings[i].row_token);
    }
    mem_free(e->routings);
    mem_free(e->expert_lists);
    mem_free(e->keep);
    mem_free(e->expert_shapes);
    mem_free(e->expert_memos);
    routing_model_destroy(e->routing_model);
    e->routings = NULL;
    e->expert_lists = NULL;
    e->routing_model = NULL;
    e->keep = NULL;
    e->expert_shapes = NULL;
    e->expert_memos = NULL;
}

// --- lists ----------------------------------------------------------------------------------------------------------

// Order of a token's picks by rising expert; top_k is small.
static void sort_picks(const uint32_t *ids, uint32_t top_k, uint32_t *order)
{
    for (uint32_t i = 0; i < top_k; i++) {
        uint32_t j = i;
        for (; j > 0 && ids[order[j - 1]] > ids[i]; j--)
            order[j] = order[j - 1];
        order[j] = i;
    }
}

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

// Sorts the block's rows by expert and writes what op_moe_combine needs.
static enum sluice_status build_routing(struct sluice_engine *e, uint32_t block, uint32_t rows)
{
    const struct model_config *c = &e->config;
    const struct scratch_block *b = &e->scratch.blocks[block];
    struct routing *r = &e->routings[block];
    const uint32_t *ids = gpu_range_map(b->ids);
    const float *weights = gpu_range_map(b->weights);
    uint32_t *pick_row = gpu_range_map(b->pick_row);
    float *pick_weight = gpu_range_map(b->pick_weight);
    uint32_t picks = rows * c->top_k, order[MODEL_TOP_K_MAX], next[MODEL_EXPERTS_MAX];
    memset(r->expert_row, 0, (c->experts + 1) * sizeof *r->expert_row);
    for (uint32_t i = 0; i < picks; i++) {
        if (ids[i] >= c->experts)
            return error_set(SLUICE_ERR_DEVICE,
                             "the device selected expert %u of %u: NaN activations or a driver fault", ids[i],
                             c->experts);
        r->expert_row[ids[i] + 1]++;
    }
    for (uint32_t i = 0; i < c->experts; i++) {
        r->expert_row[i + 1] += r->expert_row[i];
        next[i] = r->expert_row[i];
    }
    for (uint32_t t = 0; t < rows; t++) {
        const uint32_t *selected = &ids[t * c->top_k];
        sort_picks(selected, c->top_k, order);
        for (uint32_t k = 0; k < c->top_k; k++) {
            uint32_t row = next[selected[order[k]]]++;
            r->row_token[row] = t;
            pick_row[t * c->top_k + k] = row;
            pick_weight[t * c->top_k + k] = weights[t * c->top_k + order[k]];
        }
    }
    return SLUICE_OK;
}

// Experts that any token of the pass selected, rising. Returns how many.
static uint32_t used_experts(const struct pass *pass, uint32_t *experts)
{
    struct sluice_engine *e = pass->engine;
    uint32_t count = 0;
    for (uint32_t expert = 0; expert < e->config.experts; expert++) {
        bool used = false;
        for (uint32_t block = 0; block < pass->block_count && !used; block++)
            used = e->routings[block].expert_row[expert + 1] > e->routings[block].expert_row[expert];
        if (used)
            experts[count++] = expert;
    }
    return count;
}

// --- one group ------------------------------------------------------------------------------------------------------

// Room in the upload buffer for the lists of commands that may still run; given out front to back.
struct list_room {
    struct gpu_range range;
    uint64_t used;
};

// Ranges are whole units long, so that they repeat from layer to layer and token to token (gpu/set_cache.c).
static void *take_list(struct list_room *room, uint64_t bytes, struct gpu_range *range)
{
    uint64_t whole = u64_round_up(bytes, RANGE_ALIGN), left = room->range.bytes - room->used;
    *range = gpu_range_part(room->range, room->used, whole < left ? whole : bytes); // checked there
    room->used += whole;
    return gpu_range_map(*range);
}

// Rows [first, last) of the block's sorted rows, a whole number of experts: places [begin, end) of the group.
struct row_span {
    uint32_t begin, end;  // places of the group
    uint32_t first, last; // rows
};

// Cuts the rows [row, end) of the expert at tile.slot into tiles and writes those of least..most rows. Returns how
// many; counts them.
static uint32_t add_tiles(struct moe_tile tile, uint32_t row, uint32_t end, uint32_t row0, uint32_t least,
                          uint32_t most, struct moe_tile *tiles, uint32_t *counts)
{
    uint32_t count = 0;
    for (uint32_t rows; row < end; row += rows) {
        rows = end - row < MOE_TILE_ROWS ? end - row : MOE_TILE_ROWS;
        if (rows < least || rows > most)
            continue;
        tile.row = row - row0;
        tile.row_count = rows;
        tiles[count++] = tile;
        counts[rows - 1]++;
    }
    return count;
}

// The slabs that a span's experts lie in, rising.
struct used_slabs {
    uint32_t numbers[GROUP_MAX], count;
    uint32_t index[GROUP_MAX]; // of the group's places among them
};

static void add_slab(struct used_slabs *used, uint32_t slab)
{
    uint32_t i = 0;
    while (i < used->count && used->numbers[i] < slab)
        i++;
    if (i < used->count && used->numbers[i] == slab)
        return;
    memmove(&used->numbers[i + 1], &used->numbers[i], (used->count - i) * sizeof *used->numbers);
    used->numbers[i] = slab;
    used->count++;
}

// If one operation takes all slabs there are, it gets all of them every time, so that descriptor sets repeat.
static void find_slabs(const struct group *g, const struct row_span *span, struct used_slabs *used)
{
    uint32_t all = pager_slab_count(g->pass->engine->pager);
    used->count = 0;
    for (uint32_t slab = 0; all <= op_moe_slabs_at_once(g->pass->engine->ops) && slab < all; slab++)
        add_slab(used, slab);
    for (uint32_t i = span->begin; i < span->end; i++)
        add_slab(used, g->places[i].slab);
    for (uint32_t i = span->begin; i < span->end; i++)
        for (used->index[i] = 0; used->numbers[used->index[i]] != g->places[i].slab;)
            used->index[i]++;
}

// Of these slabs, as many as one operation takes. Their experts make up one list of tiles.
struct slab_set {
    uint32_t first, count;
    struct moe_tiles tiles;
};

static bool is_in(const struct slab_set *set, uint32_t index)
{
    return index >= set->first && index - set->first < set->count;
}

// Upper bound of the tiles of the span's experts that lie in the set.
static uint32_t tiles_max(const struct group *g, const struct routing *r, const struct row_span *span,
                          const struct used_slabs *used, const struct slab_set *set)
{
    uint32_t count = 0;
    for (uint32_t i = span->begin; i < span->end; i++) {
        uint32_t expert = g->experts[g->places[i].index];
        uint32_t rows = r->expert_row[expert + 1] - r->expert_row[expert];
        if (is_in(set, used->index[i]))
            count += u32_divide_up(rows, MOE_TILE_ROWS);
    }
    return count;
}

// The tiles of the span's experts that lie in the set, sorted by their rows or expert by expert.
static void build_tiles(const struct group *g, const struct routing *r, const struct row_span *span, uint32_t row0,
                        const struct used_slabs *used, struct slab_set *set, struct moe_tile *tiles)
{
    bool sorted = op_moe_sorts_tiles(g->pass->engine->ops);
    for (uint32_t rows = sorted ? 1 : MOE_TILE_ROWS; rows <= MOE_TILE_ROWS; rows++)
        for (uint32_t i = span->begin; i < span->end; i++) {
            uint32_t expert = g->experts[g->places[i].index];
            struct moe_tile tile = {.slot = g->places[i].slot, .slab = used->index[i] - set->first};
            if (is_in(set, used->index[i]))
                tiles += add_tiles(tile, r->expert_row[expert], r->expert_row[expert + 1], row0, sorted ? rows : 1,
                                   rows, tiles, set->tiles.counts);
        }
}

// The used slabs cut into sets, with their tiles. Returns how many.
static uint32_t list_tiles(const struct group *g, const struct routing *r, struct list_room *room,
                           const struct row_span *span, uint32_t row0, const struct used_slabs *used,
                           struct slab_set *sets)
{
    uint32_t set_count = 0, most = op_moe_slabs_at_once(g->pass->engine->ops);
    for (uint32_t first = 0; first < used->count; first += most) {
        struct slab_set *set = &sets[set_count];
        *set = (struct slab_set){.first = first, .count = used->count - first < most ? used->count - first : most};
        uint32_t count = tiles_max(g, r, span, used, set);
        if (count == 0)
            continue;
        struct moe_tile *tiles = take_list(room, count * sizeof *tiles, &set->tiles.range);
        build_tiles(g, r, span, row0, used, set, tiles);
        set_count++;
    }
    return set_count;
}

static void describe_slabs(const struct group *g, const struct used_slabs *used, const struct slab_set *set,
                           struct moe_slab *slabs)
{
    for (uint32_t i = 0; i < set->count; i++)
        slabs[i] = pager_slab(g->pass->engine->pager, g->layer, used->numbers[set->first + i]);
}

// Whether the kernels of a decode's group are known from an earlier group of as many experts, perhaps another layer's.
// What their lists say and which slabs they use may be different then. Only for tiles of one row each: how many there
// are is all that varies.
static bool experts_again(const struct group *g, struct gpu_range row_token, uint32_t row_count,
                          const struct used_slabs *used, const struct slab_set *set)
{
    struct sluice_engine *e = g->pass->engine;
    struct gpu_range slabs[MOE_SLABS_MAX];
    uint32_t tiles = set->tiles.counts[0], first = row_token.offset == e->scratch.lists.offset;
    for (uint32_t rows = 2; rows <= MOE_TILE_ROWS; rows++)
        if (set->tiles.counts[rows - 1])
            return false;
    for (uint32_t i = 0; i < set->count; i++)
        slabs[i] = pager_slab_range(e->pager, used->numbers[set->first + i]);
    uint64_t key = (row_token.offset << 16 | row_count) << 16 | tiles; // the list of tiles follows that of rows
    struct gpu_memo *memos = &e->expert_memos[(size_t)e->expert_shapes[g->layer] * EXPERT_MEMOS];
    return gpu_again_array(g->cmd, &memos[(2 * tiles + first) % EXPERT_MEMOS], key, slabs, set->count);
}

static void record_kernels(struct group *g, uint32_t block, struct gpu_range row_token, uint32_t row_count,
                           const struct used_slabs *used, const struct slab_set *sets, uint32_t set_count)
{
    struct sluice_engine *e = g->pass->engine;
    struct activations act = activations_rows(&e->scratch.act, row_count), x = e->scratch.blocks[block].x;
    struct moe_slab slabs[MOE_SLABS_MAX];
    bool rounded = false;
    for (uint32_t i = 0; i < set_count; i++) {
        describe_slabs(g, used, &sets[i], slabs);
        rounded = op_moe_gate_up(e->ops, g->cmd, slabs, sets[i].count, &sets[i].tiles, row_token, &x, &act);
    }
    if (!rounded)
        op_quantize_q8(e->ops, g->cmd, &act);
    for (uint32_t i = 0; i < set_count; i++) {
        describe_slabs(g, used, &sets[i], slabs);
        op_moe_down(e->ops, g->cmd, slabs, sets[i].count, &sets[i].tiles, &act, e->scratch.y);
    }
}

// Records the span's rows: results in scratch.y, rows counted from row0.
static void record_span(struct group *g, struct list_room *room, uint32_t block, const struct row_span *span,
                        uint32_t row0, uint32_t row_count)
{
    const struct routing *r = &g->pass->engine->routings[block];
    struct gpu_range row_token;
    uint32_t *tokens = take_list(room, row_count * 4ull, &row_token);
    memcpy(tokens, &r->row_token[row0], row_count * 4ull);
    struct slab_set sets[GROUP_MAX]; // at most one per place
    struct used_slabs used;
    find_slabs(g, span, &used);
    uint32_t set_count = list_tiles(g, r, room, span, row0, &used, sets);
    if (g->pass->is_prefill || set_count != 1 || !experts_again(g, row_token, row_count, &used, sets))
        record_kernels(g, block, row_token, row_count, &used, sets, set_count);
}

static void combine(struct group *g, uint32_t block, uint32_t row0, uint32_t row_count)
{
    struct sluice_engine *e = g->pass->engine;
    const struct scratch_block *b = &e->scratch.blocks[block];
    op_moe_combine(e->ops, g->cmd, e->scratch.y, b->pick_row, b->pick_weight, g->pass->blocks[block].rows,
                   e->config.top_k, row0, row_count, b->h, e->config.hidden_size);
}

// The weighted sum of all rows and the next layer's norm in one.
static void combine_and_norm(struct group *g, uint32_t next)
{
    struct sluice_engine *e = g->pass->engine;
    const struct scratch_block *b = &e->scratch.blocks[0];
    struct activations x = activations_rows(&e->scratch.normed, g->pass->blocks[0].rows);
    op_moe_combine_norm(e->ops, g->cmd, e->scratch.y, b->pick_row, b->pick_weight, e->config.top_k, b->h,
                        e->weights.layers[next].input_norm, e->config.norm_eps, &x);
}

// The weighted sum of all rows; decoding, with the norm if a layer follows.
static void combine_all(struct group *g, uint32_t rows)
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

// The group's experts for one block, in spans whose results fit scratch.y; each is summed before the next overwrites
// it.
static void record_in_order(struct group *g, struct list_room *room, uint32_t block)
{
    struct sluice_engine *e = g->pass->engine;
    const struct routing *r = &e->routings[block];
    for (uint32_t begin = 0, end; begin < g->count; begin = end) {
        struct row_span span = {.begin = begin, .first = r->expert_row[g->experts[g->places[begin].index]]};
        for (end = begin; end < g->count; end++) {
            uint32_t last = r->expert_row[g->experts[g->places[end].index] + 1];
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

// --- the layer ------------------------------------------------------------------------------------------------------

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

// Upper bound of what a group's lists take.
static uint64_t list_bytes_max(const struct group *g)
{
    struct sluice_engine *e = g->pass->engine;
    uint64_t bytes = 0;
    for (uint32_t block = 0; block < g->pass->block_count; block++) {
        const struct routing *r = &e->routings[block];
        for (uint32_t i = 0; i < g->count; i++) {
            uint32_t expert = g->experts[g->places[i].index];
            uint64_t rows = r->expert_row[expert + 1] - r->expert_row[expert];
            bytes += rows * 4 + (rows / MOE_TILE_ROWS + 1) * sizeof(struct moe_tile) + 2 * RANGE_ALIGN;
        }
        if (g->pass->block_count == 1) // all rows at once: the whole list of tokens
            bytes += 4ull * g->pass->blocks[block].rows * e->config.top_k;
    }
    return bytes;
}

static enum sluice_status run_group(struct group *g, struct list_room *room, bool all_rows_fit)
{
    enum sluice_status status;
    struct sluice_engine *e = g->pass->engine;
    if (g->count == 0 || e->options.io_only)
        return SLUICE_OK;
    if (room->used + list_bytes_max(g) > room->range.bytes) { // earlier commands of this layer still read their lists
        TRY(pass_submit(g->pass, NULL, NULL));
        TRY(gpu_wait(e->device, gpu_tick_last(e->device)));
        TRY(pass_command(g->pass, &g->cmd));
        room->used = 0;
    }
    if (!all_rows_fit) {
        for (uint32_t block = 0; block < g->pass->block_count; block++)
            record_in_order(g, room, block);
        return SLUICE_OK;
    }
    uint32_t rows = g->pass->blocks[0].rows * e->config.top_k;
    struct row_span span = {.begin = 0, .end = g->count};
    // How many experts there are varies; what precedes and follows them is the same in every token.
    gpu_part(g->cmd);
    record_span(g, room, 0, &span, 0, rows);
    gpu_part(g->cmd);
    if (pager_sweep_left(e->pager) == 0)
        combine_all(g, rows);
    return SLUICE_OK;
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
static void keep_group(const struct group *g)
{
    for (uint32_t i = 0; i < g->count; i++)
        keep(g->pass->engine, g->experts[g->places[i].index]);
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

static struct wave_demand choose_demand(const struct group *g, bool first)
{
    struct sluice_engine *e = g->pass->engine;
    uint32_t max = e->scratch.group_experts < GROUP_MAX ? e->scratch.group_experts : GROUP_MAX;
    if (g->pass->is_prefill)
        return wave_of_prompt(max);
    uint32_t left = pager_sweep_left(e->pager), at_hand = left - pager_sweep_reading(e->pager);
    bool last_layer = next_moe_layer(e, g->layer) == UINT32_MAX;
    return wave_of_decode(max, left, at_hand, first && !last_layer);
}

// What was handed out. The command stays open if it is the sweep's last: the next layer goes on with it.
static enum sluice_status finish_group(struct group *g, struct list_room *room, bool all_rows_fit)
{
    enum sluice_status status;
    struct sluice_engine *e = g->pass->engine;
    TRY(run_group(g, room, all_rows_fit));
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

static enum sluice_status sweep_group(struct group *g, struct list_room *room, bool all_rows_fit, bool first)
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

static enum sluice_status sweep(struct group *g, uint32_t expert_count, bool all_rows_fit)
{
    enum sluice_status status;
    struct pass *pass = g->pass;
    struct sluice_engine *e = pass->engine;
    struct list_room room = {.range = e->scratch.lists};
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
        TRY(build_routing(e, block, pass->blocks[block].rows));
    }
    if (pass->tap && pass->tap->experts)
        TRY(tap_experts(pass, layer));
    uint32_t count = used_experts(pass, e->expert_lists);
    uint64_t rows = (uint64_t)pass->blocks[0].rows * e->config.top_k;
    bool all_rows_fit = pass->block_count == 1 && rows <= e->scratch.moe_rows;
    struct group group = {.pass = pass, .layer = layer, .experts = e->expert_lists};
    TRY(sweep(&group, count, all_rows_fit));
fail:
    return status;
}
