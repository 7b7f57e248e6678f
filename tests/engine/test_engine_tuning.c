// Calibration may change speed, never results.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/ops/tuning.h"
#include "tests/engine/engine_fixture.h"

enum { TOKENS = 45, GREEDY = 4, TUNINGS = 4 };

static const struct matmul_tuning tunings[TUNINGS] = {
    {.lanes = 32,
     .rows_per_lane = 1,
     .columns = {{{2}, {1}}, {{2}, {1}}},
     .slice_columns_max = 2,
     .integer_dot = true,
     .slabs = true},
    {.lanes = 64, .rows_per_lane = 1, .columns = {{{1, 4}, {2}}, {{1, 8}, {4}}}, .integer_dot = true},
    {.lanes = 16, .rows_per_lane = 4, .columns = {{{1}, {1}}, {{1}, {1}}}, .slice_columns_max = 1, .read_ahead = true},
    {.lanes = 8, .rows_per_lane = 4, .columns = {{{2}, {2}}, {{4}, {2}}}, .read_ahead = true},
};

static unsigned current;

static void choose_current(const struct gpu_caps *caps, struct tuning *tuning)
{
    tuning->matmul = tunings[current];
    tuning->attend.rows_max = 1u << current;
    tuning->attend.warm = current % 2;
    tuning->attend.wide = tuning->attend.wide && current % 2 == 0;
    tuning->attend.unroll_few = tuning->attend.unroll_many = current % 2 ? 2 : 4;
    tuning->delta = current % 2
                        ? (struct delta_tuning){.lane_columns = 1, .row_lanes = current == 1 ? 2 : 1}
                        : (struct delta_tuning){.lane_columns = 4, .whole_columns = true, .row_lanes = 1, .staged = 8};
    assert_true(tuning_is_valid(tuning, caps));
}

static void require_same(const char *path, const int32_t *ids, bool decode, const struct outcome *want)
{
    for (int k = 0; k < TUNINGS / 2; k++) {
        struct outcome got;
        const struct outcome_options options = {
            .decode = decode, .greedy_count = GREEDY, .hooks = {.ops = {.adjust = choose_current}}};
        current = (unsigned)(decode * TUNINGS / 2 + k);
        outcome_compute(path, ids, TOKENS, &options, &got);
        assert_memory_equal(got.logits, want->logits, (size_t)TOKENS * want->vocab * sizeof *want->logits);
        for (uint32_t i = 0; i < want->layers; i++)
            assert_memory_equal(got.hiddens[i], want->hiddens[i], (size_t)TOKENS * want->hidden * sizeof(float));
        assert_memory_equal(got.greedy, want->greedy, GREEDY * sizeof *want->greedy);
        outcome_finish(&got);
    }
}

// A document's summary would depend on which variants happened to be fast when the card was calibrated.
static void logits_do_not_depend_on_the_tuning(void **state)
{
    (void)state;
    int32_t ids[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (11 * i * i + 3 * i + 1) % FIXTURE_VOCAB;
    for (int decode = 0; decode < 2; decode++) {
        char path[4096];
        struct outcome plain;
        fixture_container(fixture_config, 9, decode ? QUANT_Q4_K : QUANT_Q6_K, path);
        outcome_compute(path, ids, TOKENS, &(struct outcome_options){.decode = decode, .greedy_count = GREEDY}, &plain);
        require_same(path, ids, decode, &plain);
        outcome_finish(&plain);
    }
    fixture_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(logits_do_not_depend_on_the_tuning)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
