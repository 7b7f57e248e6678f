// What must not change a result: slots, ways of reading, cuts of the prompt, other sessions.
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

enum { TOKENS = 75, GREEDY = 6 };

static char container[2][4096]; // bf16, q4_k
static int32_t ids[TOKENS];

static int setup(void **state)
{
    (void)state;
    fixture_container(fixture_config, 7, QUANT_BF16, container[0]);
    fixture_container(fixture_config, 7, QUANT_Q4_K, container[1]);
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

static void require_same_bits(const struct outcome *a, const struct outcome *b, const char *what)
{
    size_t hidden_bytes = (size_t)a->tokens * a->hidden * 4;
    for (uint32_t i = 0; i < a->layers; i++)
        if (memcmp(a->hiddens[i], b->hiddens[i], hidden_bytes) != 0)
            fail_msg("%s: the residual stream after layer %u has other bits", what, i);
    if (memcmp(a->logits, b->logits, (size_t)a->tokens * a->vocab * 4) != 0)
        fail_msg("%s: the logits have other bits", what);
    assert_memory_equal(a->greedy, b->greedy, a->greedy_count * sizeof *a->greedy);
}

static double largest_difference(const struct outcome *a, const struct outcome *b)
{
    double worst = 0;
    for (size_t i = 0; i < (size_t)a->tokens * a->vocab; i++) {
        double difference = fabs((double)a->logits[i] - (double)b->logits[i]);
        worst = difference > worst || isnan(difference) ? difference : worst;
    }
    return worst;
}

// If this fails, an answer depends on how much memory the user has or on how the drive is read.
static void test_bits_do_not_depend_on_slots_or_io(void **state)
{
    (void)state;
    static const struct {
        uint32_t slots;
        enum sluice_io io;
        uint64_t ram;
        bool decode;
        enum sluice_expert_pool pool;
    } variants[] = {{96, SLUICE_IO_PREAD, 0, false, SLUICE_EXPERT_POOL_SEPARATE},
                    {5, SLUICE_IO_URING, 0, false, SLUICE_EXPERT_POOL_SEPARATE},
                    {5, SLUICE_IO_URING, 0, false, SLUICE_EXPERT_POOL_AUTO},
                    {5, SLUICE_IO_PREAD, 0, false, SLUICE_EXPERT_POOL_AUTO},
                    {17, SLUICE_IO_PREAD, 1 << 22, false, SLUICE_EXPERT_POOL_SEPARATE},
                    {40, SLUICE_IO_AUTO, 1 << 24, false, SLUICE_EXPERT_POOL_AUTO},
                    {96, SLUICE_IO_PREAD, 0, true, SLUICE_EXPERT_POOL_AUTO},
                    {5, SLUICE_IO_PREAD, 0, true, SLUICE_EXPERT_POOL_AUTO},
                    {5, SLUICE_IO_PREAD, 0, true, SLUICE_EXPERT_POOL_SEPARATE},
                    {31, SLUICE_IO_AUTO, 1 << 22, true, SLUICE_EXPERT_POOL_SEPARATE}};
    for (int type = 0; type < 2; type++) {
        struct outcome first[2]; // prefill, decode
        bool have[2] = {false, false};
        for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
            struct outcome_options options = {.decode = variants[i].decode, .greedy_count = GREEDY};
            options.engine = (struct sluice_options){.slots = variants[i].slots,
                                                     .io = variants[i].io,
                                                     .ram_bytes = variants[i].ram,
                                                     .expert_pool = variants[i].pool};
            struct outcome o;
            outcome_compute(container[type], ids, TOKENS, &options, &o);
            char what[64];
            snprintf(what, sizeof what, "%u slots, io %d, pool %d", variants[i].slots, (int)variants[i].io,
                     (int)variants[i].pool);
            if (have[options.decode]) {
                require_same_bits(&first[options.decode], &o, what);
                outcome_finish(&o);
            } else {
                first[options.decode] = o;
                have[options.decode] = true;
            }
        }
        outcome_finish(&first[0]);
        outcome_finish(&first[1]);
    }
}

