#include "tests/kernel/matrix_fixture.h"

#include <stdlib.h>
#include <string.h>

#include "quant/tile.h"
#include "runtime/ops/ops_internal.h"

enum { ROWS = QUANT_TILE_ROWS };

// A gate and an up matrix, each packed on its own for the reference, and as a pair on the device.
struct pair {
    struct matrix gate, up;
    struct tensor tensor;
    struct tensor_part parts[MATRIX_PARTS_MAX];
};

static void pair_make(struct pair *p, uint64_t *seed, enum quant_type type, uint32_t inter, uint32_t cols,
                      const uint32_t *part_rows, uint32_t part_count)
{
    matrix_make(&p->gate, seed, type, WEIGHTS_RANDOM, inter, cols);
    matrix_make(&p->up, seed, type, WEIGHTS_RANDOM, inter, cols);
    uint32_t tiles = (inter + ROWS - 1) / ROWS;
    uint64_t tile_bytes = quant_tile_bytes(type, ROWS, cols);
    uint8_t *bytes = malloc(2 * tiles * tile_bytes);
    for (uint32_t i = 0; i < tiles; i++) {
        memcpy(bytes + 2 * i * tile_bytes, p->gate.tiles + i * tile_bytes, tile_bytes);
        memcpy(bytes + (2 * i + 1) * tile_bytes, p->up.tiles + i * tile_bytes, tile_bytes);
    }
    p->tensor = (struct tensor){
        .type = type, .rows = 2 * tiles * ROWS, .cols = cols, .part_count = part_count, .parts = p->parts};
    for (uint32_t i = 0, row0 = 0; i < part_count; row0 += p->parts[i++].rows) {
        uint32_t rows = i + 1 < part_count ? part_rows[i] : p->tensor.rows - row0;
        p->parts[i] =
            (struct tensor_part){.range = buffer_bytes(bytes + row0 / ROWS * tile_bytes, rows / ROWS * tile_bytes),
                                 .row0 = row0,
                                 .rows = rows};
    }
    free(bytes);
}

static void pair_free(struct pair *p)
{
    matrix_free(&p->gate);
    matrix_free(&p->up);
}

static struct ref_sum pair_reference(const struct pair *p, size_t row, const double *x)
{
    const struct tensor *t = &p->gate.tensor;
    return ref_swiglu(ref_row_dot(t->type, p->gate.tiles, t->rows, t->cols, row, x),
                      ref_row_dot(t->type, p->up.tiles, t->rows, t->cols, row, x));
}

static void expect_gate_up(enum quant_type type, bool q8, uint32_t inter, uint32_t cols, uint32_t n)
{
    uint64_t seed = inter * 1000u + n;
    struct pair p;
    pair_make(&p, &seed, type, inter, cols, NULL, 1);
    struct activations x = activations_make(&seed, n, cols, 0, q8);
    struct activations y = {.n = n, .cols = inter, .f32 = buffer_output(4ull * n * inter)};
    struct gpu_command *cmd = command_open();
    op_quantize_q8(mixer_ops, cmd, &x);
    op_gate_up(mixer_ops, cmd, &p.tensor, inter, &x, &y);
    command_run(cmd);
    double *seen = activations_seen(&x, type);
    for (size_t row = 0; row < inter; row++)
        for (size_t i = 0; i < n; i++)
            assert_sum("gate_up", type, row, i, buffer_data(y.f32)[i * inter + row],
                       pair_reference(&p, row, seen + i * cols));
    free(seen);
    pair_free(&p);
    buffers_release();
}

static void gate_up_agrees_with_reference(void **state)
{
    // The shared expert sees every token: a gate row paired with another up row would spoil every layer.
    static const uint32_t inters[] = {1, 31, 32, 33, 160};
    (void)state;
    for (size_t i = 0; i < sizeof inters / sizeof *inters; i++) {
        expect_gate_up(QUANT_Q4_K, true, inters[i], 512, 1);
        expect_gate_up(QUANT_Q6_K, true, inters[i], 256, 5);
        expect_gate_up(QUANT_BF16, false, inters[i], 40, 3);
        expect_gate_up(QUANT_F32, false, inters[i], 12, 1);
        expect_gate_up(QUANT_Q5_K, false, inters[i], 256, 2);
        expect_gate_up(QUANT_Q8_0, true, inters[i], 96, 9);
    }
}

