// What goes wrong while a model is open: the file is changed, cut, replaced; the drive is slow; memory runs out; the
// user gives up. Each ends in a message or in the same bits as ever, and what is tried next works. Drives that fail or
// stutter: test_limits.c. The table of all faults: offload/README.md.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "tests/engine/engine_fixture.h"

enum { TOKENS = 24, STEPS = 3, SLOTS = 9 };

static char container[4096], other[4096];
static int32_t ids[TOKENS];
static uint8_t *original; // the container's bytes
static size_t original_bytes;
static float expected[2][FIXTURE_VOCAB]; // after the prompt, and after STEPS more tokens

// --- one engine -----------------------------------------------------------------------------------------------------

struct running {
    struct sluice_engine *engine;
    struct sluice_session *session;
};

// Of the engines to be opened.
static enum sluice_expert_pool pool;
static enum sluice_verify verify;

static struct running start_hooked(const struct engine_hooks *hooks)
{
    struct running r;
    struct sluice_options open = {.context_tokens = 64, .slots = SLOTS, .expert_pool = pool, .verify = verify};
    require_ok(engine_open_hooked(container, &open, hooks, &r.engine));
    require_ok(sluice_session_create(r.engine, &r.session));
    return r;
}

static struct running start(void)
{
    return start_hooked(&(struct engine_hooks){0});
}

static void end(struct running *r)
{
    sluice_session_destroy(r->session);
    sluice_close(r->engine);
}

static enum sluice_status prefill(struct running *r)
{
    enum sluice_status status = sluice_session_reset(r->session);
    return status < 0 ? status : sluice_prefill(r->session, ids, TOKENS, NULL);
}

static enum sluice_status decode(struct running *r)
{
    enum sluice_status status = SLUICE_OK;
    for (int i = 0; i < STEPS && status == SLUICE_OK; i++)
        status = sluice_decode(r->engine, &r->session, &ids[i], 1, NULL);
    return status;
}

// The engine computes what it always computes.
static void require_works(struct running *r)
{
    require_ok(prefill(r));
    assert_memory_equal(sluice_logits(r->session), expected[0], sizeof expected[0]);
    require_ok(decode(r));
    assert_memory_equal(sluice_logits(r->session), expected[1], sizeof expected[1]);
}

static void require_failed(struct running *r, enum sluice_status status, enum sluice_status wanted)
{
    if (status != wanted)
        fail_msg("%s instead of %s: %s", status_text(status), status_text(wanted), error_message());
    assert_int_equal(sluice_session_tokens(r->session), 0);
    assert_null(sluice_logits(r->session));
}

// --- fixture --------------------------------------------------------------------------------------------------------

static void write_original(void)
{
    int file = open(container, O_WRONLY | O_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(pwrite(file, original, original_bytes, 0), original_bytes);
    close(file);
}

static int setup(void **state)
{
    (void)state;
    fixture_container(fixture_config, 21, QUANT_Q4_K, container);
    fixture_container(fixture_config, 22, QUANT_Q4_K, other);
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (7 * i * i + 13 * i + 5) % FIXTURE_VOCAB;
    FILE *file = fopen(container, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    original_bytes = (size_t)ftell(file);
    rewind(file);
    original = mem_alloc(original_bytes, 1);
    assert_int_equal(fread(original, 1, original_bytes, file), original_bytes);
    fclose(file);
    struct running r = start();
    require_ok(prefill(&r));
    memcpy(expected[0], sluice_logits(r.session), sizeof expected[0]);
    require_ok(decode(&r));
    memcpy(expected[1], sluice_logits(r.session), sizeof expected[1]);
    end(&r);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mem_free(original);
    fixture_remove();
    return 0;
}

// --- the file -------------------------------------------------------------------------------------------------------

// Until the file was left alone for so long that experts that are right are not verified again.
static void settle(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 150000000}, NULL);
}

// Flips a bit in every expert of `layer`.
static void damage_layer(uint32_t layer)
{
    struct container *c;
    require_ok(container_open(container, &c));
    int file = open(container, O_WRONLY | O_CLOEXEC);
    assert_true(file >= 0);
    for (uint32_t expert = 0; expert < container_expert_layer(c, layer)->expert_count; expert++) {
        uint64_t offset = container_expert_offset(c, layer, expert) + 1000 + expert;
        uint8_t byte = original[offset] ^ 0x10;
        assert_int_equal(pwrite(file, &byte, 1, (off_t)offset), 1);
    }
    close(file);
    container_close(c);
}

// If this fails, a file that is overwritten, or a drive that returns wrong data, gives wrong answers; or the message
// does not tell the user where.
static void test_overwritten_experts_are_noticed(void **state)
{
    (void)state;
    struct running r = start();
    for (int decoding = 0; decoding < 2; decoding++) {
        settle();
        require_works(&r); // all experts that it reads are known to be right, by the second time at the latest
        require_works(&r);
        if (decoding)
            require_ok(prefill(&r));
        damage_layer(3);
        enum sluice_status status = decoding ? decode(&r) : prefill(&r);
        require_failed(&r, status, SLUICE_ERR_CHECKSUM);
        assert_non_null(strstr(error_message(), container));
        assert_non_null(strstr(error_message(), "layer 3 expert "));
        assert_non_null(strstr(error_message(), "file offset "));
        write_original();
    }
    require_works(&r);
    end(&r);
}

