// What is read from the drive, when, and what stays: of every expert once per prompt, and little of the host's time.
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "offload/reader.h"
#include "runtime/base/mem.h"
#include "tests/engine/engine_fixture.h"

// Of fixture_config: layer 1 is dense. A prompt of TOKENS surely uses all experts when they are drawn evenly.
enum { TOKENS = 90, LAYERS = 5, MOE_LAYERS = 4, EXPERTS = 24, TOP_K = 5 };

static char container[4096];
static int32_t ids[TOKENS];

static int setup(void **state)
{
    (void)state;
    fixture_container(fixture_config, 9, QUANT_Q4_K, container);
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (11 * i * i + 3 * i + 1) % FIXTURE_VOCAB;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_remove();
    return 0;
}

struct test_run {
    struct sluice_engine *engine;
    struct sluice_session *session;
};

static struct test_run open_run(const struct sluice_options *options, const struct engine_hooks *hooks)
{
    struct test_run run;
    struct sluice_options open = *options;
    open.context_tokens = 2 * TOKENS;
    open.cache_folder = fixture_cache();
    require_ok(engine_open_hooked(container, &open, hooks ? hooks : &(struct engine_hooks){0}, &run.engine));
    require_ok(sluice_session_create(run.engine, &run.session));
    return run;
}

static void close_run(struct test_run *run)
{
    sluice_session_destroy(run->session);
    sluice_close(run->engine);
}

static struct sluice_stats stats_of(const struct test_run *run)
{
    struct sluice_stats stats;
    sluice_stats(run->engine, &stats);
    return stats;
}

// Uses of experts, from the tap: how often by the last tokens of the prompt, and by the last call at all.
struct uses {
    uint32_t tail[LAYERS][EXPERTS], all[LAYERS][EXPERTS];
    uint32_t tail_begin;
};

static enum sluice_status count_uses(void *user, uint32_t layer, uint32_t first, uint32_t rows, const uint32_t *picks)
{
    struct uses *uses = user;
    for (uint32_t i = 0; i < rows * TOP_K; i++) {
        uses->all[layer][picks[i]]++;
        uses->tail[layer][picks[i]] += first + i / TOP_K >= uses->tail_begin;
    }
    return SLUICE_OK;
}

static uint32_t count_used(const struct uses *uses)
{
    uint32_t used = 0;
    for (int layer = 0; layer < LAYERS; layer++)
        for (int expert = 0; expert < EXPERTS; expert++)
            used += uses->all[layer][expert] > 0;
    return used;
}

// A document would take several times as long: every expert that is used is read once, and no other.
static void test_a_prompt_reads_what_it_uses_once(void **state)
{
    (void)state;
    static const uint32_t slots[] = {5, 13, 40, 96};
    for (int routing = SLUICE_ROUTING_MODEL; routing <= SLUICE_ROUTING_RECORDED; routing++)
        for (size_t i = routing == SLUICE_ROUTING_MODEL ? 2 : 0; i < sizeof slots / sizeof *slots; i++) {
            struct uses uses = {0};
            struct sluice_tap tap = {&uses, .experts = count_uses};
            struct sluice_prefill_options prefill = {.tap = &tap};
            struct sluice_options options = {.slots = slots[i], .routing = (enum sluice_routing)routing};
            options.expert_pool = ((size_t)routing + i) % 2 ? SLUICE_EXPERT_POOL_SEPARATE : SLUICE_EXPERT_POOL_AUTO;
            struct test_run run = open_run(&options, NULL);
            require_ok(sluice_prefill(run.session, ids, TOKENS, &prefill));
            struct sluice_stats stats = stats_of(&run);
            uint64_t reads = stats.expert_bytes_read / stats.expert_bytes;
            assert_int_equal(reads, count_used(&uses) + stats.expert_reads_wasted);
            if (routing == SLUICE_ROUTING_UNIFORM)
                assert_int_equal(stats.expert_reads_wasted, 0);
            require_ok(sluice_prefill(run.session, ids, TOKENS, &prefill)); // what is there is not read again
            uint64_t reads_again = stats_of(&run).expert_bytes_read / stats.expert_bytes - reads;
            assert_true(reads_again < count_used(&uses));
            stats = stats_of(&run);
            if (slots[i] == MOE_LAYERS * EXPERTS && stats.unified) // what was read in vain stays there
                assert_true(stats.expert_misses >= count_used(&uses) && stats.expert_misses <= MOE_LAYERS * EXPERTS);
            else if (slots[i] == MOE_LAYERS * EXPERTS)
                assert_int_equal(stats.expert_misses - stats.expert_reads_wasted, count_used(&uses));
            close_run(&run);
        }
}

static float largest_difference(const float *a, const float *b, size_t count)
{
    float largest = 0;
    for (size_t i = 0; i < count; i++)
        if (!(fabsf(a[i] - b[i]) <= largest))
            largest = fabsf(a[i] - b[i]);
    return largest;
}

