// What is particular to matrix cores; the tests of the other kernels run on them, too (MATRIX_CORES).
#include "tests/kernel/matrix_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/ops/coop.h"

// The same product with `ops` as it is and on the other kernels.
static void both_ways(const struct tensor *w, const struct activations *x, struct gpu_range *matrix,
                      struct gpu_range *plain)
{
    struct ops off = *mixer_ops;
    off.tuning.matrix_cores = false;
    *matrix = matmul_run(mixer_ops, w, x);
    *plain = matmul_run(&off, w, x);
}

static void self_test_passes_here(void **state)
{
    // A self-test that fails on a right device takes away half of its speed.
    (void)state;
    assert_true(coop_is_right(mixer_ops));
    assert_true(mixer_ops->tuning.matrix_cores && mixer_ops->prefill); // as before
}

static void self_test_notices_wrong_products(void **state)
{
    // Drivers have reported products that they cannot do: a wrong answer must not pass. Here the kernel is told of half
    // as many lanes per subgroup as there are, so that half of the products are nobody's.
    struct gpu_caps caps = *mixer_ops->caps;
    struct ops wrong = *mixer_ops;
    (void)state;
    caps.matrix_subgroup_size /= 2;
    wrong.caps = &caps;
    assert_false(coop_is_right(&wrong));
}

static void attention_self_test_passes_here(void **state)
{
    // A self-test that fails on a right device makes prefills of long documents slow.
    (void)state;
    assert_true(coop_attention_is_right(mixer_ops));
    assert_true(mixer_ops->tuning.matrix_cores && mixer_ops->prefill); // as before
}

static void attention_self_test_notices_wrong_products(void **state)
{
    // As above; a prompt read with wrong attention is not remembered, and nothing else shows it.
    struct gpu_caps caps = *mixer_ops->caps;
    struct ops wrong = *mixer_ops;
    const struct attention_shape shape = {.heads = 8, .kv_heads = 2, .head_dim = 64, .rotary_scale = 1, .kv = KV_F16};
    (void)state;
    caps.matrix_subgroup_size /= 2;
    wrong.caps = &caps;
    assert_true(coop_attends(&wrong, &shape)); // else it is the other kernel that answers
    assert_false(coop_attention_is_right(&wrong));
}

static void attention_can_do_without(void **state)
{
    // A driver that gets only attention wrong loses matrix cores only there.
    const struct attention_shape shape = {.heads = 8, .kv_heads = 2, .head_dim = 64, .rotary_scale = 1, .kv = KV_F16};
    struct ops off = *mixer_ops;
    (void)state;
    assert_true(coop_attends(&off, &shape));
    tuning_without(&off.tuning, TUNING_PATH_MATRIX_ATTENTION);
    assert_false(coop_attends(&off, &shape));
    assert_true(tuning_paths(&off.tuning) & TUNING_PATH_MATRIX_CORES);
    assert_true(coop_attention_is_right(&off)); // it was the choice, not the device
    assert_false(off.tuning.matrix_attention);
}

static void rounding_is_that_of_f16(void **state)
{
    // The stated price of matrix cores: about 3e-4 of a random product's norm, and not less, or they were not used.
    enum { ROWS = 96, COLS = 2048, N = 40 };
    (void)state;
    for (int type = QUANT_F16; type < QUANT_TYPE_COUNT; type++) {
        uint64_t seed = 21;
        struct matrix m;
        matrix_make(&m, &seed, (enum quant_type)type, WEIGHTS_RANDOM, ROWS, COLS);
        struct activations x = activations_make(&seed, N, COLS, 0, !quant_format_get((enum quant_type)type)->is_float);
        activations_quantize(&x);
        struct gpu_range matrix, plain;
        double error = 0, norm = 0;
        both_ways(&m.tensor, &x, &matrix, &plain);
        for (size_t i = 0; i < ROWS * N; i++) {
            error += pow((double)buffer_data(matrix)[i] - (double)buffer_data(plain)[i], 2);
            norm += pow((double)buffer_data(plain)[i], 2);
        }
        print_message("%s on matrix cores: off by %.2e\n", quant_format_get((enum quant_type)type)->name,
                      sqrt(error / norm));
        assert_true(error > 0 && sqrt(error / norm) < 1e-3);
        matrix_free(&m);
        buffers_release();
    }
}