// If this fails, a document read in two parts, or continued token by token, is understood differently.
static void test_prefill_equals_decode_and_any_split(void **state)
{
    (void)state;
    struct outcome whole, other;
    struct outcome_options options = {.greedy_count = GREEDY, .engine.kv = SLUICE_KV_F32};
    outcome_compute(container[0], ids, TOKENS, &options, &whole);
    static const uint32_t splits[] = {1, 2, 3, 31, 32, 33, 64, 74};
    for (size_t i = 0; i < sizeof splits / sizeof *splits; i++) {
        options.split = splits[i];
        outcome_compute(container[0], ids, TOKENS, &options, &other);
        double difference = largest_difference(&whole, &other);
        if (!(difference <= 5e-3))
            fail_msg("prefill by %u tokens: logits off by %g", splits[i], difference);
        outcome_finish(&other);
    }
    options.decode = true;
    outcome_compute(container[0], ids, TOKENS, &options, &other);
    double difference = largest_difference(&whole, &other);
    if (!(difference <= 5e-3))
        fail_msg("decode: logits off by %g", difference);
    outcome_finish(&other);
    outcome_finish(&whole);
}

// If this fails, `sluice bench --depth` measures something else than work behind a long text.
static void test_filled_session_behaves_like_a_long_text(void **state)
{
    (void)state;
    enum { DEPTH = 700, CONTEXT = 1000 }; // several segments of a small binding
    struct sluice_engine *engine;
    struct sluice_session *session;
    struct sluice_options open = {.context_tokens = CONTEXT, .slots = 30, .kv = SLUICE_KV_F32};
    struct engine_hooks small = {.max_buffer_bytes = 300 << 10};
    float first[FIXTURE_VOCAB];
    for (int kind = 0; kind < 2; kind++) {
        require_ok(engine_open_hooked(container[1], &open, kind ? &small : &(struct engine_hooks){0}, &engine));
        require_ok(sluice_session_create(engine, &session));
        for (int repeat = 0; repeat < 2; repeat++) {
            require_ok(sluice_session_fill(session, DEPTH, 5));
            assert_int_equal(sluice_session_tokens(session), DEPTH);
            assert_null(sluice_logits(session));
            require_ok(sluice_prefill(session, ids, 20, NULL));
            require_ok(sluice_decode(engine, &session, ids, 1, NULL));
            assert_int_equal(sluice_session_tokens(session), DEPTH + 21);
            for (uint32_t i = 0; i < FIXTURE_VOCAB; i++)
                assert_true(isfinite(sluice_logits(session)[i]));
            if (repeat)
                assert_memory_equal(first, sluice_logits(session), sizeof first);
            memcpy(first, sluice_logits(session), sizeof first);
        }
        require_ok(sluice_session_fill(session, DEPTH, 6)); // the context matters
        require_ok(sluice_prefill(session, ids, 20, NULL));
        require_ok(sluice_decode(engine, &session, ids, 1, NULL));
        assert_memory_not_equal(first, sluice_logits(session), sizeof first);
        assert_int_equal(sluice_session_fill(session, CONTEXT + 1, 5), SLUICE_ERR_ARGUMENT);
        sluice_session_destroy(session);
        sluice_close(engine);
    }
}

// If this fails, one user's text leaks into, or changes, another's that is decoded at the same time.
static void test_sessions_together_equal_sessions_alone(void **state)
{
    (void)state;
    enum { SESSIONS = 5, STEPS = 9 };
    struct sluice_engine *engine;
    struct sluice_options open = {.context_tokens = 128, .sessions = SESSIONS, .slots = 30};
    require_ok(sluice_open(container[0], &open, &engine));
    uint32_t vocab = sluice_engine_model(engine)->vocab;
    float *alone = mem_alloc((size_t)SESSIONS * STEPS * vocab, sizeof *alone);
    struct sluice_session *sessions[SESSIONS];
    for (int s = 0; s < SESSIONS; s++) {
        require_ok(sluice_session_create(engine, &sessions[s]));
        require_ok(sluice_prefill(sessions[s], ids, (size_t)(3 + 11 * s), NULL));
        for (int step = 0; step < STEPS; step++) {
            require_ok(sluice_decode(engine, &sessions[s], &ids[40 + s + step], 1, NULL));
            memcpy(alone + ((size_t)s * STEPS + (size_t)step) * vocab, sluice_logits(sessions[s]), vocab * 4);
        }
    }
    for (int s = 0; s < SESSIONS; s++) {
        require_ok(sluice_session_reset(sessions[s]));
        require_ok(sluice_prefill(sessions[s], ids, (size_t)(3 + 11 * s), NULL));
    }
    for (int step = 0; step < STEPS; step++) {
        int32_t next[SESSIONS];
        for (int s = 0; s < SESSIONS; s++)
            next[s] = ids[40 + s + step];
        require_ok(sluice_decode(engine, sessions, next, SESSIONS, NULL));
        for (int s = 0; s < SESSIONS; s++)
            for (uint32_t i = 0; i < vocab; i++)
                assert_true(fabsf(sluice_logits(sessions[s])[i] -
                                  alone[((size_t)s * STEPS + (size_t)step) * vocab + i]) <= 1e-4f);
    }
    for (int s = 0; s < SESSIONS; s++)
        sluice_session_destroy(sessions[s]);
    sluice_close(engine);
    mem_free(alone);
}

