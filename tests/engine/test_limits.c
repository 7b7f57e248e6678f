// The engine on a device with small bindings and without imports, and on a drive that fails.
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "tests/engine/engine_fixture.h"

enum { TOKENS = 620, GREEDY = 3 };

static char container[2][4096]; // bf16, q4_k
static int32_t ids[TOKENS];

static int setup(void **state)
{
    (void)state;
    fixture_container(fixture_config, 11, QUANT_BF16, container[0]);
    fixture_container(fixture_config, 11, QUANT_Q4_K, container[1]);
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (5 * i * i + 11 * i + 3) % FIXTURE_VOCAB;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_remove();
    return 0;
}

static void require_close(const struct outcome *a, const struct outcome *b, double limit, const char *what)
{
    for (size_t i = 0; i < (size_t)a->tokens * a->vocab; i++)
        if (!(fabs((double)a->logits[i] - (double)b->logits[i]) <= limit))
            fail_msg("%s: logit %zu is %g, expected %g", what, i, (double)b->logits[i], (double)a->logits[i]);
}

// If this fails, a card with small bindings, whose weights, KV cache and prompt must be cut into parts, answers
// wrongly.
static void test_small_bindings(void **state)
{
    (void)state;
    // The smallest hold one expert: matrices, KV cache, expert slots and the prompt all lie in several parts.
    static const uint64_t limits[2][2] = {{1 << 20, 400 << 10}, {1 << 20, 120 << 10}};
    for (int type = 0; type < 2; type++) {
        struct outcome whole;
        struct outcome_options options = {.greedy_count = GREEDY, .engine.kv = SLUICE_KV_F32, .engine.slots = 40};
        options.engine.activations = SLUICE_ACTIVATIONS_F32; // 8-bit ones would amplify other rounding
        outcome_compute(container[type], ids, TOKENS, &options, &whole);
        for (size_t i = 0; i < 2; i++) {
            struct outcome parts;
            char what[64];
            snprintf(what, sizeof what, "bindings of %llu bytes", (unsigned long long)limits[type][i]);
            options.hooks.max_buffer_bytes = limits[type][i];
            options.engine.expert_pool = ((size_t)type + i) % 2 ? SLUICE_EXPERT_POOL_SEPARATE : SLUICE_EXPERT_POOL_AUTO;
            outcome_compute(container[type], ids, TOKENS, &options, &parts);
            require_close(&whole, &parts, 2e-3, what); // attention merges its parts: other rounding
            assert_memory_equal(whole.greedy, parts.greedy, sizeof *whole.greedy * GREEDY);
            outcome_finish(&parts);
        }
        outcome_finish(&whole);
    }
}

// If this fails, drivers that cannot import host memory (NVK, newer Intel) give other answers.
static void test_without_imports(void **state)
{
    (void)state;
    struct outcome imported, copied;
    struct outcome_options options = {.greedy_count = GREEDY,
                                      .engine.slots = 7,
                                      .engine.ram_bytes = 4 << 20,
                                      .engine.expert_pool = SLUICE_EXPERT_POOL_SEPARATE};
    outcome_compute(container[0], ids, TOKENS, &options, &imported);
    options.hooks.no_import = true;
    outcome_compute(container[0], ids, TOKENS, &options, &copied);
    assert_memory_equal(imported.logits, copied.logits, (size_t)TOKENS * imported.vocab * sizeof(float));
    assert_memory_equal(imported.greedy, copied.greedy, sizeof *imported.greedy * GREEDY);
    outcome_finish(&imported);
    outcome_finish(&copied);
    // Decoding copies what the device gives up back to host memory, and from there to the device again.
    enum { DECODED = 50 };
    options.decode = true;
    options.hooks.no_import = false;
    outcome_compute(container[1], ids, DECODED, &options, &imported);
    options.hooks.no_import = true;
    outcome_compute(container[1], ids, DECODED, &options, &copied);
    assert_memory_equal(imported.logits, copied.logits, (size_t)DECODED * imported.vocab * sizeof(float));
    outcome_finish(&copied);
    options.engine.ram_bytes = 0;
    options.engine.slots = 96;
    options.engine.expert_pool = SLUICE_EXPERT_POOL_AUTO;
    outcome_compute(container[1], ids, DECODED, &options, &copied);
    assert_memory_equal(imported.logits, copied.logits, (size_t)DECODED * imported.vocab * sizeof(float));
    outcome_finish(&imported);
    outcome_finish(&copied);
}

// If this fails, a drive that stutters (short reads, passing errors) changes an answer.
static void test_stuttering_drive(void **state)
{
    (void)state;
    static const struct reader_faults faults = {.short_every = 3, .error_at = 5, .error_count = 1, .error = EIO};
    for (int io = SLUICE_IO_URING; io <= SLUICE_IO_PREAD; io++) {
        struct outcome good, bad;
        struct outcome_options options = {.greedy_count = GREEDY, .engine.slots = 9, .engine.io = (enum sluice_io)io};
        outcome_compute(container[0], ids, 40, &options, &good);
        options.hooks.faults = &faults;
        for (int pool = SLUICE_EXPERT_POOL_AUTO; pool <= SLUICE_EXPERT_POOL_SEPARATE; pool++) {
            options.engine.expert_pool = (enum sluice_expert_pool)pool;
            outcome_compute(container[0], ids, 40, &options, &bad);
            assert_memory_equal(good.logits, bad.logits, 40u * good.vocab * sizeof(float));
            outcome_finish(&bad);
        }
        outcome_finish(&good);
    }
}

// If this fails, a broken drive gives a wrong answer, hangs, or the message does not say which expert cannot be read.
static void test_broken_drive(void **state)
{
    (void)state;
    for (int io = SLUICE_IO_URING; io <= SLUICE_IO_PREAD; io++) {
        for (uint32_t at = 1; at < 60; at += 13) {
            struct reader_faults faults = {.error_at = at, .error_count = 150, .error = EIO};
            struct engine_hooks hooks = {.faults = &faults};
            struct sluice_options open = {.context_tokens = 64, .slots = 9, .io = (enum sluice_io)io};
            open.expert_pool = at % 2 ? SLUICE_EXPERT_POOL_AUTO : SLUICE_EXPERT_POOL_SEPARATE;
            struct sluice_engine *engine;
            struct sluice_session *session;
            require_ok(engine_open_hooked(container[0], &open, &hooks, &engine));
            require_ok(sluice_session_create(engine, &session));
            assert_int_equal(sluice_prefill(session, ids, 20, NULL), SLUICE_ERR_IO);
            assert_non_null(strstr(error_message(), "layer"));
            assert_non_null(strstr(error_message(), "expert"));
            assert_int_equal(sluice_session_tokens(session), 0);
            int tries = 0;
            while (sluice_prefill(session, ids, 20, NULL) < 0) // until the drive is back
                assert_true(++tries < 150);
            assert_non_null(sluice_logits(session));
            sluice_session_destroy(session);
            sluice_close(engine);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_bindings),
        cmocka_unit_test(test_without_imports),
        cmocka_unit_test(test_stuttering_drive),
        cmocka_unit_test(test_broken_drive),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
