#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/random.h"
#include "runtime/text/sampler.h"
#include "tests/text/text_data.h"

enum { VOCAB = 32, DRAWS = 40000 };

static struct sampler *make(struct sampler_options options)
{
    struct sampler *sampler;
    assert_int_equal(sampler_create(&options, VOCAB, &sampler), SLUICE_OK);
    return sampler;
}

static int32_t sample(struct sampler *sampler, const float *logits, size_t count)
{
    int32_t id;
    assert_int_equal(sampler_sample(sampler, logits, count, &id), SLUICE_OK);
    return id;
}

static void random_logits(uint64_t seed, float *logits)
{
    for (size_t i = 0; i < VOCAB; i++)
        logits[i] = (float)(random_next(&seed) % 8000) / 1000 - 4;
}

static int by_logit(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (x[0] < y[0]) - (x[0] > y[0]);
}

// The distribution as Hugging Face's processors define it, computed the plain way. p[id] are probabilities.
static void reference(const float *logits, const struct sampler_options *options, double p[VOCAB])
{
    double sorted[VOCAB][2], total = 0, before = 0, kept = 0; // logit / temperature and id
    for (size_t i = 0; i < VOCAB; i++) {
        sorted[i][0] = (double)logits[i] / (double)options->temperature;
        sorted[i][1] = (double)i;
        p[i] = 0;
    }
    qsort(sorted, VOCAB, sizeof sorted[0], by_logit);
    size_t limit = options->top_k ? (size_t)options->top_k : VOCAB;
    for (size_t i = 0; i < limit; i++)
        total += exp(sorted[i][0]);
    for (size_t i = 0; i < limit; i++) {
        double probability = exp(sorted[i][0]) / total;
        bool in = before < (double)options->top_p && exp(sorted[i][0] - sorted[0][0]) >= (double)options->min_p;
        p[(size_t)sorted[i][1]] = in ? probability : 0;
        before += probability;
        kept += in ? probability : 0;
    }
    for (size_t i = 0; i < VOCAB; i++)
        p[i] /= kept;
}

static void expect_distribution(struct sampler_options options)
{
    float logits[VOCAB];
    double wanted[VOCAB];
    size_t counts[VOCAB] = {0};
    random_logits(11, logits);
    reference(logits, &options, wanted);
    struct sampler *sampler = make(options);
    for (int i = 0; i < DRAWS; i++)
        counts[sample(sampler, logits, VOCAB)]++;
    for (size_t i = 0; i < VOCAB; i++) {
        double expected = wanted[i] * DRAWS, spread = 5 * sqrt(expected) + 3;
        assert_true(fabs((double)counts[i] - expected) <= spread);
        assert_true(wanted[i] > 0 || counts[i] == 0);
    }
    sampler_destroy(sampler);
}

// Answers would be duller or wilder than the settings promise.
static void draws_follow_the_settings(void **state)
{
    (void)state;
    struct sampler_options plain = sampler_options_default();
    plain.temperature = 1;
    plain.seed = 42;
    struct sampler_options cases[] = {plain, plain, plain, plain, plain, plain, plain, plain};
    cases[1].temperature = 0.6f;
    cases[2].top_k = 5;
    cases[3].top_p = 0.8f;
    cases[4].min_p = 0.1f;
    cases[5] = (struct sampler_options){0.7f, 20, 0.8f, 0, 1, 0, 0, 1};  // Instruct
    cases[6] = (struct sampler_options){0.6f, 20, 0.95f, 0, 1, 0, 0, 2}; // Thinking
    cases[7] = (struct sampler_options){1.5f, 7, 0.9f, 0.05f, 1, 0, 0, 3};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_distribution(cases[i]);
}

// "The same prompt gives the same answer" would not hold.
static void greedy_takes_the_largest_and_of_equals_the_first(void **state)
{
    (void)state;
    float logits[VOCAB] = {0};
    struct sampler *sampler = make(sampler_options_default());
    assert_int_equal(sample(sampler, logits, VOCAB), 0);
    logits[7] = logits[9] = 2;
    assert_int_equal(sample(sampler, logits, VOCAB), 7);
    logits[3] = NAN;
    logits[4] = INFINITY;
    assert_int_equal(sample(sampler, logits, VOCAB), 7);
    sampler_destroy(sampler);
}

