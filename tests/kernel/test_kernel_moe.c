#include "tests/kernel/matrix_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/tile.h"
#include "runtime/ops/ops_internal.h"

enum { EXPERTS = 3, SLOTS = 7, TOKENS = 11, ROWS_MAX = 64, TILES_MAX = 16 };
static const uint32_t slot_of[EXPERTS] = {5, 0, 3}; // scattered; the other slots are full of NaN

struct expert {
    struct matrix gate, up, down;
};

// Experts in a slab, and a batch of rows with its tiles.
struct batch {
    struct moe_slab slab, slabs[MOE_SLABS_MAX]; // slabs[0] is `slab` unless they are spread
    uint32_t slab_count;
    struct expert experts[EXPERTS];
    struct activations x, act;
    uint32_t expert_of[ROWS_MAX], token_of[ROWS_MAX];
    uint32_t row_count;
    struct moe_tiles tiles;
    struct gpu_range row_token;
};

static void expert_make(struct expert *e, uint64_t *seed, struct moe_slab *slab, uint8_t *slot)
{
    matrix_make(&e->gate, seed, slab->gate_up_type, WEIGHTS_RANDOM, slab->inter, slab->hidden);
    matrix_make(&e->up, seed, slab->gate_up_type, WEIGHTS_RANDOM, slab->inter, slab->hidden);
    matrix_make(&e->down, seed, slab->down_type, WEIGHTS_RANDOM, slab->hidden, slab->inter);
    uint64_t tile_bytes = quant_tile_bytes(slab->gate_up_type, QUANT_TILE_ROWS, slab->hidden);
    for (uint32_t i = 0; i < (slab->inter + QUANT_TILE_ROWS - 1) / QUANT_TILE_ROWS; i++) {
        memcpy(slot + 2 * i * tile_bytes, e->gate.tiles + i * tile_bytes, tile_bytes);
        memcpy(slot + (2 * i + 1) * tile_bytes, e->up.tiles + i * tile_bytes, tile_bytes);
    }
    memcpy(slot + slab->down_offset, e->down.tiles, quant_tile_bytes(slab->down_type, slab->hidden, slab->inter));
}

static void slab_make(struct batch *b, uint64_t *seed, enum quant_type gate_up, enum quant_type down, uint32_t hidden,
                      uint32_t inter)
{
    b->slab = (struct moe_slab){.gate_up_type = gate_up, .down_type = down, .hidden = hidden, .inter = inter};
    uint64_t gate_up_bytes = 2 * quant_tile_bytes(gate_up, inter, hidden);
    b->slab.down_offset = (uint32_t)((gate_up_bytes + 255) / 256 * 256);
    b->slab.slot_bytes = (uint32_t)((b->slab.down_offset + quant_tile_bytes(down, hidden, inter) + 4095) / 4096 * 4096);
    uint8_t *bytes = malloc((size_t)SLOTS * b->slab.slot_bytes);
    memset(bytes, 0xFF, (size_t)SLOTS * b->slab.slot_bytes);
    for (uint32_t e = 0; e < EXPERTS; e++)
        expert_make(&b->experts[e], seed, &b->slab, bytes + (size_t)slot_of[e] * b->slab.slot_bytes);
    b->slab.range = buffer_bytes(bytes, (size_t)SLOTS * b->slab.slot_bytes);
    b->slabs[0] = b->slab;
    b->slab_count = 1;
    free(bytes);
}

// Gives each expert a slab of its own, where it has the same slot; the others are full of NaN. The tiles name the
// slabs.
static void slabs_spread(struct batch *b)
{
    size_t slot = b->slab.slot_bytes;
    uint8_t *bytes = malloc(SLOTS * slot), *all = (uint8_t *)buffer_data(b->slab.range);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        memset(bytes, 0xFF, SLOTS * slot);
        memcpy(bytes + slot_of[e] * slot, all + slot_of[e] * slot, slot);
        b->slabs[e] = b->slab;
        b->slabs[e].range = buffer_bytes(bytes, SLOTS * slot);
    }
    b->slab_count = EXPERTS;
    struct moe_tile *tiles = (struct moe_tile *)(void *)buffer_data(b->tiles.range);
    for (size_t i = 0; i < b->tiles.range.bytes / sizeof *tiles; i++)
        for (uint32_t e = 0; e < EXPERTS; e++)
            if (tiles[i].slot == slot_of[e])
                tiles[i].slab = e;
    free(bytes);
}

