#include "runtime/model/moe_lists.h"

#include <string.h>

#include "runtime/base/integer.h"

enum { RANGE_ALIGN = 256 };

_Static_assert((int)MOE_GROUP_MAX >= (int)MOE_SLABS_MAX, "all slabs can be used ones where one operation takes them");

uint64_t moe_lists_bytes_max(const struct moe_group *g)
{
    struct sluice_engine *e = g->pass->engine;
    uint64_t bytes = 0;
    for (uint32_t block = 0; block < g->pass->block_count; block++) {
        for (uint32_t i = 0; i < g->count; i++) {
            uint64_t rows = expert_rows_count(&e->expert_rows[block], moe_group_expert(g, i));
            bytes += rows * 4 + (rows / MOE_TILE_ROWS + 1) * sizeof(struct moe_tile) + 2 * RANGE_ALIGN;
        }
        if (g->pass->block_count == 1) // all rows at once: the whole list of tokens
            bytes += 4ull * g->pass->blocks[block].rows * e->config.top_k;
    }
    return bytes;
}

// Ranges are whole units long, so that they repeat from layer to layer and token to token (gpu/set_cache.c).
static void *take_list(struct moe_list_room *room, uint64_t bytes, struct gpu_range *range)
{
    uint64_t whole = u64_round_up(bytes, RANGE_ALIGN), left = room->range.bytes - room->used;
    *range = gpu_range_part(room->range, room->used, whole < left ? whole : bytes); // checked there
    room->used += whole;
    return gpu_range_map(*range);
}

// --- slabs ----------------------------------------------------------------------------------------------------------

static void add_slab(struct moe_lists *lists, uint32_t slab)
{
    uint32_t i = 0;
    while (i < lists->slab_count && lists->slabs[i] < slab)
        i++;
    if (i < lists->slab_count && lists->slabs[i] == slab)
        return;
    memmove(&lists->slabs[i + 1], &lists->slabs[i], (lists->slab_count - i) * sizeof *lists->slabs);
    lists->slabs[i] = slab;
    lists->slab_count++;
}

// If one operation takes all slabs there are, it gets all of them every time, so that descriptor sets repeat.
static void find_slabs(const struct moe_group *g, const struct moe_span *span, struct moe_lists *lists)
{
    uint32_t all = pager_slab_count(g->pass->engine->pager);
    lists->slab_count = 0;
    for (uint32_t slab = 0; all <= op_moe_slabs_at_once(g->pass->engine->ops) && slab < all; slab++)
        add_slab(lists, slab);
    for (uint32_t i = span->begin; i < span->end; i++)
        add_slab(lists, g->places[i].slab);
    for (uint32_t i = span->begin; i < span->end; i++)
        for (lists->slab_index[i] = 0; lists->slabs[lists->slab_index[i]] != g->places[i].slab;)
            lists->slab_index[i]++;
}

static bool is_in(const struct moe_slab_set *set, uint32_t slab_index)
{
    return slab_index >= set->first && slab_index - set->first < set->count;
}

// --- tiles ----------------------------------------------------------------------------------------------------------

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

// Upper bound of the tiles of the span's experts that lie in the set.
static uint32_t tiles_max(const struct moe_group *g, const struct expert_rows *rows, const struct moe_span *span,
                          const struct moe_lists *lists, const struct moe_slab_set *set)
{
    uint32_t count = 0;
    for (uint32_t i = span->begin; i < span->end; i++)
        if (is_in(set, lists->slab_index[i]))
            count += u32_divide_up(expert_rows_count(rows, moe_group_expert(g, i)), MOE_TILE_ROWS);
    return count;
}

// The tiles of the span's experts that lie in the set, sorted by their rows or expert by expert.
static void build_tiles(const struct moe_group *g, const struct expert_rows *rows, const struct moe_span *span,
                        uint32_t row0, const struct moe_lists *lists, struct moe_slab_set *set, struct moe_tile *tiles)
{
    bool sorted = op_moe_sorts_tiles(g->pass->engine->ops);
    for (uint32_t most = sorted ? 1 : MOE_TILE_ROWS; most <= MOE_TILE_ROWS; most++)
        for (uint32_t i = span->begin; i < span->end; i++) {
            uint32_t expert = moe_group_expert(g, i), slab_index = lists->slab_index[i];
            struct moe_tile tile = {.slot = g->places[i].slot, .slab = slab_index - set->first};
            if (is_in(set, slab_index))
                tiles += add_tiles(tile, rows->first[expert], rows->first[expert + 1], row0, sorted ? most : 1, most,
                                   tiles, set->tiles.counts);
        }
}

void moe_lists_build(const struct moe_group *g, const struct expert_rows *rows, const struct moe_span *span,
                     uint32_t row0, uint32_t row_count, struct moe_list_room *room, struct moe_lists *lists)
{
    uint32_t most = op_moe_slabs_at_once(g->pass->engine->ops);
    uint32_t *tokens = take_list(room, row_count * 4ull, &lists->row_token);
    memcpy(tokens, &rows->token[row0], row_count * 4ull);
    lists->row_count = row_count;
    find_slabs(g, span, lists);
    lists->set_count = 0;
    for (uint32_t first = 0; first < lists->slab_count; first += most) {
        struct moe_slab_set *set = &lists->sets[lists->set_count];
        *set = (struct moe_slab_set){.first = first, .count = u32_min(lists->slab_count - first, most)};
        uint32_t count = tiles_max(g, rows, span, lists, set);
        if (count == 0)
            continue;
        struct moe_tile *tiles = take_list(room, count * sizeof *tiles, &set->tiles.range);
        build_tiles(g, rows, span, row0, lists, set, tiles);
        lists->set_count++;
    }
}