static void decoding_and_exact_matrices_stay_off_matrix_cores(void **state)
{
    // A router that rounds differently chooses other experts; a decode step's bits must not depend on how prompts ran.
    uint64_t seed = 22;
    struct matrix m;
    struct gpu_range matrix, plain;
    (void)state;
    matrix_make(&m, &seed, QUANT_BF16, WEIGHTS_RANDOM, 70, 256);
    struct activations x = activations_make(&seed, 33, 256, 0, false);
    m.tensor.exact = true;
    both_ways(&m.tensor, &x, &matrix, &plain);
    assert_same_floats("exact", buffer_data(matrix), buffer_data(plain), 70 * 33);
    m.tensor.exact = false;
    ops_set_prefill(mixer_ops, false);
    both_ways(&m.tensor, &x, &matrix, &plain);
    ops_set_prefill(mixer_ops, true);
    assert_same_floats("decode", buffer_data(matrix), buffer_data(plain), 70 * 33);
    both_ways(&m.tensor, &x, &matrix, &plain);
    assert_memory_not_equal(buffer_data(matrix), buffer_data(plain), 4 * 70 * 33);
    matrix_free(&m);
}

static void activations_of_any_size_keep_their_digits(void **state)
{
    // f16 ends at 65504 and has few digits below 1e-4: neither an outlier nor a faint layer may turn into zeros or NaN.
    static const float factors[] = {0x1p-60f, 0x1p-20f, 0x1p+20f, 0x1p+60f};
    enum { ROWS = 64, COLS = 96, N = 3 };
    uint64_t seed = 23;
    struct matrix m;
    (void)state;
    matrix_make(&m, &seed, QUANT_Q8_0, WEIGHTS_RANDOM, ROWS, COLS);
    for (unsigned q8 = 0; q8 < 2; q8++) {
        struct activations x = activations_make(&seed, N, COLS, 0, q8);
        activations_quantize(&x);
        struct gpu_range want = matmul_run(mixer_ops, &m.tensor, &x);
        for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
            struct activations scaled = x;
            scaled.f32 = buffer_floats(buffer_data(x.f32), N * COLS);
            for (size_t j = 0; j < N * COLS; j++)
                buffer_data(scaled.f32)[j] *= factors[i];
            activations_quantize(&scaled);
            struct gpu_range got = matmul_run(mixer_ops, &m.tensor, &scaled);
            for (size_t j = 0; j < ROWS * N; j++)
                assert_true(buffer_data(got)[j] == buffer_data(want)[j] * factors[i]);
        }
    }
    matrix_free(&m);
}

static void choices_are_named_and_missing_cores_refused(void **state)
{
    // Reports and saved states say how prompts were computed.
    struct ops off = *mixer_ops;
    (void)state;
    assert_memory_equal(ops_matrix_path(mixer_ops), "matrix cores ", 13);
    off.tuning.matrix_cores = false;
    assert_string_equal(ops_matrix_path(&off), "no matrix cores");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        mixer_unit_test(self_test_passes_here),
        mixer_unit_test(self_test_notices_wrong_products),
        mixer_unit_test(attention_self_test_passes_here),
        mixer_unit_test(attention_self_test_notices_wrong_products),
        mixer_unit_test(attention_can_do_without),
        mixer_unit_test(rounding_is_that_of_f16),
        mixer_unit_test(decoding_and_exact_matrices_stay_off_matrix_cores),
        mixer_unit_test(activations_of_any_size_keep_their_digits),
        mixer_unit_test(choices_are_named_and_missing_cores_refused),
    };
    return cmocka_run_group_tests(tests, mixer_group_setup, mixer_group_teardown);
}