// A prompt that is too long for the memory of activations would be refused, or understood differently.
static void test_a_long_prompt_goes_in_few_passes(void **state)
{
    (void)state;
    struct outcome whole, cut;
    struct outcome_options options = {.engine.kv = SLUICE_KV_F32, .engine.slots = 30, .greedy_count = 4};
    outcome_compute(container, ids, TOKENS, &options, &whole);
    for (uint32_t passes = 2; passes <= 5; passes++) {
        options.hooks.passes = passes;
        outcome_compute(container, ids, TOKENS, &options, &cut);
        assert_true(largest_difference(whole.logits, cut.logits, (size_t)TOKENS * whole.vocab) <= 5e-3f);
        assert_memory_equal(whole.greedy, cut.greedy, 4 * sizeof *whole.greedy);
        outcome_finish(&cut);
        struct test_run run = open_run(&(struct sluice_options){.slots = 5, .routing = SLUICE_ROUTING_UNIFORM},
                                       &(struct engine_hooks){.passes = passes});
        require_ok(sluice_prefill(run.session, ids, TOKENS, NULL)); // open_run's context is twice as long
        uint64_t reads = stats_of(&run).expert_bytes_read / stats_of(&run).expert_bytes;
        assert_true(reads <= (uint64_t)(passes + 1) / 2 * MOE_LAYERS * EXPERTS);
        close_run(&run);
    }
    outcome_finish(&whole);
}

static void check_tail(enum sluice_expert_pool pool)
{
    enum { SLOTS = 60, KEPT = (SLOTS - SLOTS / 2) / MOE_LAYERS };
    struct uses prompt = {0}, step = {0};
    struct test_run run = open_run(&(struct sluice_options){.slots = SLOTS, .expert_pool = pool}, NULL);
    struct sluice_tap prompt_tap = {&prompt, .experts = count_uses}, step_tap = {&step, .experts = count_uses};
    require_ok(sluice_prefill(run.session, ids, TOKENS, &(struct sluice_prefill_options){.tap = &prompt_tap}));
    sluice_stats_reset(run.engine);
    require_ok(sluice_decode(run.engine, &run.session, &ids[7], 1, &step_tap));
    uint32_t expected = 0;
    for (int layer = 0; layer < LAYERS; layer++)
        for (int expert = 0; expert < EXPERTS; expert++) {
            uint32_t above = 0; // experts that the tail used as often or more often
            for (int other = 0; other < EXPERTS; other++)
                above += other != expert && prompt.tail[layer][other] >= prompt.tail[layer][expert];
            expected += step.all[layer][expert] > 0 && prompt.tail[layer][expert] > 0 && above < KEPT;
        }
    assert_true(expected > 0);
    assert_true(stats_of(&run).expert_hits_device >= expected);
    close_run(&run);
}

// The first words of the answer would wait for experts that the end of the prompt had just used.
static void test_the_prompts_tail_seeds_the_cache(void **state)
{
    (void)state;
    check_tail(SLUICE_EXPERT_POOL_AUTO);
    check_tail(SLUICE_EXPERT_POOL_SEPARATE);
}

static void count_copies(void *user, const char *label, uint64_t total_ns, uint64_t count)
{
    (void)total_ns;
    if (strcmp(label, "copy") == 0)
        *(uint64_t *)user += count;
}

static struct sluice_stats measure(bool io_only, bool decode, enum sluice_expert_pool pool)
{
    struct sluice_options options = {
        .slots = 30, .routing = SLUICE_ROUTING_UNIFORM, .io_only = io_only, .expert_pool = pool, .timestamps = true};
    struct test_run run = open_run(&options, NULL);
    uint64_t copies = 0, before = 0;
    sluice_gpu_times(run.engine, count_copies, &before);
    if (!decode)
        require_ok(sluice_prefill(run.session, ids, TOKENS, NULL));
    for (int i = 0; decode && i < 12; i++)
        require_ok(sluice_decode(run.engine, &run.session, &ids[i], 1, NULL));
    struct sluice_stats stats = stats_of(&run);
    assert_non_null(sluice_logits(run.session));
    // A row of each token whose logits are computed; of a decoded one its position, too.
    uint64_t others = io_only ? 0 : decode ? 2 * 12 : 1;
    sluice_gpu_times(run.engine, count_copies, &copies);
    assert_int_equal(copies - before, others + (stats.unified ? 0 : stats.expert_misses));
    close_run(&run);
    return stats;
}

// The measurement of the drive would tell of other reads than those of real work.
static void test_reading_without_computing_reads_the_same(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        enum sluice_expert_pool pool = i / 2 ? SLUICE_EXPERT_POOL_SEPARATE : SLUICE_EXPERT_POOL_AUTO;
        struct sluice_stats computed = measure(false, i % 2, pool), read = measure(true, i % 2, pool);
        assert_int_equal(computed.expert_misses, read.expert_misses);
        assert_int_equal(computed.expert_hits_device, read.expert_hits_device);
        assert_int_equal(computed.expert_bytes_read, read.expert_bytes_read);
        assert_true(computed.dispatches > 0 && read.dispatches == 0);
    }
    struct sluice_engine *engine;
    assert_int_equal(sluice_open(container, &(struct sluice_options){.io_only = true}, &engine), SLUICE_ERR_ARGUMENT);
    assert_null(engine);
}