// If this fails, each token waits for checksums of experts that were found right before, or users who want every read
// verified do not get that.
static void test_experts_are_verified_as_often_as_asked_for(void **state)
{
    (void)state;
    for (int always = 0; always < 2; always++) {
        struct sluice_stats stats;
        verify = always ? SLUICE_VERIFY_ALWAYS : SLUICE_VERIFY_ONCE;
        settle();
        struct running r = start();
        require_works(&r);
        sluice_stats(r.engine, &stats);
        assert_true(stats.checksums > 0 && stats.checksums <= (always ? stats.expert_misses : stats.experts_total));
        sluice_stats_reset(r.engine);
        require_works(&r);
        sluice_stats(r.engine, &stats);
        assert_true(stats.expert_misses > 0);
        assert_int_equal(stats.checksums, always ? stats.expert_misses : 0);
        assert_true(always || stats.checksum_cpu_ns == 0);
        end(&r);
    }
    verify = SLUICE_VERIFY_ONCE;
}

// If this fails, a file that is cut while it is in use hangs the program or gives wrong answers.
static void test_cut_file_is_noticed(void **state)
{
    (void)state;
    struct running r = start();
    for (size_t part = 1; part < 4; part++) {
        require_works(&r);
        // Inside the last experts, at a page and inside one.
        assert_int_equal(truncate(container, (off_t)(original_bytes - part * part * 50000)), 0);
        require_failed(&r, prefill(&r), SLUICE_ERR_IO);
        assert_non_null(strstr(error_message(), container));
        assert_non_null(strstr(error_message(), "cut"));
        write_original();
    }
    require_works(&r);
    end(&r);
}

// If this fails, an update of the model file changes what a running program computes.
static void test_replaced_file_goes_on_as_the_old_one(void **state)
{
    (void)state;
    char aside[4200];
    struct running r = start();
    snprintf(aside, sizeof aside, "%s.aside", container);
    require_ok(prefill(&r));
    assert_int_equal(rename(container, aside), 0);
    assert_int_equal(rename(other, container), 0);
    require_works(&r);
    assert_int_equal(unlink(container), 0);
    require_works(&r);
    assert_int_equal(rename(aside, container), 0);
    end(&r);
}

// --- the drive ------------------------------------------------------------------------------------------------------

static bool cancel(void *user, double done)
{
    (void)done;
    return --*(int *)user > 0;
}

static enum sluice_status give_up(void *user, uint32_t layer, uint32_t first, uint32_t rows, const uint32_t *experts)
{
    (void)first;
    (void)rows;
    (void)experts;
    return layer == *(uint32_t *)user ? error_set(SLUICE_ERR_CANCELLED, "enough") : SLUICE_OK;
}

// If this fails, a very slow drive (a network, a disk that is dying) gives other answers, or cannot be given up on.
static void test_slow_drive(void **state)
{
    (void)state;
    static const struct reader_faults faults = {.delay_ns = 3000000}; // a fast drive answers in 0.03 ms
    struct running r = start_hooked(&(struct engine_hooks){.faults = &faults});
    int calls = 4;
    struct sluice_prefill_options options = {.user = &calls, .progress = cancel};
    require_failed(&r, sluice_prefill(r.session, ids, TOKENS, &options), SLUICE_ERR_CANCELLED);
    require_works(&r);
    struct sluice_stats stats;
    sluice_stats(r.engine, &stats);
    assert_true(stats.reading_ns > faults.delay_ns);
    end(&r);
}

// --- giving up ------------------------------------------------------------------------------------------------------

// If this fails, Ctrl-C between the layers of an answer's token leaves a session that answers nonsense.
static void test_given_up_in_mid_sweep(void **state)
{
    (void)state;
    struct running r = start();
    uint32_t layer;
    struct sluice_tap tap = {.user = &layer, .experts = give_up};
    struct sluice_prefill_options options = {.tap = &tap};
    for (layer = 0; layer < 5; layer++) {
        if (layer == 1)
            continue; // has no experts
        require_failed(&r, sluice_prefill(r.session, ids, TOKENS, &options), SLUICE_ERR_CANCELLED);
        assert_string_equal(error_message(), "enough");
        require_ok(prefill(&r));
        require_failed(&r, sluice_decode(r.engine, &r.session, ids, 1, &tap), SLUICE_ERR_CANCELLED);
        require_works(&r);
    }
    end(&r);
}

// --- memory ---------------------------------------------------------------------------------------------------------