// The tiles of `size` rows, if experts' rows are cut into runs of at most tile_rows. Returns how many.
static uint32_t add_tiles(struct moe_tile *tiles, const uint32_t *rows_of_expert, uint32_t tile_rows, uint32_t size)
{
    uint32_t count = 0, row = 0;
    for (uint32_t e = 0; e < EXPERTS; e++)
        for (uint32_t left = rows_of_expert[e], rows; left > 0; left -= rows, row += rows) {
            rows = left < tile_rows ? left : tile_rows;
            if (rows == size)
                tiles[count++] = (struct moe_tile){.slot = slot_of[e], .row = row, .row_count = rows};
        }
    return count;
}

// Rows sorted by expert; runs of at most tile_rows become tiles, sorted by their rows.
static void batch_plan(struct batch *b, uint64_t *seed, const uint32_t *rows_of_expert, uint32_t tile_rows)
{
    struct moe_tile tiles[TILES_MAX];
    uint32_t count = 0;
    for (uint32_t size = 1; size <= MOE_TILE_ROWS; size++) {
        b->tiles.counts[size - 1] = add_tiles(tiles + count, rows_of_expert, tile_rows, size);
        count += b->tiles.counts[size - 1];
    }
    for (uint32_t e = 0; e < EXPERTS; e++)
        for (uint32_t i = 0; i < rows_of_expert[e]; i++) {
            b->expert_of[b->row_count] = e;
            b->token_of[b->row_count++] = (uint32_t)random_uniform(seed, 0, TOKENS);
        }
    b->tiles.range = buffer_bytes(tiles, count * sizeof *tiles);
    b->row_token = buffer_bytes(b->token_of, b->row_count * sizeof *b->token_of);
}

static void batch_free(struct batch *b)
{
    for (uint32_t e = 0; e < EXPERTS; e++) {
        matrix_free(&b->experts[e].gate);
        matrix_free(&b->experts[e].up);
        matrix_free(&b->experts[e].down);
    }
    buffers_release();
}

static struct ref_sum dot(const struct matrix *m, size_t row, const double *x)
{
    return ref_row_dot(m->tensor.type, m->tiles, m->tensor.rows, m->tensor.cols, row, x);
}

static void compare_gate_up(const struct batch *b)
{
    double *seen = activations_seen(&b->x, b->slab.gate_up_type);
    for (size_t r = 0; r < b->row_count; r++)
        for (size_t i = 0; i < b->slab.inter; i++) {
            const struct expert *e = &b->experts[b->expert_of[r]];
            const double *x = seen + (size_t)b->token_of[r] * b->slab.hidden;
            assert_sum("moe gate_up", b->slab.gate_up_type, i, r, buffer_data(b->act.f32)[r * b->slab.inter + i],
                       ref_swiglu(dot(&e->gate, i, x), dot(&e->up, i, x)));
        }
    free(seen);
}

static void compare_down(const struct batch *b, struct gpu_range y)
{
    double *seen = activations_seen(&b->act, b->slab.down_type);
    for (size_t r = 0; r < b->row_count; r++)
        for (size_t i = 0; i < b->slab.hidden; i++)
            assert_sum("moe down", b->slab.down_type, i, r, buffer_data(y)[r * b->slab.hidden + i],
                       dot(&b->experts[b->expert_of[r]].down, i, seen + r * b->slab.inter));
    free(seen);
}

static struct gpu_range batch_run(struct ops *ops, const struct batch *b)
{
    struct gpu_range y = buffer_output(4ull * b->row_count * b->slab.hidden);
    struct gpu_command *cmd = command_open();
    op_quantize_q8(ops, cmd, &b->x);
    if (!op_moe_gate_up(ops, cmd, b->slabs, b->slab_count, &b->tiles, b->row_token, &b->x, &b->act))
        op_quantize_q8(ops, cmd, &b->act);
    op_moe_down(ops, cmd, b->slabs, b->slab_count, &b->tiles, &b->act, y);
    command_run(cmd);
    return y;
}

