// The driver's memory budget shrinks while the engine runs.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/engine/engine_fixture.h"
#include "tests/offload/pinned_memory.h"

enum { TOKENS = 60, GREEDY = 3, HUGE_PAGE_KILOBYTES = 2048 };

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
    struct outcome whole;
    outcome_compute(container, ids, TOKENS, &options, &whole);
    for (int places = 0; places < 3; places++) { // one pool, separate, separate with a RAM tier
        struct outcome shrunk;
        options.engine.expert_pool = places ? SLUICE_EXPERT_POOL_SEPARATE : SLUICE_EXPERT_POOL_AUTO;
        options.engine.ram_bytes = places == 2 ? 4 << 20 : 0;
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
    }
    outcome_finish(&whole);
}

static void check_memory(enum sluice_expert_pool pool)
{
    struct driver driver = {.first = 0, .times = 1, .bytes = 1};
    struct engine_hooks hooks = {.max_buffer_bytes = 2 << 20, .device_budget = report, .user = &driver};
    struct sluice_options options = {.slots = 40, .context_tokens = 128, .expert_pool = pool};
    struct sluice_engine *engine;
    struct sluice_session *session;
    struct sluice_stats before, after;
    require_ok(engine_open_hooked(container, &options, &hooks, &engine));
    require_ok(sluice_session_create(engine, &session));
    sluice_stats(engine, &before);
    unsigned long pinned = pinned_kilobytes();
    require_ok(sluice_prefill(session, ids, TOKENS, NULL));
    sluice_stats(engine, &after);
    assert_int_equal(before.slots_device, 40);
    assert_true(after.slots_device < 40 && after.slots_device >= 20); // one byte too much costs one slab
    assert_int_equal(before.device_bytes - after.device_bytes, (40ull - after.slots_device) * after.expert_bytes);
    driver = (struct driver){.times = 1000, .bytes = 1 << 29}; // far more than there is
    require_ok(sluice_decode(engine, &session, ids, 1, NULL));
    sluice_stats(engine, &after);
    assert_true(after.slots_device >= engine->config.top_k && after.slots_device < 20);
    // What the reader has registered would stay in memory. A huge page counts as a whole as long as a part is used.
    uint64_t given = (before.slots_device - after.slots_device) * (uint64_t)after.expert_bytes / 1024;
    assert_true(given > HUGE_PAGE_KILOBYTES);
    if (after.unified && pinned > 0)
        assert_true(pinned_kilobytes() + given <= pinned + HUGE_PAGE_KILOBYTES);
    require_ok(sluice_decode(engine, &session, ids, 1, NULL));
    sluice_session_destroy(session);
    sluice_close(engine);
}

// If this fails, slots are not given back, or so many that no token can be computed any more.
static void test_memory_goes_back(void **state)
{
    (void)state;
    check_memory(SLUICE_EXPERT_POOL_AUTO);
    check_memory(SLUICE_EXPERT_POOL_SEPARATE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_answer),
        cmocka_unit_test(test_memory_goes_back),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