// Each token would pay for round trips to the device that it does not need.
static void test_a_token_takes_two_submissions_per_layer(void **state)
{
    (void)state;
    enum { STEPS = 8 };
    static const uint32_t slots[] = {5, 30, 96};
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        struct test_run run = open_run(&(struct sluice_options){.slots = slots[i]}, NULL);
        for (int step = 0; step < STEPS; step++)
            require_ok(sluice_decode(run.engine, &run.session, &ids[step], 1, NULL));
        sluice_stats_reset(run.engine);
        for (int step = 0; step < STEPS; step++)
            require_ok(sluice_decode(run.engine, &run.session, &ids[step], 1, NULL));
        assert_true(stats_of(&run).submits <= 2 * LAYERS * STEPS);
        if (slots[i] == 96)
            assert_true(stats_of(&run).submits <= (LAYERS + 1) * STEPS);
        close_run(&run);
    }
}

// Each token would pay for descriptor sets that the token before it had.
static void test_tokens_bind_the_same_ranges(void **state)
{
    (void)state;
    enum { STEPS = 8 };
    struct test_run run = open_run(&(struct sluice_options){.slots = MOE_LAYERS * EXPERTS}, NULL);
    require_ok(sluice_prefill(run.session, ids, TOKENS, NULL)); // then all experts are on the device
    for (int round = 0; round < 3; round++) {
        sluice_stats_reset(run.engine);
        for (int step = 0; step < STEPS; step++)
            require_ok(sluice_decode(run.engine, &run.session, &ids[step], 1, NULL));
        if (round > 0)
            assert_int_equal(stats_of(&run).sets_filled, 0);
    }
    close_run(&run);
}

static bool cancel_after(void *user, double done)
{
    assert_true(done >= 0 && done <= 1);
    return --*(int *)user > 0;
}

// Interrupted at any moment, or after a drive's error, the next prompt would be answered from experts that were never
// there, or the program would hang.
static void test_whatever_ends_a_prompt_the_next_is_right(void **state)
{
    (void)state;
    static const uint32_t slots[] = {5, 30, 13};
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        struct sluice_options options = {.slots = slots[i], .routing = SLUICE_ROUTING_MODEL};
        options.expert_pool = i % 2 ? SLUICE_EXPERT_POOL_SEPARATE : SLUICE_EXPERT_POOL_AUTO;
        struct test_run run = open_run(&options, NULL);
        uint32_t vocab = sluice_engine_model(run.engine)->vocab;
        float *good = mem_alloc(vocab, sizeof *good);
        require_ok(sluice_prefill(run.session, ids, TOKENS, NULL));
        memcpy(good, sluice_logits(run.session), vocab * sizeof *good);
        for (int calls = 1; calls < 40; calls += 9) {
            int left = calls;
            struct sluice_prefill_options cancel = {.user = &left, .progress = cancel_after};
            require_ok(sluice_session_reset(run.session));
            if (sluice_prefill(run.session, ids, TOKENS, &cancel) == SLUICE_OK)
                break;
            require_ok(sluice_prefill(run.session, ids, TOKENS, NULL));
            assert_memory_equal(good, sluice_logits(run.session), vocab * sizeof *good);
        }
        close_run(&run);
        uint32_t failures = 0; // a read ahead is tried again
        for (uint32_t at = 1; at < 96; at += 23) {
            struct reader_faults faults = {.error_at = at, .error = EBADF};
            run = open_run(&options, &(struct engine_hooks){.faults = &faults});
            enum sluice_status status = sluice_prefill(run.session, ids, TOKENS, NULL);
            if (status < 0) {
                failures++;
                assert_int_equal(status, SLUICE_ERR_IO);
                assert_non_null(strstr(error_message(), "expert"));
                assert_int_equal(sluice_session_tokens(run.session), 0);
                require_ok(sluice_prefill(run.session, ids, TOKENS, NULL));
            }
            assert_memory_equal(good, sluice_logits(run.session), vocab * sizeof *good);
            close_run(&run);
        }
        assert_true(failures > 0);
        mem_free(good);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_prompt_reads_what_it_uses_once),
        cmocka_unit_test(test_a_long_prompt_goes_in_few_passes),
        cmocka_unit_test(test_the_prompts_tail_seeds_the_cache),
        cmocka_unit_test(test_reading_without_computing_reads_the_same),
        cmocka_unit_test(test_a_token_takes_two_submissions_per_layer),
        cmocka_unit_test(test_tokens_bind_the_same_ranges),
        cmocka_unit_test(test_whatever_ends_a_prompt_the_next_is_right),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