static void expect_moe(enum quant_type gate_up, enum quant_type down, bool q8, uint32_t hidden, uint32_t inter,
                       const uint32_t *rows_of_expert, uint32_t tile_rows)
{
    uint64_t seed = hidden + inter;
    struct batch b = {0};
    slab_make(&b, &seed, gate_up, down, hidden, inter);
    batch_plan(&b, &seed, rows_of_expert, tile_rows);
    b.x = activations_make(&seed, TOKENS, hidden, 0, q8);
    b.act = activations_make(&seed, b.row_count, inter, 0, q8);
    struct gpu_range y = batch_run(mixer_ops, &b);
    compare_gate_up(&b);
    if (q8)
        assert_rounded("moe gate_up", &b.act);
    compare_down(&b, y);
    batch_free(&b);
}

static void moe_agrees_with_reference(void **state)
{
    // Nine tenths of the weights are experts: a wrong slot, tile or row list gives another model.
    (void)state;
    expect_moe(QUANT_Q4_K, QUANT_Q6_K, true, 512, 256, (const uint32_t[]){1, 1, 1}, 1);
    expect_moe(QUANT_Q4_K, QUANT_Q6_K, true, 256, 256, (const uint32_t[]){1, 8, 13}, MOE_TILE_ROWS);
    expect_moe(QUANT_Q5_K, QUANT_Q4_K, true, 256, 256, (const uint32_t[]){3, 0, 9}, MOE_TILE_ROWS);
    expect_moe(QUANT_Q8_0, QUANT_Q8_0, true, 64, 96, (const uint32_t[]){43, 5, 16}, MOE_TILE_ROWS); // tiles in a row
    expect_moe(QUANT_Q8_0, QUANT_Q8_0, true, 64, 96, (const uint32_t[]){2, 2, 7}, MOE_TILE_ROWS);
    expect_moe(QUANT_Q4_K, QUANT_Q5_K, false, 256, 256, (const uint32_t[]){5, 4, 8}, MOE_TILE_ROWS);
    expect_moe(QUANT_BF16, QUANT_BF16, false, 64, 40, (const uint32_t[]){1, 9, 16}, MOE_TILE_ROWS);
    expect_moe(QUANT_F32, QUANT_F16, false, 36, 32, (const uint32_t[]){0, 1, 0}, 1);
}

static void bits_do_not_depend_on_how_rows_are_tiled(void **state)
{
    // Cache and batch decide which rows run together; the text must not change with them.
    enum { HIDDEN = 256, INTER = 256 };
    struct batch one = {0}, eight = {0};
    (void)state;
    const uint32_t rows[EXPERTS] = {4, 1, 8};
    slab_make(&one, &(uint64_t){1}, QUANT_Q4_K, QUANT_Q4_K, HIDDEN, INTER);
    eight = one;
    batch_plan(&one, &(uint64_t){2}, rows, 1);
    batch_plan(&eight, &(uint64_t){2}, rows, MOE_TILE_ROWS);
    one.x = eight.x = activations_make(&(uint64_t){3}, TOKENS, HIDDEN, 0, true);
    one.act = activations_make(&(uint64_t){4}, one.row_count, INTER, 0, true);
    eight.act = activations_make(&(uint64_t){4}, one.row_count, INTER, 0, true);
    struct gpu_range want = batch_run(mixer_ops, &one);
    assert_same_floats("tiles", buffer_data(want), buffer_data(batch_run(mixer_ops, &eight)), one.row_count * HIDDEN);

    struct gpu_caps caps = *mixer_ops->caps; // a list that is longer than a grid
    caps.max_groups_y = 3;
    struct ops ops = *mixer_ops;
    ops.caps = &caps;
    assert_same_floats("grids", buffer_data(want), buffer_data(batch_run(&ops, &one)), one.row_count * HIDDEN);
    batch_free(&one);
}

