// Drawn experts in place of the router's, for measurements.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "tests/engine/engine_fixture.h"

enum { TOKENS = 40, LAYERS = 5, EXPERTS = 24, TOP_K = 5 };

static char container[4096];
static int32_t ids[TOKENS];

static int setup(void **state)
{
    (void)state;
    fixture_container(fixture_config, 7, QUANT_Q4_K, container);
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (7 * i * i + 13 * i + 5) % FIXTURE_VOCAB;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_remove();
    return 0;
}

// Compares the experts used by two runs; returns the number of layers in which they differ.
static uint32_t layers_that_differ(const struct outcome *a, const struct outcome *b)
{
    uint32_t different = 0;
    for (uint32_t i = 0; i < a->layers; i++)
        if (a->experts[i])
            different += memcmp(a->experts[i], b->experts[i], sizeof(uint32_t) * a->tokens * a->top_k) != 0;
    return different;
}

// If this fails, a measurement with drawn experts depends on how the prompt was read or on the memory given: prefill
// and decode, cut or whole, few slots or all, must use the same experts for the same token of the sequence.
static void test_a_token_draws_the_same_experts_however_it_is_processed(void **state)
{
    (void)state;
    for (int kind = SLUICE_ROUTING_UNIFORM; kind <= SLUICE_ROUTING_RECORDED; kind++) {
        struct outcome first, other;
        struct outcome_options options = {.engine.routing = (enum sluice_routing)kind};
        outcome_compute(container, ids, TOKENS, &options, &first);
        options.split = 16;
        options.engine.slots = 5;
        outcome_compute(container, ids, TOKENS, &options, &other);
        assert_int_equal(layers_that_differ(&first, &other), 0);
        outcome_finish(&other);
        options.decode = true;
        outcome_compute(container, ids, TOKENS, &options, &other);
        assert_int_equal(layers_that_differ(&first, &other), 0);
        outcome_finish(&other);
        options.engine.routing = SLUICE_ROUTING_MODEL;
        outcome_compute(container, ids, TOKENS, &options, &other);
        assert_int_equal(layers_that_differ(&first, &other), 4);
        outcome_finish(&other);
        outcome_finish(&first);
    }
}

// An LRU cache of all layers' experts, from the definition: an expert is there if it was used and fewer than `slots`
// others since. Those that a token uses in a layer are all looked up before the first of them is loaded.
struct lru {
    uint32_t slots, clock, hits, uses;
    uint32_t used_at[LAYERS * EXPERTS]; // 0: never
};

static enum sluice_status lru_use(void *user, uint32_t layer, uint32_t first, uint32_t rows, const uint32_t *experts)
{
    struct lru *lru = user;
    (void)first;
    assert_int_equal(rows, 1);
    for (uint32_t i = 0; i < TOP_K; i++) {
        uint32_t used_at = lru->used_at[layer * EXPERTS + experts[i]], later = 0;
        for (uint32_t j = 0; j < LAYERS * EXPERTS; j++)
            later += lru->used_at[j] > used_at;
        lru->hits += used_at > 0 && later < lru->slots;
        lru->uses++;
    }
    for (uint32_t expert = 0; expert < EXPERTS; expert++) // the engine takes them by rising number
        for (uint32_t i = 0; i < TOP_K; i++)
            if (experts[i] == expert)
                lru->used_at[layer * EXPERTS + expert] = ++lru->clock;
    return SLUICE_OK;
}

// If this fails, the cache is worse (or the counters better) than LRU slots of the same number: experts are read again
// that should have been kept.
static void test_decode_hits_what_an_lru_cache_hits(void **state)
{
    (void)state;
    enum { STEPS = 80 };
    static const struct {
        enum sluice_routing routing;
        uint32_t slots;
        enum sluice_expert_pool pool;
    } variants[] = {
        {SLUICE_ROUTING_MODEL, 30, SLUICE_EXPERT_POOL_AUTO},
        {SLUICE_ROUTING_UNIFORM, 55, SLUICE_EXPERT_POOL_SEPARATE},
        {SLUICE_ROUTING_RECORDED, 30, SLUICE_EXPERT_POOL_AUTO},
        {SLUICE_ROUTING_RECORDED, 30, SLUICE_EXPERT_POOL_SEPARATE},
    };
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        struct sluice_engine *engine;
        struct sluice_session *session;
        struct sluice_stats stats;
        struct lru lru = {.slots = variants[i].slots};
        struct sluice_tap tap = {.user = &lru, .experts = lru_use};
        struct sluice_options open = {.context_tokens = 256,
                                      .slots = variants[i].slots,
                                      .routing = variants[i].routing,
                                      .expert_pool = variants[i].pool};
        require_ok(sluice_open(container, &open, &engine));
        require_ok(sluice_session_create(engine, &session));
        for (int step = 0; step < STEPS; step++)
            require_ok(sluice_decode(engine, &session, &ids[step % TOKENS], 1, &tap));
        sluice_stats(engine, &stats);
        print_message("routing %d, %u slots: %u of %u uses hit\n", (int)variants[i].routing, lru.slots, lru.hits,
                      lru.uses);
        assert_int_equal(stats.expert_hits_device, lru.hits);
        assert_int_equal(stats.expert_misses, lru.uses - lru.hits);
        assert_int_equal(stats.expert_hits_host, 0);
        sluice_session_destroy(session);
        sluice_close(engine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_token_draws_the_same_experts_however_it_is_processed),
        cmocka_unit_test(test_decode_hits_what_an_lru_cache_hits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