static int32_t likeliest(const struct sluice_session *session)
{
    int32_t best = 0;
    for (int32_t i = 1; i < FIXTURE_VOCAB; i++)
        if (sluice_logits(session)[i] > sluice_logits(session)[best])
            best = i;
    return best;
}

// Continues `count` prompts by ANSWER likeliest tokens each, together.
enum { ANSWER = 10 };
static void answer(struct sluice_engine *engine, struct sluice_session *const *sessions, unsigned first, unsigned count,
                   int32_t (*answers)[ANSWER])
{
    for (unsigned s = 0; s < count; s++) {
        require_ok(sluice_session_reset(sessions[s]));
        require_ok(sluice_prefill(sessions[s], ids + first + s, 20 + first + s, NULL));
    }
    for (int step = 0; step < ANSWER; step++) {
        int32_t next[4];
        for (unsigned s = 0; s < count; s++)
            answers[first + s][step] = next[s] = likeliest(sessions[s]);
        require_ok(sluice_decode(engine, sessions, next, count, NULL));
    }
}

// If this fails, what a user is answered depends on who else asks at the same time.
static void test_two_and_four_sessions_answer_as_alone(void **state)
{
    (void)state;
    for (int type = 0; type < 2; type++) {
        struct sluice_engine *engine;
        struct sluice_options open = {.context_tokens = 64, .sessions = 4, .slots = 20};
        if (type == 0) { // and one pool
            open.expert_pool = SLUICE_EXPERT_POOL_SEPARATE;
            open.ram_bytes = 4 << 20;
        }
        struct sluice_session *sessions[4];
        int32_t alone[4][ANSWER], together[4][ANSWER];
        require_ok(sluice_open(container[type], &open, &engine));
        for (int s = 0; s < 4; s++)
            require_ok(sluice_session_create(engine, &sessions[s]));
        for (unsigned s = 0; s < 4; s++)
            answer(engine, sessions, s, 1, alone);
        for (unsigned s = 0; s < 4; s += 2)
            answer(engine, sessions, s, 2, together);
        assert_memory_equal(alone, together, sizeof alone);
        answer(engine, sessions, 0, 4, together);
        assert_memory_equal(alone, together, sizeof alone);
        for (int s = 0; s < 4; s++)
            sluice_session_destroy(sessions[s]);
        sluice_close(engine);
    }
}

// If this fails, an impossible request crashes, is silently cut, or damages the session.
static void test_impossible_requests(void **state)
{
    (void)state;
    struct sluice_engine *engine;
    struct sluice_session *session, *second;
    assert_int_equal(sluice_open(container[0], &(struct sluice_options){.slots = 4}, &engine), SLUICE_ERR_ARGUMENT);
    assert_int_equal(sluice_open(container[0], &(struct sluice_options){.context_tokens = 5000}, &engine),
                     SLUICE_ERR_ARGUMENT);
    assert_int_equal(sluice_open(container[0], &(struct sluice_options){.vram_bytes = 1 << 20}, &engine),
                     SLUICE_ERR_BUDGET);
    assert_int_equal(
        sluice_open(container[0],
                    &(struct sluice_options){.ram_bytes = 4096, .expert_pool = SLUICE_EXPERT_POOL_SEPARATE}, &engine),
        SLUICE_ERR_BUDGET);
    assert_int_equal(sluice_open("/nonexistent.sluice", &(struct sluice_options){0}, &engine), SLUICE_ERR_IO);
    assert_null(engine);
    require_ok(sluice_open(container[0], &(struct sluice_options){.context_tokens = 16}, &engine));
    require_ok(sluice_session_create(engine, &session));
    assert_int_equal(sluice_session_create(engine, &second), SLUICE_ERR_ARGUMENT);
    assert_int_equal(sluice_prefill(session, ids, 17, NULL), SLUICE_ERR_ARGUMENT);
    assert_int_equal(sluice_prefill(session, (int32_t[]){1, 320}, 2, NULL), SLUICE_ERR_ARGUMENT);
    assert_int_equal(sluice_prefill(session, (int32_t[]){-1}, 1, NULL), SLUICE_ERR_ARGUMENT);
    assert_null(sluice_logits(session));
    require_ok(sluice_prefill(session, ids, 16, NULL));
    assert_int_equal(sluice_decode(engine, &session, ids, 1, NULL), SLUICE_ERR_ARGUMENT);
    assert_int_equal(sluice_session_tokens(session), 16);
    sluice_session_destroy(session);
    sluice_close(engine);
}

