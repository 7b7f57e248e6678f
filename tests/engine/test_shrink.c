// The driver's memory budget shrinks while the engine runs.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/engine/engine_fixture.h"

enum { TOKENS = 60, GREEDY = 3 };

static char container[4096];
static int32_t ids[TOKENS];

static int setup(void **state)
{
    (void)state;
    fixture_container(fixture_config, 11, QUANT_Q4_K, container);
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (7 * i * i + 3 * i + 1) % FIXTURE_VOCAB;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_remove();
    return 0;
}

// A driver that takes `bytes` away with each of its answers from number `first` on, `times` times.
struct driver {
    uint32_t first, times, asked;
    uint64_t bytes;
};

static bool report(void *user, uint64_t *budget_bytes, uint64_t *used_bytes)
{
    struct driver *d = user;
    uint32_t number = d->asked++;
    *used_bytes = 1 << 30;
    *budget_bytes = number >= d->first && number < d->first + d->times ? *used_bytes - d->bytes : *used_bytes;
    return true;
}

// If this fails, an answer changes, or the program dies, when another program takes device memory in mid-run.
static void test_same_answer(void **state)
{
    (void)state;
    struct outcome_options options = {.greedy_count = GREEDY, .engine.slots = 40, .engine.context_tokens = 128};
    options.hooks.max_buffer_bytes = 2 << 20; // a few slots each
    for (int tier = 0; tier < 2; tier++) {
        struct outcome whole, shrunk;
        options.engine.ram_bytes = tier ? 4 << 20 : 0;
        options.hooks.device_budget = NULL;
        outcome_compute(container, ids, TOKENS, &options, &whole);
        for (uint32_t first = 0; first < 7; first = 2 * first + 1) {
            struct driver driver = {.first = first, .times = 2, .bytes = 3 << 20};
            options.hooks.device_budget = report;
            options.hooks.user = &driver;
            outcome_compute(container, ids, TOKENS, &options, &shrunk);
            assert_true(driver.asked > first + 1);
            assert_memory_equal(whole.logits, shrunk.logits, (size_t)TOKENS * whole.vocab * sizeof(float));
            assert_memory_equal(whole.greedy, shrunk.greedy, sizeof *whole.greedy * GREEDY);
            outcome_finish(&shrunk);
        }
        outcome_finish(&whole);
    }
}

// If this fails, slots are not given back, or so many that no token can be computed any more.
static void test_memory_goes_back(void **state)
{
    (void)state;
    struct driver driver = {.first = 0, .times = 1, .bytes = 1};
    struct engine_hooks hooks = {.max_buffer_bytes = 2 << 20, .device_budget = report, .user = &driver};
    struct sluice_options options = {.slots = 40, .context_tokens = 128};
    struct sluice_engine *engine;
    struct sluice_session *session;
    struct sluice_stats before, after;
    require_ok(engine_open_hooked(container, &options, &hooks, &engine));
    require_ok(sluice_session_create(engine, &session));
    sluice_stats(engine, &before);
    require_ok(sluice_prefill(session, ids, TOKENS, NULL));
    sluice_stats(engine, &after);
    assert_int_equal(before.slots_device, 40);
    assert_true(after.slots_device < 40 && after.slots_device >= 20); // one byte too much costs one slab
    assert_int_equal(before.device_bytes - after.device_bytes, (40ull - after.slots_device) * after.expert_bytes);
    driver = (struct driver){.times = 1000, .bytes = 1 << 29}; // far more than there is
    require_ok(sluice_decode(engine, &session, ids, 1, NULL));
    sluice_stats(engine, &after);
    assert_true(after.slots_device >= engine->config.top_k && after.slots_device < 20);
    require_ok(sluice_decode(engine, &session, ids, 1, NULL));
    sluice_session_destroy(session);
    sluice_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_answer),
        cmocka_unit_test(test_memory_goes_back),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
