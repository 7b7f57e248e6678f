// Routing for measurements: what a cache sees of it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/model/routing_model.h"

enum { EXPERTS = 512, TOP_K = 10, TOKENS = 2000, LAYERS = 3, SESSIONS = 2 };

static struct routing_model *create(enum sluice_routing kind, uint64_t seed)
{
    struct routing_model *m;
    struct routing_model_options options = {kind, seed, LAYERS, EXPERTS, TOP_K, SESSIONS};
    assert_int_equal(routing_model_create(&options, &m), SLUICE_OK);
    return m;
}

// Share of the uses that an LRU cache of `slots` experts serves: the expert was used by an earlier token, and fewer
// than `slots` others since. From the definition: the last uses are counted, token by token, from an empty cache.
static double lru_hit_rate(enum sluice_routing kind, uint32_t layer, uint32_t slots)
{
    struct routing_model *m = create(kind, 5);
    uint32_t used_at[EXPERTS] = {0}, ids[TOP_K], hits = 0, clock = 0;
    for (uint32_t token = 0; token < TOKENS; token++) {
        routing_model_draw(m, 1, layer, ids);
        for (uint32_t i = 0; i < TOP_K; i++) {
            uint32_t later = 0;
            for (uint32_t j = 0; j < EXPERTS; j++)
                later += used_at[j] > used_at[ids[i]];
            hits += used_at[ids[i]] > 0 && later < slots;
        }
        for (uint32_t i = 0; i < TOP_K; i++)
            used_at[ids[i]] = ++clock;
    }
    routing_model_destroy(m);
    return (double)hits / (TOKENS * TOP_K);
}

static void require_rate(enum sluice_routing kind, uint32_t slots, double expected)
{
    for (uint32_t layer = 0; layer < LAYERS; layer += LAYERS - 1) {
        double rate = lru_hit_rate(kind, layer, slots);
        print_message("layer %u, %u slots: %.3f, expected %.2f\n", layer, slots, rate, expected);
        if (!(rate > expected - 0.015 && rate < expected + 0.015))
            fail_msg("%u slots of layer %u hit %.3f of the uses instead of %.2f", slots, layer, rate, expected);
    }
}

// If this fails, what is measured with --routing recorded says nothing about real models.
static void test_recorded_routing_has_the_reported_hit_rates(void **state)
{
    (void)state;
    require_rate(SLUICE_ROUTING_RECORDED, 31, 0.43); // 6 %
    require_rate(SLUICE_ROUTING_RECORDED, 64, 0.67);
    require_rate(SLUICE_ROUTING_RECORDED, 128, 0.81);
    require_rate(SLUICE_ROUTING_RECORDED, 256, 0.92);
}

// If this fails, --routing uniform is not the worst case that it is meant to be.
static void test_uniform_routing_hits_the_share_of_the_slots(void **state)
{
    (void)state;
    require_rate(SLUICE_ROUTING_UNIFORM, 64, 0.125);
    require_rate(SLUICE_ROUTING_UNIFORM, 256, 0.497); // of an empty cache
}

// If this fails, two runs of a measurement cannot be compared, or sessions disturb each other's draws.
static void test_draws_depend_on_session_layer_and_turn_only(void **state)
{
    (void)state;
    for (int kind = SLUICE_ROUTING_UNIFORM; kind <= SLUICE_ROUTING_RECORDED; kind++) {
        struct routing_model *alone = create((enum sluice_routing)kind, 9);
        struct routing_model *together = create((enum sluice_routing)kind, 9);
        struct routing_model *other = create((enum sluice_routing)kind, 10);
        uint32_t a[TOP_K], b[TOP_K], equal_layers = 0, equal_seeds = 0;
        for (uint32_t token = 0; token < 50; token++) {
            routing_model_draw(alone, 1, 2, a);
            routing_model_draw(together, 0, 2, b);
            equal_layers += memcmp(a, b, sizeof a) == 0;
            routing_model_draw(together, 1, 0, b);
            equal_layers += memcmp(a, b, sizeof a) == 0;
            routing_model_draw(together, 1, 2, b);
            assert_memory_equal(a, b, sizeof a);
            routing_model_draw(other, 1, 2, b);
            equal_seeds += memcmp(a, b, sizeof a) == 0;
        }
        assert_int_equal(equal_layers, 0);
        assert_int_equal(equal_seeds, 0);
        routing_model_destroy(alone);
        routing_model_destroy(together);
        routing_model_destroy(other);
    }
}

// If this fails, the engine computes an expert twice for a token, or reads one that does not exist. Small and odd
// models, up to those that use every expert.
static void test_draws_are_different_experts_of_the_model(void **state)
{
    (void)state;
    static const uint32_t shapes[][2] = {{1, 1}, {2, 1}, {2, 2}, {6, 2}, {8, 8}, {24, 5}, {1024, 32}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int kind = SLUICE_ROUTING_UNIFORM; kind <= SLUICE_ROUTING_RECORDED; kind++) {
            uint32_t experts = shapes[i][0], top_k = shapes[i][1], ids[32];
            struct routing_model_options options = {(enum sluice_routing)kind, 3, 1, experts, top_k, 1};
            struct routing_model *m;
            assert_int_equal(routing_model_create(&options, &m), SLUICE_OK);
            uint8_t *ever = mem_alloc(experts, 1);
            for (uint32_t token = 0; token < 4000; token++) {
                routing_model_draw(m, 0, 0, ids);
                for (uint32_t j = 0; j < top_k; j++) {
                    assert_true(ids[j] < experts);
                    for (uint32_t k = 0; k < j; k++)
                        assert_int_not_equal(ids[j], ids[k]);
                    ever[ids[j]] = 1;
                }
            }
            for (uint32_t j = 0; j < experts; j++)
                assert_int_equal(ever[j], 1);
            mem_free(ever);
            routing_model_destroy(m);
        }
    }
}

// If this fails, running out of memory while a measurement starts crashes or leaks.
static void test_every_allocation_can_fail(void **state)
{
    (void)state;
    struct routing_model_options options = {SLUICE_ROUTING_RECORDED, 5, LAYERS, EXPERTS, TOP_K, SESSIONS};
    for (uint64_t i = 0;; i++) {
        struct routing_model *m;
        mem_fail_at(i);
        enum sluice_status status = routing_model_create(&options, &m);
        mem_fail_at(UINT64_MAX);
        if (status == SLUICE_OK) {
            routing_model_destroy(m);
            assert_true(i > 3);
            return;
        }
        assert_int_equal(status, SLUICE_ERR_MEMORY);
        assert_null(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded_routing_has_the_reported_hit_rates),
        cmocka_unit_test(test_uniform_routing_hits_the_share_of_the_slots),
        cmocka_unit_test(test_draws_depend_on_session_layer_and_turn_only),
        cmocka_unit_test(test_draws_are_different_experts_of_the_model),
        cmocka_unit_test(test_every_allocation_can_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