static void expect_rounded(const struct matmul_tuning *tuning, enum quant_type type, uint32_t inter, uint32_t n)
{
    enum { COLS = 512 };
    uint64_t seed = inter * 1000u + n;
    struct ops ops = *mixer_ops;
    struct pair p;
    if (tuning)
        ops.tuning.matmul = *tuning;
    pair_make(&p, &seed, type, inter, COLS, NULL, 1);
    struct activations x = activations_make(&seed, n, COLS, 0, true);
    struct activations y = activations_make(&seed, n, inter, 0, true),
                       want = activations_make(&seed, n, inter, 0, false);
    activations_quantize(&x);
    struct gpu_command *cmd = command_open();
    op_gate_up(&ops, cmd, &p.tensor, inter, &x, &y);
    op_gate_up(mixer_ops, cmd, &p.tensor, inter, &x, &want);
    command_run(cmd);
    assert_same_floats("gate_up", buffer_data(y.f32), buffer_data(want.f32), (size_t)n * inter);
    assert_rounded("gate_up", &y);
    pair_free(&p);
    buffers_release();
}

static void gate_up_rounds_like_the_kernel_for_that(void **state)
{
    // The down projection would multiply other numbers than were computed: in some blocks, on some devices.
    static const struct matmul_tuning tunings[] = {
        {.lanes = 32, .rows_per_lane = 1, .columns = {{{0}}, {{0}, {2}}}, .slice_columns_max = 2, .integer_dot = true},
        {.lanes = 64, .rows_per_lane = 1, .columns = {{{0}}, {{0}, {4}}}, .integer_dot = true, .unrolled = true},
        {.lanes = 64, .rows_per_lane = 2, .columns = {{{0}}, {{0}, {1}}}, .slice_columns_max = 1},
        {.lanes = 8, .rows_per_lane = 4, .columns = {{{0}}, {{0}, {1, 3}}}},
        {.lanes = 8, .rows_per_lane = 4, .columns = {{{0}}, {{0}, {1, 4}}}, .stage_words = 400, .stage_lanes = 64},
    };
    static const enum quant_type types[] = {QUANT_Q4_K, QUANT_Q6_K, QUANT_Q8_0};
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        expect_rounded(NULL, types[i], 32, 1);
        expect_rounded(NULL, types[i], 288, 1);
        expect_rounded(NULL, types[i], 320, 11);
    }
    for (size_t i = 0; i < sizeof tunings / sizeof *tunings; i++) {
        expect_rounded(&tunings[i], types[i % 3], 32, 1);
        expect_rounded(&tunings[i], types[i % 3], 288, 5);
    }
}

static void gate_up_in_parts_gives_the_same_bits_and_fills_the_8_bit_form(void **state)
{
    // On devices with small bindings the pair lies in parts; the following down projection reads the 8-bit form.
    enum { INTER = 96, COLS = 64, N = 3 };
    uint64_t seed = 3;
    struct pair whole, parts;
    (void)state;
    pair_make(&whole, &(uint64_t){77}, QUANT_Q8_0, INTER, COLS, NULL, 1);
    pair_make(&parts, &(uint64_t){77}, QUANT_Q8_0, INTER, COLS, (const uint32_t[]){128}, 2);
    struct activations x = activations_make(&seed, N, COLS, 0, true);
    activations_quantize(&x);
    struct activations a = activations_make(&seed, N, INTER, 0, true), b = activations_make(&seed, N, INTER, 0, true);
    struct gpu_command *cmd = command_open();
    op_gate_up(mixer_ops, cmd, &whole.tensor, INTER, &x, &a);
    op_gate_up(mixer_ops, cmd, &parts.tensor, INTER, &x, &b);
    command_run(cmd);
    assert_same_floats("gate_up", buffer_data(a.f32), buffer_data(b.f32), N * INTER);
    assert_memory_equal(buffer_data(a.q8), buffer_data(b.q8), N * INTER);
    assert_rounded("whole", &a);
    assert_rounded("parts", &b);
    x.q8 = (struct gpu_range){0}; // then a kernel of its own rounds
    struct activations c = activations_make(&seed, N, INTER, 0, true);
    cmd = command_open();
    op_gate_up(mixer_ops, cmd, &parts.tensor, INTER, &x, &c);
    command_run(cmd);
    assert_rounded("of f32", &c);
    pair_free(&whole);
    pair_free(&parts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        mixer_unit_test(gate_up_agrees_with_reference),
        mixer_unit_test(gate_up_rounds_like_the_kernel_for_that),
        mixer_unit_test(gate_up_in_parts_gives_the_same_bits_and_fills_the_8_bit_form),
    };
    return cmocka_run_group_tests(tests, mixer_group_setup, mixer_group_teardown);
}
