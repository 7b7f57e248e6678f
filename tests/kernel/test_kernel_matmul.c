#include "tests/kernel/matrix_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/tile.h"
#include "runtime/ops/ops_internal.h"

static void compare(const char *what, const struct matrix *m, const struct activations *x, struct gpu_range y)
{
    const struct tensor *t = &m->tensor;
    double *seen = activations_seen(x, t->type);
    for (size_t row = 0; row < t->rows; row++)
        for (size_t i = 0; i < x->n; i++)
            assert_sum(what, t->type, row, i, buffer_data(y)[i * t->rows + row],
                       ref_row_dot(t->type, m->tiles, t->rows, t->cols, row, seen + i * x->cols));
    free(seen);
}

static void expect_matmul(enum quant_type type, bool q8, enum weight_kind kind, uint32_t rows, uint32_t cols,
                          uint32_t n, float outlier)
{
    uint64_t seed = rows * 1000003u + cols * 1009u + n * 10u + (unsigned)type;
    struct matrix m;
    matrix_make(&m, &seed, type, kind, rows, cols);
    struct activations x = activations_make(&seed, n, cols, outlier, q8);
    activations_quantize(&x);
    compare("matmul", &m, &x, matmul_run(mixer_ops, &m.tensor, &x));
    matrix_free(&m);
    buffers_release();
}

// Calls `check` for every format and for both forms of x where there are two.
static void for_each_kernel(void (*check)(enum quant_type type, bool q8))
{
    for (int type = 0; type < QUANT_TYPE_COUNT; type++) {
        check((enum quant_type)type, false);
        if (!quant_format_get((enum quant_type)type)->is_float)
            check((enum quant_type)type, true);
    }
}

static void check_shapes(enum quant_type type, bool q8)
{
    static const uint32_t rows[] = {1, 31, 32, 33, 257};
    uint32_t step = quant_tile_step_cols(type);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        expect_matmul(type, q8, WEIGHTS_RANDOM, rows[i], step, 1, 0);
        expect_matmul(type, q8, WEIGHTS_RANDOM, rows[i], 3 * step, 5, 0);
    }
    expect_matmul(type, q8, WEIGHTS_RANDOM, 33, 17 * step, 3, 0); // floats: a short last step
}

static void matmul_agrees_with_reference_at_all_shapes(void **state)
{
    // A wrong row at the edge of a tile or a wrong tail would spoil every layer.
    (void)state;
    for_each_kernel(check_shapes);
}

static void check_columns(enum quant_type type, bool q8)
{
    static const uint32_t counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 33};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        expect_matmul(type, q8, WEIGHTS_RANDOM, 33, 256, counts[i], 0);
}

static void matmul_agrees_with_reference_for_all_column_counts(void **state)
{
    // Prompts have any length, and several sessions decode together.
    (void)state;
    for_each_kernel(check_columns);
}

static void check_model_row(enum quant_type type, bool q8)
{
    expect_matmul(type, q8, WEIGHTS_RANDOM, 40, 2048, 1, 0);
    expect_matmul(type, q8, WEIGHTS_RANDOM, 40, 4096, 6, 0);
}

static void matmul_agrees_with_reference_for_long_rows(void **state)
{
    // Rounding errors must not add up over the model's row lengths.
    (void)state;
    for_each_kernel(check_model_row);
}

static void check_worst_case(enum quant_type type, bool q8)
{
    for (int kind = 0; kind < WEIGHT_KIND_COUNT; kind++) {
        expect_matmul(type, q8, (enum weight_kind)kind, 33, 512, 2, 0);
        expect_matmul(type, q8, (enum weight_kind)kind, 33, 512, 2, 3000);
        expect_matmul(type, q8, (enum weight_kind)kind, 5, 256, 1, -1e-12f);
    }
}

static void matmul_agrees_with_reference_for_worst_case_values(void **state)
{
    // Extreme scales and outliers in the activations are where packed arithmetic overflows.
    (void)state;
    for_each_kernel(check_worst_case);
}

static void check_constant_rows(enum quant_type type, bool q8)
{
    uint64_t seed = 11;
    struct matrix m;
    matrix_make(&m, &seed, type, WEIGHTS_MAX, 2, 2048);
    struct activations x = activations_make(&seed, 1, 2048, 0, q8);
    for (size_t i = 0; i < 2048; i++)
        buffer_data(x.f32)[i] = 1;
    activations_quantize(&x);
    compare("constant rows", &m, &x, matmul_run(mixer_ops, &m.tensor, &x));
    matrix_free(&m);
    buffers_release();
}

static void matmul_of_constant_rows_does_not_drift(void **state)
{
    // Adding thousands of equal numbers rounds in the same direction every time: the worst case for a plain sum.
    (void)state;
    for_each_kernel(check_constant_rows);
}

