#include "tests/kernel/mixer_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ref/ref_moe.h"

static void expect_route(struct gpu_range logits, uint32_t n, uint32_t experts, uint32_t top_k, bool renormalise)
{
    struct gpu_range ids = buffer_output(4 * n * top_k), weights = buffer_output(4 * n * top_k);
    struct gpu_command *cmd = command_open();
    op_moe_route(mixer_ops, cmd, logits, n, experts, top_k, renormalise, ids, weights);
    command_run(cmd);
    double *row = buffer_doubles(logits, n * experts), want[32];
    uint32_t want_ids[32];
    for (uint32_t t = 0; t < n; t++) {
        ref_moe_route(row + t * experts, experts, top_k, renormalise, want_ids, want);
        assert_memory_equal(buffer_data(ids) + t * top_k, want_ids, 4 * top_k);
        assert_near("weights", buffer_data(weights) + t * top_k, want, top_k, 1e-12, 3e-6);
    }
    free(row);
}

static void expect_random_route(uint32_t n, uint32_t experts, uint32_t top_k, double magnitude)
{
    uint64_t seed = experts * 100 + top_k;
    struct gpu_range logits = buffer_random(&seed, n * experts, -magnitude, magnitude);
    expect_route(logits, n, experts, top_k, true);
    expect_route(logits, n, experts, top_k, false);
}

static void route_agrees_with_reference(void **state)
{
    // A wrong expert or weight changes the answer without any error message.
    (void)state;
    expect_random_route(1, 1, 1, 1);
    expect_random_route(3, 2, 1, 5);
    expect_random_route(3, 8, 8, 5);
    expect_random_route(3, 33, 32, 5);
    expect_random_route(3, 63, 10, 5);
    expect_random_route(3, 64, 10, 5);
    expect_random_route(3, 65, 10, 5);
    expect_random_route(40, 512, 10, 5);
    expect_random_route(3, 1024, 32, 5);
    expect_random_route(3, 1023, 7, 80); // large logits
}

static void route_breaks_ties_by_index(void **state)
{
    // The same input must pick the same experts on every device: equal logits go to the lower index.
    (void)state;
    static float equal[512], steps[512], falling[512];
    for (uint32_t e = 0; e < 512; e++) {
        equal[e] = 1.5f;
        steps[e] = (float)(e * 37 % 5);
        falling[e] = -(float)(e / 64);
    }
    expect_route(buffer_floats(equal, 512), 1, 512, 10, true);
    expect_route(buffer_floats(equal, 512), 1, 512, 32, false);
    expect_route(buffer_floats(steps, 512), 1, 512, 10, true);
    expect_route(buffer_floats(falling, 512), 1, 512, 32, true);
    expect_route(buffer_floats(equal, 40), 1, 40, 32, true);
}

static void route_of_broken_logits_names_existing_experts(void **state)
{
    // Not-a-number logits come from a damaged model; they must not become file offsets beyond the experts.
    (void)state;
    struct gpu_range logits = buffer_output(4 * 2 * 512); // NaN
    struct gpu_range ids = buffer_output(4 * 2 * 10), weights = buffer_output(4 * 2 * 10);
    struct gpu_command *cmd = command_open();
    op_moe_route(mixer_ops, cmd, logits, 2, 512, 10, true, ids, weights);
    command_run(cmd);
    const uint32_t *got = (const uint32_t *)(const void *)buffer_data(ids);
    for (uint32_t i = 0; i < 20; i++)
        assert_true(got[i] < 512);
}

// A problem of op_moe_combine: picks point into `rows` rows.
struct combine {
    uint32_t n, top_k, rows, hidden;
    struct gpu_range y, row, weight, h;
};

static struct combine combine_make(uint32_t n, uint32_t top_k, uint32_t hidden)
{
    uint64_t seed = n + hidden;
    struct combine c = {.n = n, .top_k = top_k, .rows = n * top_k, .hidden = hidden};
    c.y = buffer_random(&seed, c.rows * hidden, -1, 1);
    c.weight = buffer_random(&seed, c.rows, 0, 1);
    c.h = buffer_random(&seed, n * hidden, -1, 1);
    c.row = buffer_output(4 * c.rows);
    uint32_t *row = (uint32_t *)(void *)buffer_data(c.row);
    for (uint32_t t = 0; t < n; t++)
        for (uint32_t p = 0; p < top_k; p++)
            row[t * top_k + p] = p * n + (t * 7 + p) % n; // rising with p
    return c;
}