// Ids beyond the tokenizer have no text: the stream would end with an error.
static void padding_and_masked_ids_are_never_chosen(void **state)
{
    (void)state;
    float logits[VOCAB + 8] = {0};
    for (size_t i = VOCAB; i < VOCAB + 8; i++)
        logits[i] = 100;
    logits[5] = 50;
    struct sampler *sampler = make(sampler_options_default());
    assert_int_equal(sample(sampler, logits, VOCAB + 8), 5);
    sampler_mask(sampler, 5, true);
    sampler_mask(sampler, -1, true);
    sampler_mask(sampler, VOCAB, true);
    assert_int_equal(sample(sampler, logits, VOCAB + 8), 0);
    sampler_mask(sampler, 5, false);
    assert_int_equal(sample(sampler, logits, VOCAB + 8), 5);
    assert_int_equal(sample(sampler, logits, 3), 0);
    sampler_destroy(sampler);
}

// Penalties and bias against values worked out by hand.
static void penalties_and_bias(void **state)
{
    (void)state;
    float logits[VOCAB];
    for (size_t i = 0; i < VOCAB; i++)
        logits[i] = -10;
    logits[1] = 4;
    logits[2] = 3;
    logits[3] = 2.5f;
    struct sampler_options options = sampler_options_default();
    options.repetition_penalty = 1.5f;
    struct sampler *sampler = make(options);
    int32_t prompt[] = {1, VOCAB, -1};
    sampler_prompt(sampler, prompt, 3); // 4 / 1.5 = 2.67 < 3
    assert_int_equal(sample(sampler, logits, VOCAB), 2);
    sampler_accept(sampler, 2); // 3 / 1.5 = 2
    assert_int_equal(sample(sampler, logits, VOCAB), 1);
    sampler_reset(sampler, 0);
    assert_int_equal(sample(sampler, logits, VOCAB), 1);
    sampler_destroy(sampler);

    options = sampler_options_default();
    options.presence_penalty = 0.6f;
    options.frequency_penalty = 0.25f;
    sampler = make(options);
    sampler_prompt(sampler, prompt, 1); // not penalised
    assert_int_equal(sample(sampler, logits, VOCAB), 1);
    sampler_accept(sampler, 1); // 4 - 0.85
    assert_int_equal(sample(sampler, logits, VOCAB), 1);
    sampler_accept(sampler, 1); // 4 - 1.1
    assert_int_equal(sample(sampler, logits, VOCAB), 2);
    assert_int_equal(sampler_bias(sampler, 3, 1), SLUICE_OK);
    assert_int_equal(sample(sampler, logits, VOCAB), 3);
    assert_int_equal(sampler_bias(sampler, VOCAB, 100), SLUICE_OK);
    sampler_destroy(sampler);
}

// A seed in a bug report or a scientific protocol would be worthless.
static void a_seed_gives_the_same_answer(void **state)
{
    (void)state;
    float logits[VOCAB];
    random_logits(5, logits);
    struct sampler_options options = sampler_options_default();
    options.temperature = 1;
    options.seed = 1234;
    struct sampler *one = make(options), *two = make(options);
    int32_t first[64];
    bool differs = false;
    for (int i = 0; i < 64; i++) {
        first[i] = sample(one, logits, VOCAB);
        assert_int_equal(sample(two, logits, VOCAB), first[i]);
    }
    sampler_reset(one, 1234);
    sampler_reset(two, 99);
    for (int i = 0; i < 64; i++) {
        assert_int_equal(sample(one, logits, VOCAB), first[i]);
        differs |= sample(two, logits, VOCAB) != first[i];
    }
    assert_true(differs);
    sampler_destroy(one);
    sampler_destroy(two);
}