// Row i of x as activations of their own.
static struct activations one_row(const struct activations *x, uint32_t i)
{
    struct activations row = {.n = 1, .cols = x->cols};
    row.f32 = buffer_floats(buffer_data(x->f32) + (size_t)i * x->cols, x->cols);
    if (x->q8.bytes) {
        row.q8 = buffer_bytes((const char *)buffer_data(x->q8) + (size_t)i * x->cols, x->cols);
        row.q8_scales = buffer_floats(buffer_data(x->q8_scales) + (size_t)i * x->cols / 16, x->cols / 16);
    }
    return row;
}

static void check_column_independence(enum quant_type type, bool q8)
{
    uint64_t seed = 5;
    struct matrix m;
    matrix_make(&m, &seed, type, WEIGHTS_RANDOM, 70, 1024);
    struct activations x = activations_make(&seed, 9, 1024, 0, q8);
    activations_quantize(&x);
    struct gpu_range together = matmul_run(mixer_ops, &m.tensor, &x);
    for (uint32_t i = 0; i < x.n; i++) {
        struct activations row = one_row(&x, i);
        assert_same_floats("columns", buffer_data(together) + i * 70u,
                           buffer_data(matmul_run(mixer_ops, &m.tensor, &row)), 70);
    }
    matrix_free(&m);
    buffers_release();
}

static void bits_do_not_depend_on_the_other_columns(void **state)
{
    // A session's answer must not change because another one decodes in the same batch.
    (void)state;
    for_each_kernel(check_column_independence);
}

static void expect_same_with(const struct matmul_tuning *tuning, const struct matrix *m, const struct activations *x,
                             struct gpu_range want)
{
    struct ops ops = *mixer_ops;
    ops.tuning.matmul = *tuning;
    assert_same_floats("tuning", buffer_data(want), buffer_data(matmul_run(&ops, &m->tensor, x)),
                       (size_t)x->n * m->tensor.rows);
}

static void check_tunings(enum quant_type type, bool q8)
{
    static const struct matmul_tuning tunings[] = {
        {.lanes = 32, .rows_per_lane = 1, .columns = {{{2}}, {{2}}}, .slice_columns_max = 2, .integer_dot = true},
        {.lanes = 64, .rows_per_lane = 1, .columns = {{{4}}, {{8}}}, .integer_dot = true, .unrolled = true},
        {.lanes = 16, .rows_per_lane = 4, .columns = {{{1}}, {{1}}}, .slice_columns_max = 1},
        {.lanes = 8, .rows_per_lane = 4, .columns = {{{2}}, {{4}}}, .read_ahead = true},
        {.lanes = 8, .rows_per_lane = 4, .columns = {{{2}}, {{4}}}, .stage_words = 400, .stage_lanes = 64},
        {.lanes = 64, .rows_per_lane = 2, .columns = {{{2}}, {{3}}}, .stage_words = 4000, .stage_lanes = 16},
    };
    uint64_t seed = 6;
    struct matrix m;
    matrix_make(&m, &seed, type, WEIGHTS_RANDOM, 97, 512);
    struct activations x = activations_make(&seed, 11, 512, 0, q8);
    activations_quantize(&x);
    struct gpu_range want = matmul_run(mixer_ops, &m.tensor, &x);
    for (size_t i = 0; i < sizeof tunings / sizeof *tunings; i++)
        expect_same_with(&tunings[i], &m, &x, want);
    matrix_free(&m);
    buffers_release();
}

static void bits_do_not_depend_on_the_tuning(void **state)
{
    // The variants that only GPUs choose must compute what is tested here on the software driver.
    (void)state;
    for_each_kernel(check_tunings);
}

static void expect_gated(enum quant_type type, bool q8, uint32_t rows, uint32_t n)
{
    enum { COLS = 256 };
    uint64_t seed = rows + n;
    struct matrix m;
    matrix_make(&m, &seed, type, WEIGHTS_RANDOM, rows, COLS);
    struct activations x = activations_make(&seed, n, COLS, 0, q8);
    activations_quantize(&x);
    struct gpu_range gate = buffer_random(&seed, n, -3, 3), h = buffer_random(&seed, n * rows, -1, 1);
    struct gpu_range want = buffer_floats(buffer_data(h), n * rows), y = matmul_run(mixer_ops, &m.tensor, &x);
    if (rows > 64)
        matrix_split(&m, (const uint32_t[]){64}, 2);
    struct gpu_command *cmd = command_open();
    op_gated_add(mixer_ops, cmd, y, gate, 1, n, rows, want);
    op_matmul_gated(mixer_ops, cmd, &m.tensor, &x, gate, buffer_output(4 * n * rows), h);
    command_run(cmd);
    assert_same_floats("gated", buffer_data(want), buffer_data(h), n * rows);
    matrix_free(&m);
    buffers_release();
}

static void gated_products_have_the_bits_of_product_and_sum(void **state)
{
    // The shared expert's part of every token: a session would answer differently where the two are separate kernels.
    (void)state;
    expect_gated(QUANT_Q4_K, true, 32, 1);
    expect_gated(QUANT_Q6_K, true, 260, 5);
    expect_gated(QUANT_Q8_0, false, 100, 9);
    expect_gated(QUANT_BF16, false, 68, 3);
}

