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
    divergence_add(&d, p, q, 2, 1);
    assert_near(divergence_mean(&d), p0 * log(2 * p0) + p1 * log(2 * p1));
    assert_near(d.reference_loss, -log(p1));
    assert_near(d.loss, log(2));
    assert_int_equal(d.same_top, 0);
    divergence_add(&d, q, q, 2, -1);
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
        divergence_add(&d, reference, q, 2, -1);
    }
    assert_true(divergence_quantile(&d, 0.01) == 0);
    assert_true(divergence_quantile(&d, 0.5) == d.kl[49]);
    assert_true(divergence_quantile(&d, 0.99) == d.kl[98]);
    assert_true(divergence_quantile(&d, 1) == d.kl[99]);
    assert_true(d.kl[49] < d.kl[98] && d.kl[98] < d.kl[99]);
    divergence_finish(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_quantiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