// A broken device must be reported, not answered with token 0 for ever.
static void broken_logits_are_an_error(void **state)
{
    (void)state;
    float logits[VOCAB];
    for (size_t i = 0; i < VOCAB; i++)
        logits[i] = i % 2 ? NAN : -INFINITY;
    struct sampler *sampler = make(sampler_options_default());
    int32_t id;
    assert_int_equal(sampler_sample(sampler, logits, VOCAB, &id), SLUICE_ERR_DEVICE);
    assert_int_equal(sampler_sample(sampler, logits, 0, &id), SLUICE_ERR_DEVICE);
    sampler_destroy(sampler);
}

// Extreme but legal settings must not divide by zero or pick nothing.
static void extreme_settings_still_choose(void **state)
{
    (void)state;
    float logits[VOCAB];
    random_logits(5, logits);
    logits[17] = 30;
    static const struct sampler_options cases[] = {
        {1e-30f, 0, 1, 0, 1, 0, 0, 1},
        {1e-4f, 1, 1e-9f, 1, 1, 0, 0, 1},
        {1, 1000000, 1, 1, 1, 0, 0, 1},
        {1, 0, 1e-20f, 0, 1, 0, 0, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sampler *sampler = make(cases[i]);
        assert_int_equal(sample(sampler, logits, VOCAB), 17);
        sampler_destroy(sampler);
    }
    struct sampler_options hot = sampler_options_default();
    hot.temperature = 1e30f;
    struct sampler *sampler = make(hot);
    for (int i = 0; i < 1000; i++)
        sample(sampler, logits, VOCAB);
    sampler_destroy(sampler);
}

// A typing mistake in an option must be named.
static void impossible_options_are_refused(void **state)
{
    (void)state;
    struct sampler_options bad[9];
    for (size_t i = 0; i < 9; i++)
        bad[i] = sampler_options_default();
    bad[0].temperature = -1;
    bad[1].temperature = NAN;
    bad[2].top_k = -1;
    bad[3].top_p = 0;
    bad[4].top_p = 1.5f;
    bad[5].min_p = -0.1f;
    bad[6].repetition_penalty = 0;
    bad[7].presence_penalty = 3;
    bad[8].frequency_penalty = NAN;
    for (size_t i = 0; i < 9; i++) {
        struct sampler *sampler;
        assert_int_equal(sampler_create(&bad[i], VOCAB, &sampler), SLUICE_ERR_ARGUMENT);
        assert_null(sampler);
    }
}

// The server's logprobs would be wrong.
static void log_probabilities_sum_to_one_and_are_sorted(void **state)
{
    (void)state;
    float logits[VOCAB], chosen;
    struct sampler_logprob top[VOCAB];
    random_logits(21, logits);
    logits[4] = NAN;
    sampler_logprobs(logits, VOCAB, 9, &chosen, top, VOCAB);
    double sum = 0;
    for (size_t i = 0; i < VOCAB; i++) {
        sum += exp((double)top[i].logprob);
        assert_true(i == 0 || top[i].logprob <= top[i - 1].logprob);
        if (top[i].id == 9)
            assert_true(top[i].logprob >= chosen && top[i].logprob <= chosen);
    }
    assert_true(fabs(sum - 1) < 1e-5);
    assert_int_equal(top[VOCAB - 1].id, 4);
    struct sampler_logprob few[3];
    sampler_logprobs(logits, VOCAB, 9, &chosen, few, 3);
    assert_memory_equal(few, top, sizeof few);
    sampler_logprobs(logits, VOCAB, 9, &chosen, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_follow_the_settings),
        cmocka_unit_test(greedy_takes_the_largest_and_of_equals_the_first),
        cmocka_unit_test(padding_and_masked_ids_are_never_chosen),
        cmocka_unit_test(penalties_and_bias),
        cmocka_unit_test(a_seed_gives_the_same_answer),
        cmocka_unit_test(broken_logits_are_an_error),
        cmocka_unit_test(extreme_settings_still_choose),
        cmocka_unit_test(impossible_options_are_refused),
        cmocka_unit_test(log_probabilities_sum_to_one_and_are_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