static void combine_run(const struct combine *c, uint32_t cut)
{
    struct gpu_command *cmd = command_open();
    for (uint32_t row0 = 0; row0 < c->rows; row0 += cut) {
        uint32_t count = c->rows - row0 < cut ? c->rows - row0 : cut;
        struct gpu_range y = gpu_range_part(c->y, 4ull * row0 * c->hidden, 4ull * count * c->hidden);
        op_moe_combine(mixer_ops, cmd, y, c->row, c->weight, c->n, c->top_k, row0, count, c->h, c->hidden);
    }
    command_run(cmd);
}

static void combine_agrees_with_reference(void **state)
{
    // Experts' outputs must reach their own token with their own weight.
    (void)state;
    struct combine c = combine_make(9, 10, 260);
    const uint32_t *row = (const uint32_t *)(const void *)buffer_data(c.row);
    double *want = buffer_doubles(c.h, c.n * c.hidden);
    for (uint32_t t = 0; t < c.n; t++)
        for (uint32_t p = 0; p < c.top_k; p++)
            for (uint32_t i = 0; i < c.hidden; i++)
                want[t * c.hidden + i] += (double)buffer_data(c.weight)[t * c.top_k + p] *
                                          (double)buffer_data(c.y)[row[t * c.top_k + p] * c.hidden + i];
    combine_run(&c, c.rows);
    assert_near("combine", buffer_data(c.h), want, c.n * c.hidden, 1e-6, 1e-6);
    free(want);
}

static void combine_does_not_depend_on_batches(void **state)
{
    // Answers must not depend on how many expert slots the user's card has.
    (void)state;
    struct combine whole = combine_make(64, 4, 64);
    combine_run(&whole, whole.rows);
    for (uint32_t cut = 16; cut < whole.rows; cut = cut * 3 / 2 / 16 * 16 + 16) {
        struct combine parts = combine_make(64, 4, 64);
        combine_run(&parts, cut);
        assert_same_floats("batches", buffer_data(parts.h), buffer_data(whole.h), whole.n * whole.hidden);
    }
}

static void expect_combine_norm(uint32_t n, uint32_t top_k, uint32_t hidden)
{
    uint64_t seed = hidden;
    struct combine one = combine_make(n, top_k, hidden), two = combine_make(n, top_k, hidden);
    struct gpu_range w = buffer_random(&seed, hidden, -1, 1);
    struct activations want = {.n = n, .cols = hidden, .f32 = buffer_output(4 * n * hidden)};
    if (hidden % 32 == 0)
        add_rounded(&want);
    struct activations x = want;
    x.f32 = buffer_output(4 * n * hidden);
    if (hidden % 32 == 0)
        add_rounded(&x);
    struct gpu_command *cmd = command_open();
    op_moe_combine(mixer_ops, cmd, one.y, one.row, one.weight, n, top_k, 0, one.rows, one.h, hidden);
    op_norm_rms(mixer_ops, cmd, one.h, w, 1e-6f, &want);
    op_moe_combine_norm(mixer_ops, cmd, two.y, two.row, two.weight, top_k, two.h, w, 1e-6f, &x);
    command_run(cmd);
    assert_same_floats("h", buffer_data(one.h), buffer_data(two.h), n * hidden);
    assert_same_floats("x", buffer_data(want.f32), buffer_data(x.f32), n * hidden);
    if (hidden % 32 == 0)
        assert_rounded("x", &x);
}

static void combine_with_norm_gives_the_bits_of_both(void **state)
{
    // A decoded token goes through this kernel, a prompt through the other two: they must agree on what they have read.
    (void)state;
    expect_combine_norm(1, 10, 2048);
    expect_combine_norm(8, 1, 4);
    expect_combine_norm(3, 5, 260);
    expect_combine_norm(2, 7, 1056);
    expect_combine_norm(1, 32, 4128);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        mixer_unit_test(route_agrees_with_reference),
        mixer_unit_test(route_breaks_ties_by_index),
        mixer_unit_test(route_of_broken_logits_names_existing_experts),
        mixer_unit_test(combine_agrees_with_reference),
        mixer_unit_test(combine_with_norm_gives_the_bits_of_both),
        mixer_unit_test(combine_does_not_depend_on_batches),
    };
    return cmocka_run_group_tests(tests, mixer_group_setup, mixer_group_teardown);
}
