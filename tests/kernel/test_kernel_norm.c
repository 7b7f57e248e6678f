#include "tests/kernel/mixer_fixture.h"

#include <math.h>
#include <stdlib.h>

#include "tests/ref/ref_math.h"
#include "tests/ref/ref_norm.h"

static void expect_norm(uint32_t n, uint32_t cols, double magnitude)
{
    uint64_t seed = 1000 * n + cols;
    struct gpu_range x = buffer_random(&seed, n * cols, -magnitude, magnitude);
    struct gpu_range w = buffer_random(&seed, cols, -1.5, 1.5);
    struct activations y = {.n = n, .cols = cols, .f32 = buffer_output(4 * n * cols)};
    struct gpu_command *cmd = command_open();
    op_norm_rms(mixer_ops, cmd, x, w, 1e-6f, &y);
    command_run(cmd);
    double *want = buffer_doubles(x, n * cols);
    for (uint32_t i = 0; i < n; i++)
        ref_norm_rms(want + i * cols, buffer_data(w), 1e-6, cols, want + i * cols);
    assert_near("norm", buffer_data(y.f32), want, n * cols, 1e-9, 2e-6);
    free(want);
}

static void norm_rms_agrees_with_reference(void **state)
{
    // Every layer starts with this norm: a wrong row or tail would spoil all that follows.
    static const uint32_t cols[] = {4, 32, 60, 64, 128, 252, 256, 260, 2048, 4100};
    (void)state;
    for (size_t i = 0; i < sizeof cols / sizeof *cols; i++) {
        expect_norm(1, cols[i], 1);
        expect_norm(3, cols[i], 100);
    }
    expect_norm(200, 64, 1);
}

static void norm_rms_of_tiny_and_huge_rows(void **state)
{
    // A residual stream with outliers, or a padding row of zeros, must not give infinities.
    (void)state;
    expect_norm(2, 256, 1e-5);
    expect_norm(2, 256, 1e15);
    expect_norm(2, 256, 0);
}

static void norm_rms_fills_the_8_bit_form(void **state)
{
    // The integer kernels read this form; a stale one would be the previous layer's input.
    (void)state;
    uint64_t seed = 5;
    uint32_t values = 3 * 96;
    struct gpu_range x = buffer_random(&seed, values, -1, 1), w = buffer_random(&seed, 96, -1, 1);
    struct activations y = {.n = 3,
                            .cols = 96,
                            .f32 = buffer_output(4 * values),
                            .q8 = buffer_output(values),
                            .q8_scales = buffer_output(8 * values / 32)};
    struct gpu_command *cmd = command_open();
    op_norm_rms(mixer_ops, cmd, x, w, 1e-6f, &y);
    command_run(cmd);
    assert_rounded("norm", &y);
}

static void expect_gated_add(uint32_t n, uint32_t cols, uint32_t stride, double gate_magnitude)
{
    uint64_t seed = n + cols;
    struct gpu_range y = buffer_random(&seed, n * cols, -1, 1), h = buffer_random(&seed, n * cols, -1, 1);
    struct gpu_range gate = buffer_random(&seed, (n - 1) * stride + 1, -gate_magnitude, gate_magnitude);
    double *want = buffer_doubles(h, n * cols);
    for (uint32_t i = 0; i < n * cols; i++)
        want[i] += ref_sigmoid((double)buffer_data(gate)[i / cols * stride]) * (double)buffer_data(y)[i];
    struct gpu_command *cmd = command_open();
    op_gated_add(mixer_ops, cmd, y, gate, stride, n, cols, h);
    command_run(cmd);
    assert_near("gated add", buffer_data(h), want, n * cols, 2e-7, 1e-6);
    free(want);
}

static void gated_add_agrees_with_reference(void **state)
{
    // The shared expert's share of every token goes through this sum.
    (void)state;
    expect_gated_add(1, 4, 1, 3);
    expect_gated_add(3, 64, 1, 3);
    expect_gated_add(5, 260, 32, 3);
    expect_gated_add(70, 2048, 7, 200); // saturated gates
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        mixer_unit_test(norm_rms_agrees_with_reference),
        mixer_unit_test(norm_rms_of_tiny_and_huge_rows),
        mixer_unit_test(norm_rms_fills_the_8_bit_form),
        mixer_unit_test(gated_add_agrees_with_reference),
    };
    return cmocka_run_group_tests(tests, mixer_group_setup, mixer_group_teardown);
}