static void check_slabs(enum quant_type type, bool q8, const struct matmul_tuning *tuning)
{
    enum { HIDDEN = 512, INTER = 256 };
    struct batch b = {0};
    struct ops ops = *mixer_ops;
    ops.tuning.matmul = *tuning;
    ops.tuning.matrix_cores = false;
    slab_make(&b, &(uint64_t){1}, type, type, HIDDEN, INTER);
    batch_plan(&b, &(uint64_t){2}, (const uint32_t[]){4, 1, 8}, MOE_TILE_ROWS);
    b.x = activations_make(&(uint64_t){3}, TOKENS, HIDDEN, 0, q8);
    b.act = activations_make(&(uint64_t){4}, b.row_count, INTER, 0, q8);
    struct ops plain = *mixer_ops;
    plain.tuning.matrix_cores = false;
    struct gpu_range want = batch_run(&plain, &b);
    assert_int_equal(op_moe_slabs_at_once(&ops), MOE_SLABS_MAX);
    assert_same_floats("one slab", buffer_data(want), buffer_data(batch_run(&ops, &b)), b.row_count * HIDDEN);
    slabs_spread(&b);
    assert_same_floats("slabs", buffer_data(want), buffer_data(batch_run(&ops, &b)), b.row_count * HIDDEN);
    if (q8)
        assert_rounded("slabs", &b.act);
    batch_free(&b);
}

static void experts_in_several_slabs_give_the_same_bits(void **state)
{
    // On a card whose slots lie in many buffers one kernel runs the experts of all: each must find its own weights.
    static const struct matmul_tuning tunings[] = {
        {.lanes = 32, .rows_per_lane = 1, .columns = {{{1}, {2}}, {{4}, {2}}}, .slice_columns_max = 4, .slabs = true},
        {.lanes = 8, .rows_per_lane = 4, .columns = {{{2}, {1}}, {{3}, {4}}}, .slabs = true, .split_tiles = true},
    };
    (void)state;
    check_slabs(QUANT_Q4_K, true, &tunings[0]);
    check_slabs(QUANT_Q6_K, true, &tunings[1]);
    check_slabs(QUANT_Q8_0, true, &tunings[1]);
    check_slabs(QUANT_Q5_K, false, &tunings[0]);
    check_slabs(QUANT_BF16, false, &tunings[1]);
}

static void moe_writes_no_other_rows(void **state)
{
    // A batch may hold rows of experts that arrive later.
    enum { HIDDEN = 64, INTER = 64 };
    uint64_t seed = 4;
    struct batch b = {0};
    (void)state;
    slab_make(&b, &seed, QUANT_Q8_0, QUANT_Q8_0, HIDDEN, INTER);
    batch_plan(&b, &seed, (const uint32_t[]){3, 2, 5}, MOE_TILE_ROWS);
    b.x = activations_make(&seed, TOKENS, HIDDEN, 0, false);
    b.act = (struct activations){.n = b.row_count, .cols = INTER, .f32 = buffer_output(4ull * b.row_count * INTER)};
    struct gpu_range y = buffer_output(4ull * b.row_count * HIDDEN);
    struct gpu_command *cmd = command_open();
    const struct moe_tiles first = {.range = b.tiles.range, .counts = {0, 1}}; // the second expert's
    op_moe_gate_up(mixer_ops, cmd, b.slabs, 1, &first, b.row_token, &b.x, &b.act);
    op_moe_down(mixer_ops, cmd, b.slabs, 1, &first, &b.act, y);
    command_run(cmd);
    for (size_t i = 0; i < b.row_count * HIDDEN; i++) {
        assert_int_equal(isnan(buffer_data(b.act.f32)[i]) != 0, i / INTER < 3 || i / INTER >= 5);
        assert_int_equal(isnan(buffer_data(y)[i]) != 0, i / HIDDEN < 3 || i / HIDDEN >= 5);
    }
    batch_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        mixer_unit_test(moe_agrees_with_reference),
        mixer_unit_test(bits_do_not_depend_on_how_rows_are_tiled),
        mixer_unit_test(experts_in_several_slabs_give_the_same_bits),
        mixer_unit_test(moe_writes_no_other_rows),
    };
    return cmocka_run_group_tests(tests, mixer_group_setup, mixer_group_teardown);
}