// If this fails, a card that is full when a model is opened crashes the program, or memory of it is lost for good.
static void test_every_buffer_of_open_can_fail(void **state)
{
    (void)state;
    uint32_t failures = 0;
    for (int places = 0; places < 3; places++) { // without imports, with separate places, with one pool
        uint32_t opened = 0;                     // with imports: one more that open can do without
        for (uint32_t i = 1; opened <= (uint32_t)(places > 0); i++) {
            struct engine_hooks hooks = {.no_import = places == 0, .fail_buffer_at = i};
            struct running r;
            struct sluice_options open = {.context_tokens = 64, .slots = SLOTS};
            open.expert_pool = places == 1 ? SLUICE_EXPERT_POOL_SEPARATE : SLUICE_EXPERT_POOL_AUTO;
            enum sluice_status status = engine_open_hooked(container, &open, &hooks, &r.engine);
            if (status < 0) {
                failures++;
                assert_int_equal(status, SLUICE_ERR_DEVICE_MEMORY);
                assert_non_null(strstr(error_message(), "out of "));
                assert_null(r.engine);
                continue;
            }
            require_ok(sluice_session_create(r.engine, &r.session));
            if (opened++ == 0)
                require_works(&r);
            end(&r);
        }
    }
    print_message("%u buffers failed\n", failures);
    assert_true(failures > 10);
}

// If this fails, a machine without free memory crashes in mid-answer or goes on with wrong numbers.
static void test_every_allocation_while_running_can_fail(void **state)
{
    (void)state;
    struct running r = start();
    uint32_t failures = 0, complete = 0;
    // What was made before a failure stays, so later runs allocate less: until three had nothing that could fail.
    for (uint64_t i = 0; complete < 3; i++) {
        mem_fail_at(i);
        enum sluice_status status = prefill(&r);
        if (status == SLUICE_OK)
            status = decode(&r);
        complete = mem_failure_pending() ? complete + 1 : 0;
        mem_fail_at(UINT64_MAX);
        failures += complete == 0;
        if (status < 0)
            require_failed(&r, status, SLUICE_ERR_MEMORY);
        else // what only saves time is done without
            assert_memory_equal(sluice_logits(r.session), expected[1], sizeof expected[1]);
    }
    print_message("%u allocations failed\n", failures);
    assert_true(failures > 0);
    require_works(&r);
    end(&r);
}

// If this fails, a driver that is short of memory for a moment leaves a session that is said to be empty and goes on
// with what the text before left in it. Three in a row: what was under way, emptying the session, and the next attempt.
static void test_every_submission_can_fail(void **state)
{
    (void)state;
    struct running r = start();
    uint32_t failures = 0;
    enum sluice_status status = SLUICE_ERR_DEVICE_MEMORY;
    for (uint64_t i = 0; status < 0; i += 1 + i / 8) {
        gpu_submit_fail(r.engine->device, i, 3);
        status = prefill(&r);
        if (status == SLUICE_OK)
            status = decode(&r);
        if (status == SLUICE_OK)
            break;
        assert_non_null(strstr(error_message(), "close other programs")); // and not what emptying the session said
        require_failed(&r, status, SLUICE_ERR_DEVICE_MEMORY);
        failures++;
        while (sluice_prefill(r.session, ids, TOKENS, NULL) < 0)
            require_failed(&r, SLUICE_ERR_DEVICE_MEMORY, SLUICE_ERR_DEVICE_MEMORY);
        assert_memory_equal(sluice_logits(r.session), expected[0], sizeof expected[0]);
        gpu_submit_fail(r.engine->device, 0, 0);
        require_ok(decode(&r));
        assert_memory_equal(sluice_logits(r.session), expected[1], sizeof expected[1]);
    }
    gpu_submit_fail(r.engine->device, 0, 0);
    print_message("%u submissions failed\n", failures);
    assert_true(failures > 8);
    require_works(&r);
    end(&r);
}

static int use_separate_places(void **state)
{
    (void)state;
    pool = SLUICE_EXPERT_POOL_SEPARATE;
    return 0;
}

static int use_default_places(void **state)
{
    (void)state;
    pool = SLUICE_EXPERT_POOL_AUTO;
    return 0;
}

int main(void)
{
#define SEPARATE(test) cmocka_unit_test_setup_teardown(test, use_separate_places, use_default_places)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overwritten_experts_are_noticed),
        SEPARATE(test_overwritten_experts_are_noticed),
        cmocka_unit_test(test_experts_are_verified_as_often_as_asked_for),
        SEPARATE(test_experts_are_verified_as_often_as_asked_for),
        cmocka_unit_test(test_cut_file_is_noticed),
        SEPARATE(test_cut_file_is_noticed),
        SEPARATE(test_replaced_file_goes_on_as_the_old_one),
        cmocka_unit_test(test_slow_drive),
        SEPARATE(test_slow_drive),
        cmocka_unit_test(test_given_up_in_mid_sweep),
        SEPARATE(test_given_up_in_mid_sweep),
        cmocka_unit_test(test_every_buffer_of_open_can_fail),
        cmocka_unit_test(test_every_allocation_while_running_can_fail),
        cmocka_unit_test(test_every_submission_can_fail),
        SEPARATE(test_every_submission_can_fail),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