static bool cancel_at_once(void *user, double done)
{
    (void)done;
    return --*(int *)user > 0;
}

// If this fails, Ctrl-C in a long prompt leaves a session that answers nonsense.
static void test_cancelled_prefill_leaves_an_empty_session(void **state)
{
    (void)state;
    struct sluice_engine *engine;
    struct sluice_session *session;
    require_ok(sluice_open(container[0], &(struct sluice_options){.context_tokens = 128}, &engine));
    uint32_t vocab = sluice_engine_model(engine)->vocab;
    float *before = mem_alloc(vocab, sizeof *before);
    require_ok(sluice_session_create(engine, &session));
    require_ok(sluice_prefill(session, ids, 40, NULL));
    memcpy(before, sluice_logits(session), vocab * sizeof *before);
    for (int calls = 1; calls < 6; calls++) {
        int left = calls;
        struct sluice_prefill_options options = {.user = &left, .progress = cancel_at_once};
        assert_int_equal(sluice_prefill(session, ids, 30, &options), SLUICE_ERR_CANCELLED);
        assert_int_equal(sluice_session_tokens(session), 0);
        require_ok(sluice_prefill(session, ids, 40, NULL));
        assert_memory_equal(before, sluice_logits(session), vocab * sizeof *before);
    }
    sluice_session_destroy(session);
    sluice_close(engine);
    mem_free(before);
}

// If this fails, running out of memory while a model is opened crashes or leaks.
static void test_every_allocation_of_open_can_fail(void **state)
{
    (void)state;
    struct sluice_options open = {.context_tokens = 64, .cache_folder = fixture_cache()};
    for (uint64_t i = 0;; i += 1 + i / 16) {
        struct sluice_engine *engine;
        mem_fail_at(i);
        enum sluice_status status = sluice_open(container[0], &open, &engine);
        mem_fail_at(UINT64_MAX);
        if (status == SLUICE_OK) {
            sluice_close(engine);
            break;
        }
        assert_int_equal(status, SLUICE_ERR_MEMORY);
        assert_null(engine);
    }
}

// If this fails, programs that only know sluice.h get no tokenizer or template from the container, or a stale one.
static void test_documents(void **state)
{
    (void)state;
    struct sluice_engine *engine;
    const char *first, *second, *none = "untouched";
    size_t bytes, again;
    require_ok(sluice_open(container[0], &(struct sluice_options){.context_tokens = 64}, &engine));
    require_ok(sluice_document(engine, "config.json", &first, &bytes));
    assert_int_equal(strlen(first), bytes);
    assert_non_null(strstr(first, "\"model_type\""));
    require_ok(sluice_document(engine, "config.json", &second, &again));
    assert_ptr_equal(first, second);
    assert_int_equal(bytes, again);
    assert_int_equal(sluice_document(engine, "nonesuch.json", &none, &bytes), SLUICE_ERR_ARGUMENT);
    assert_non_null(strstr(error_message(), "nonesuch.json"));
    assert_string_equal(none, "untouched");
    sluice_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits_do_not_depend_on_slots_or_io),
        cmocka_unit_test(test_prefill_equals_decode_and_any_split),
        cmocka_unit_test(test_filled_session_behaves_like_a_long_text),
        cmocka_unit_test(test_sessions_together_equal_sessions_alone),
        cmocka_unit_test(test_two_and_four_sessions_answer_as_alone),
        cmocka_unit_test(test_impossible_requests),
        cmocka_unit_test(test_cancelled_prefill_leaves_an_empty_session),
        cmocka_unit_test(test_every_allocation_of_open_can_fail),
        cmocka_unit_test(test_documents),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