static void matmul_in_parts_and_in_small_grids_gives_the_same_bits(void **state)
{
    // The head is larger than one binding on many devices, and long prompts need more blocks than one grid has.
    uint64_t seed = 7;
    struct matrix m;
    (void)state;
    matrix_make(&m, &seed, QUANT_Q4_K, WEIGHTS_RANDOM, 200, 256);
    struct activations x = activations_make(&seed, 35, 256, 0, true);
    activations_quantize(&x);
    struct gpu_range whole = matmul_run(mixer_ops, &m.tensor, &x);
    matrix_split(&m, (const uint32_t[]){64, 32}, 3);
    assert_same_floats("parts", buffer_data(whole), buffer_data(matmul_run(mixer_ops, &m.tensor, &x)), 35 * 200);

    struct gpu_caps caps = *mixer_ops->caps;
    struct ops ops = *mixer_ops;
    ops.caps = &caps;
    caps.max_groups_y = 2;
    assert_same_floats("grids", buffer_data(whole), buffer_data(matmul_run(&ops, &m.tensor, &x)), 35 * 200);
    matrix_free(&m);
}

static void matmul_writes_its_rows_only_and_accumulates(void **state)
{
    // Projections share one wide row of y, and residuals are added in place.
    enum { ROWS = 45, STRIDE = 60, N = 6 };
    uint64_t seed = 8;
    struct matrix m;
    (void)state;
    matrix_make(&m, &seed, QUANT_BF16, WEIGHTS_RANDOM, ROWS, 64);
    struct activations x = activations_make(&seed, N, 64, 0, false);
    struct gpu_range once = buffer_output(4 * N * STRIDE), twice = buffer_output(4 * N * STRIDE);
    struct gpu_command *cmd = command_open();
    op_matmul(mixer_ops, cmd, &m.tensor, &x, once, STRIDE, false);
    op_matmul(mixer_ops, cmd, &m.tensor, &x, twice, STRIDE, false);
    op_matmul(mixer_ops, cmd, &m.tensor, &x, twice, STRIDE, true);
    command_run(cmd);
    for (size_t i = 0; i < N * STRIDE; i++) {
        float a = buffer_data(once)[i], b = buffer_data(twice)[i];
        assert_true(i % STRIDE < ROWS ? b == 2 * a : isnan(a) && isnan(b));
    }
    matrix_free(&m);
}

// ||y - exact|| / ||exact|| of one product with 8-bit activations, random weights.
static double error_of_eight_bits(enum quant_type type)
{
    enum { ROWS = 64, COLS = 2048 };
    uint64_t seed = 9;
    struct matrix m;
    matrix_make(&m, &seed, type, WEIGHTS_RANDOM, ROWS, COLS);
    struct activations x = activations_make(&seed, 1, COLS, 0, true);
    activations_quantize(&x);
    struct gpu_range y = matmul_run(mixer_ops, &m.tensor, &x);
    double *exact = buffer_doubles(x.f32, COLS), error = 0, norm = 0;
    for (size_t row = 0; row < ROWS; row++) {
        double want = ref_row_dot(type, m.tiles, ROWS, COLS, row, exact).value;
        error += pow((double)buffer_data(y)[row] - want, 2);
        norm += want * want;
    }
    free(exact);
    matrix_free(&m);
    return sqrt(error / norm);
}

static void eight_bit_activations_cost_little_accuracy(void **state)
{
    // The integer kernels are the default: their error against exact activations must stay below 1 %.
    (void)state;
    for (enum quant_type type = QUANT_Q8_0; type <= QUANT_Q6_K; type++) {
        double error = error_of_eight_bits(type);
        print_message("%s, 8-bit activations: off by %.2e\n", quant_format_get(type)->name, error);
        assert_true(error < 0.01);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        mixer_unit_test(matmul_agrees_with_reference_at_all_shapes),
        mixer_unit_test(matmul_agrees_with_reference_for_all_column_counts),
        mixer_unit_test(matmul_agrees_with_reference_for_long_rows),
        mixer_unit_test(matmul_agrees_with_reference_for_worst_case_values),
        mixer_unit_test(matmul_of_constant_rows_does_not_drift),
        mixer_unit_test(bits_do_not_depend_on_the_other_columns),
        mixer_unit_test(bits_do_not_depend_on_the_tuning),
        mixer_unit_test(gated_products_have_the_bits_of_product_and_sum),
        mixer_unit_test(matmul_in_parts_and_in_small_grids_gives_the_same_bits),
        mixer_unit_test(matmul_writes_its_rows_only_and_accumulates),
        mixer_unit_test(eight_bit_activations_cost_little_accuracy),
    };
    return cmocka_run_group_tests(tests, mixer_group_setup, mixer_group_teardown);
}
