// Rows of the table: the routed experts, ten per token of 512.
#include <stdio.h>

#include "quant/tile.h"
#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "tools/bench/kernel_bench.h"

enum { HIDDEN = 2048, INTER = 512, EXPERTS = 512, TOP_K = 10, TOKENS = 512 };

// One token's lists begin at multiples of this, so that each can be bound; the runs go through LISTS of them, with
// other slots.
enum { LIST_BYTES = 256, LISTS = 6 };

static const enum quant_type types[] = {QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K, QUANT_Q8_0};
enum { TYPES = sizeof types / sizeof *types };

struct experts {
    struct kernel_bench *bench;
    struct moe_slab slab;
    uint32_t slots, tokens, rows, list;
    struct moe_tiles tiles;
};

static const struct moe_tiles *tiles_of(struct experts *e)
{
    struct gpu_range all = e->bench->arrays[BENCH_TILES];
    uint64_t offset = (uint64_t)LIST_BYTES * (e->list++ % LISTS);
    e->tiles.range = e->tokens == 1 ? gpu_range_part(all, offset, LIST_BYTES) : all;
    return &e->tiles;
}

static struct activations activations_of(const struct experts *e, uint32_t n, uint32_t cols, enum bench_array f32)
{
    return (struct activations){.n = n,
                                .cols = cols,
                                .f32 = e->bench->arrays[f32],
                                .q8 = e->bench->arrays[BENCH_Q8],
                                .q8_scales = e->bench->arrays[BENCH_SCALES]};
}

static void record_gate_up(void *user, struct gpu_command *cmd)
{
    struct experts *e = user;
    struct activations x = activations_of(e, e->tokens, HIDDEN, BENCH_IN);
    struct activations act = {.n = e->rows, .cols = INTER, .f32 = e->bench->arrays[BENCH_OUT]};
    ops_set_prefill(e->bench->ops, e->tokens > 1);
    op_moe_gate_up(e->bench->ops, cmd, &e->slab, 1, tiles_of(e), e->bench->arrays[BENCH_ROWS], &x, &act);
}

static void record_down(void *user, struct gpu_command *cmd)
{
    struct experts *e = user;
    struct activations act = activations_of(e, e->rows, INTER, BENCH_IN);
    ops_set_prefill(e->bench->ops, e->tokens > 1);
    op_moe_down(e->bench->ops, cmd, &e->slab, 1, tiles_of(e), &act, e->bench->arrays[BENCH_OUT]);
}

static void record_combine(void *user, struct gpu_command *cmd)
{
    struct experts *e = user;
    op_moe_combine(e->bench->ops, cmd, e->bench->arrays[BENCH_OUT], e->bench->arrays[BENCH_ROWS],
                   e->bench->arrays[BENCH_SMALL], e->tokens, TOP_K, 0, e->rows, e->bench->arrays[BENCH_IN], HIDDEN);
}

// Rows of each expert in runs of at most MOE_TILE_ROWS, those of `size` rows; slots are used again where the slab has
// too few. Returns how many.
static uint32_t fill_tiles(struct moe_tile *tiles, const struct experts *e, uint32_t rows_each, uint32_t first_slot,
                           uint32_t size)
{
    uint32_t count = 0;
    for (uint32_t row = 0, expert = 0; row < e->rows; expert++)
        for (uint32_t end = row + rows_each; row < end;) {
            uint32_t here = end - row < MOE_TILE_ROWS ? end - row : (uint32_t)MOE_TILE_ROWS;
            struct moe_tile tile = {.slot = (first_slot + expert) % e->slots, .row = row, .row_count = here};
            if (here == size)
                tiles[count++] = tile;
            row += here;
        }
    return count;
}

static void fill_list(struct moe_tile *tiles, struct experts *e, uint32_t rows_each, uint32_t first_slot)
{
    for (uint32_t size = 1; size <= MOE_TILE_ROWS; size++) {
        e->tiles.counts[size - 1] = fill_tiles(tiles, e, rows_each, first_slot, size);
        tiles += e->tiles.counts[size - 1];
    }
}

