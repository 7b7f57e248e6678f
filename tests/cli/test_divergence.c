// The arithmetic behind `sluice divergence`, on distributions small enough to do by hand.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tools/divergence.h"

static void assert_near(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-12 * (1 + fabs(expected))))
        fail_msg("%.15g instead of %.15g", value, expected);
}

// If this fails, the divergence that users judge a container by is not the Kullback-Leibler divergence.
static void test_by_hand(void **state)
{
    (void)state;
    struct divergence d;
    // P = (1/4, 3/4), Q = (1/2, 1/2); a constant added to all logits changes nothing.
    float p[] = {100, 100 + logf(3)}, q[] = {-5, -5};
    double up = (double)p[1] - 100; // log 3 as far as f32 holds it
    double p1 = 1 / (1 + exp(-up)), p0 = 1 - p1;
    assert_int_equal(divergence_create(3, &d), SLUICE_OK);
    divergence_add(&d, p, q, 2, 1, false);
    assert_near(divergence_mean(&d), p0 * log(2 * p0) + p1 * log(2 * p1));
    assert_near(d.reference_loss, -log(p1));
    assert_near(d.loss, log(2));
    assert_int_equal(d.same_top, 0);
    divergence_add(&d, q, q, 2, -1, false);
    assert_int_equal(d.predicted, 1);
    assert_int_equal(d.same_top, 1);
    assert_near(divergence_mean(&d), (p0 * log(2 * p0) + p1 * log(2 * p1)) / 2);
    divergence_finish(&d);
}

// If this fails, "99 % below" and "worst" are other tokens' values.
static void test_quantiles(void **state)
{
    (void)state;
    struct divergence d;
    float reference[] = {0, 0};
    assert_int_equal(divergence_create(100, &d), SLUICE_OK);
    for (int i = 99; i >= 0; i--) {
        float q[] = {0, 0.01F * (float)i};
        divergence_add(&d, reference, q, 2, -1, i % 2 == 1);
    }
    assert_true(divergence_quantile(&d, 0.01) == 0);
    assert_true(divergence_quantile(&d, 0.5) == d.kl[49]);
    assert_true(divergence_quantile(&d, 0.99) == d.kl[98]);
    assert_true(divergence_quantile(&d, 1) == d.kl[99]);
    double odd = 0;
    for (int i = 1; i < 100; i += 2)
        odd += d.kl[i];
    assert_int_equal(d.same_experts, 50);
    assert_near(divergence_mean_same_experts(&d), odd / 50);
    assert_true(d.kl[49] < d.kl[98] && d.kl[98] < d.kl[99]);
    divergence_finish(&d);
}

// If this fails, tokens count as routed alike that are not, or the order of equally likely experts counts as a
// difference.
static void test_experts(void **state)
{
    (void)state;
    static const struct {
        uint32_t layer, expert;
    } used[] = {{0, 3}, {0, 7}, {1, 3}, {1, 511}};
    uint64_t forwards = 0, backwards = 0, other = 0, swapped = 0;
    for (int i = 0; i < 4; i++) {
        divergence_add_expert(&forwards, used[i].layer, used[i].expert);
        divergence_add_expert(&backwards, used[3 - i].layer, used[3 - i].expert);
        divergence_add_expert(&other, used[i].layer, used[i].expert ^ (i == 2));
        divergence_add_expert(&swapped, 1 - used[i].layer, used[i].expert);
    }
    assert_true(forwards == backwards);
    assert_true(forwards != other && forwards != swapped && other != swapped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_experts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