static enum sluice_status write_lists(struct experts *e)
{
    enum sluice_status status;
    enum { TILES_MAX = TOKENS * TOP_K };
    uint32_t rows_each = e->rows > EXPERTS ? e->rows / EXPERTS : 1, *row_token = mem_alloc(e->rows, sizeof *row_token);
    struct moe_tile *tiles = mem_alloc(TILES_MAX, sizeof *tiles);
    TRY(row_token && tiles ? SLUICE_OK : SLUICE_ERR_MEMORY);
    for (uint32_t i = 0; i < (e->tokens == 1 ? (uint32_t)LISTS : 1); i++)
        fill_list(tiles + i * LIST_BYTES / sizeof *tiles, e, rows_each, i * TOP_K);
    for (uint32_t i = 0; i < e->rows; i++)
        row_token[i] = i / TOP_K;
    struct gpu_device *device = e->bench->watch.device;
    TRY(bench_fill(device, e->bench->arrays[BENCH_TILES], tiles, TILES_MAX * sizeof *tiles));
    TRY(bench_fill(device, e->bench->arrays[BENCH_ROWS], row_token, e->rows * sizeof *row_token));
fail:
    mem_free(tiles);
    mem_free(row_token);
    return status;
}

static struct experts experts_make(struct kernel_bench *b, enum quant_type type, uint32_t tokens)
{
    uint64_t gate_up = 2 * quant_tile_bytes(type, INTER, HIDDEN), down = quant_tile_bytes(type, HIDDEN, INTER);
    struct experts e = {.bench = b, .tokens = tokens, .rows = tokens * TOP_K};
    e.slots = (uint32_t)(b->pool[0].bytes / (gate_up + down));
    e.slab = (struct moe_slab){.range = b->pool[0],
                               .slot_bytes = (uint32_t)(gate_up + down),
                               .down_offset = (uint32_t)gate_up,
                               .gate_up_type = type,
                               .down_type = type,
                               .hidden = HIDDEN,
                               .inter = INTER};
    return e;
}

static enum sluice_status run(struct kernel_bench *b, enum quant_type type, uint32_t tokens)
{
    char name[64];
    enum sluice_status status;
    struct experts e = experts_make(b, type, tokens);
    const char *format = quant_format_get(type)->name;
    double experts = e.rows < EXPERTS ? e.rows : EXPERTS, ops = 2.0 * e.rows * HIDDEN * INTER;
    TRY(write_lists(&e));
    snprintf(name, sizeof name, "gate_up %s x%u", format, tokens);
    struct work gate_up = {.bytes = experts * e.slab.down_offset + e.rows * 4.0 * INTER + tokens * 1.25 * HIDDEN,
                           .dot_ops = 2 * ops};
    TRY(bench_measure(b, name, gate_up, record_gate_up, &e));
    snprintf(name, sizeof name, "down %s x%u", format, tokens);
    struct work down = {.bytes =
                            experts * (e.slab.slot_bytes - e.slab.down_offset) + e.rows * (4.0 * HIDDEN + 1.25 * INTER),
                        .dot_ops = ops};
    TRY(bench_measure(b, name, down, record_down, &e));
    if (type != types[0])
        return SLUICE_OK;
    snprintf(name, sizeof name, "combine x%u", tokens);
    struct work combine = {.bytes = 4.0 * HIDDEN * (e.rows + 2.0 * tokens), .fma_ops = 2.0 * e.rows * HIDDEN};
    TRY(bench_measure(b, name, combine, record_combine, &e));
fail:
    return status;
}

enum sluice_status expert_cases_run(struct kernel_bench *b)
{
    enum sluice_status status;
    static const enum bench_array needed[] = {BENCH_IN,   BENCH_Q8,    BENCH_SCALES, BENCH_OUT,
                                              BENCH_ROWS, BENCH_TILES, BENCH_SMALL};
    TRY(bench_need_pool(b));
    TRY(bench_need(b, needed, sizeof needed / sizeof *needed));
    for (int i = 0; i < TYPES; i++) {
        TRY(run(b, types[i], 1));
        TRY(run(b, types[i], TOKENS));
    }
fail:
    return status;
}
