// What brings expert records, by its own thread and by the caller's: everything arrives verified, whatever fails is
// said, nothing is left behind.
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include <cmocka.h>

#include "container_sample.h"
#include "offload/loader.h"
#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "tests/offload/pinned_memory.h"

enum { RECORD_BYTES_MAX = 8192, SLOTS = 6 };

static char folder[64], path[96];
static struct container *container;
static uint8_t *memory; // [SLOTS][RECORD_BYTES_MAX]

// The sample's experts, numbered through.
static const struct {
    uint32_t layer, expert, bytes;
} experts[SAMPLE_EXPERTS] = {{0, 0, 4096}, {0, 1, 4096}, {0, 2, 4096}, {2, 0, 8192}, {2, 1, 8192}};

static int set_up(void **state)
{
    (void)state;
    folder_create(folder, false);
    snprintf(path, sizeof path, "%s/sample.sluice", folder);
    sample_write(path);
    assert_int_equal(container_open(path, &container), SLUICE_OK);
    memory = aligned_alloc(4096, (size_t)SLOTS * RECORD_BYTES_MAX);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(memory);
    container_close(container);
    folder_remove(folder);
    return 0;
}

static struct loader *open_with(const struct loader_options *options)
{
    struct loader *loader;
    enum sluice_status status = loader_create(container, options, &loader);
    if (status == SLUICE_ERR_UNSUPPORTED)
        skip();
    assert_int_equal(status, SLUICE_OK);
    return loader;
}

static struct loader *open_loader(enum reader_kind kind, const struct reader_faults *faults)
{
    return open_with(
        &(struct loader_options){.reader = {.kind = kind, .depth = 3, .faults = faults}, .capacity = SLOTS});
}

static struct loader *open_verifying(enum loader_verify verify)
{
    return open_with(&(struct loader_options){.reader = {.depth = 3}, .capacity = SLOTS, .verify = verify});
}

static uint8_t *slot(uint32_t index)
{
    return memory + (size_t)index * RECORD_BYTES_MAX;
}

static enum loader_by by; // who reads; all tests run both ways
static bool alternates;   // it is somebody else now and then

static void submit(struct loader *loader, uint32_t index, uint32_t number)
{
    struct loader_request request = {experts[number].layer, experts[number].expert, slot(index), index << 8 | number};
    memset(slot(index), 0xEE, RECORD_BYTES_MAX);
    loader_submit(loader, &request, 1, by);
}

static void assert_record(uint32_t index, uint32_t number)
{
    uint8_t wanted[RECORD_BYTES_MAX];
    sample_expert(experts[number].layer, experts[number].expert, wanted);
    assert_memory_equal(slot(index), wanted, experts[number].bytes);
}

// Reads at random, as slots get free, until `total` came.
static void load_many(struct loader *loader, uint32_t total)
{
    uint64_t random = 11;
    uint32_t submitted = 0, collected = 0, free_slots[SLOTS], free_count = 0;
    for (uint32_t i = 0; i < SLOTS; i++)
        free_slots[free_count++] = i;
    while (collected < total) {
        struct loader_completion done[SLOTS];
        if (alternates)
            by = random_next(&random) % 2 ? LOADER_BY_THREAD : LOADER_BY_CALLER;
        while (submitted < total && free_count > 0 && random_next(&random) % 4 != 0) {
            assert_true(loader_space(loader) > 0);
            submit(loader, free_slots[--free_count], (uint32_t)(random_next(&random) % SAMPLE_EXPERTS));
            submitted++;
        }
        uint32_t count = loader_collect(loader, (uint32_t)(random_next(&random) % 4), SLOTS, done);
        for (uint32_t i = 0; i < count; i++) {
            assert_null(done[i].failure);
            assert_record((uint32_t)done[i].tag >> 8, done[i].tag & 255);
            free_slots[free_count++] = (uint32_t)done[i].tag >> 8;
        }
        collected += count;
    }
    assert_int_equal(loader_space(loader), SLOTS);
}

static void loads(enum reader_kind kind)
{
    const struct reader_faults faults = {.short_every = 3};
    for (int i = 0; i < 2; i++) {
        struct loader *loader = open_loader(kind, i ? &faults : NULL);
        load_many(loader, 500);
        struct loader_statistics statistics = loader_statistics(loader);
        assert_int_equal(statistics.reader.requests, 500);
        assert_true(statistics.reader.bytes > 500 * 4096);
        assert_true(statistics.cpu_ns > 0 && statistics.cpu_ns >= statistics.caller_cpu_ns);
        assert_true(alternates || (statistics.caller_cpu_ns > 0) == (by == LOADER_BY_CALLER));
        assert_true(statistics.wait_cpu_ns > 0);
        loader_destroy(loader);
    }
}

// The model would compute with weights that are not there yet, or are another expert's.
static void uring_loads_what_was_asked_for(void **state)
{
    (void)state;
    loads(READER_URING);
}

static void pread_loads_what_was_asked_for(void **state)
{
    (void)state;
    loads(READER_PREAD);
}

// After a prompt the tokens' reads would hang, or get another one's records.
static void the_reader_changes_hands(void **state)
{
    (void)state;
    enum loader_by before = by;
    alternates = true;
    loads(READER_PREAD);
    loads(READER_URING);
    alternates = false;
    by = before;
}

static void *load_some(void *user)
{
    load_many(user, 20);
    return NULL;
}

// A server that serves each request on another thread would hang once it decodes.
static void callers_may_take_turns(void **state)
{
    (void)state;
    const enum reader_kind kinds[] = {READER_PREAD, READER_URING};
    for (int i = 0; i < 2; i++) {
        struct loader *loader = open_loader(kinds[i], NULL);
        for (int n = 0; n < 10; n++) {
            pthread_t thread;
            assert_int_equal(pthread_create(&thread, NULL, load_some, loader), 0);
            pthread_join(thread, NULL);
            load_many(loader, 20);
        }
        loader_destroy(loader);
    }
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
    (void)number;
    signals++;
}

// A terminal that changes its size, or Ctrl-C while the caller waits for the drive, would end an answer, or hand out
// records that are not there.
static void signals_do_not_end_a_wait(void **state)
{
    (void)state;
    const enum reader_kind kinds[] = {READER_PREAD, READER_URING};
    const struct reader_faults slow = {.delay_ns = 5000000};
    const struct itimerval often = {{.tv_usec = 300}, {.tv_usec = 300}}, never = {0};
    struct sigaction action = {.sa_handler = count_signal}, before;
    sigaction(SIGALRM, &action, &before);
    for (int i = 0; i < 2; i++) {
        struct loader *loader = open_loader(kinds[i], &slow);
        signals = 0;
        setitimer(ITIMER_REAL, &often, NULL);
        load_many(loader, 20);
        setitimer(ITIMER_REAL, &never, NULL);
        assert_true(signals > 0);
        loader_destroy(loader);
    }
    sigaction(SIGALRM, &before, NULL);
}

// With io_uring failing in mid-work the program would hang, or compute with what was in memory.
static void a_broken_ring_fails_everything(void **state)
{
    (void)state;
    struct reader_faults faults = {.ring_error = EBADF};
    struct loader *loader = open_loader(READER_URING, &faults);
    for (int n = 0; n < 3; n++) {
        struct loader_completion done[SLOTS];
        uint32_t count = 0;
        for (uint32_t i = 0; i < SLOTS; i++)
            submit(loader, i, i % SAMPLE_EXPERTS);
        while (loader_space(loader) < SLOTS)
            count += loader_collect(loader, SLOTS, SLOTS, done + count);
        assert_int_equal(count, SLOTS);
        for (uint32_t i = n > 0 ? 0 : SLOTS - 1; i < SLOTS; i++) { // what had come before it broke is good
            assert_int_equal(error_restore(done[i].failure), SLUICE_ERR_IO);
            assert_non_null(strstr(error_message(), "io_uring failed"));
        }
    }
    loader_region_shrink(loader, 0);
    loader_destroy(loader);
}

// A failing drive would end in a hang or in an answer from garbage; or one bad expert would take good ones with it.
static void failures_name_the_expert_and_spare_the_others(void **state)
{
    (void)state;
    struct reader_faults faults = {.error_at = 2, .error = EBADF};
    struct loader *loader = open_loader(READER_AUTO, &faults);
    struct loader_completion done[3];
    for (uint32_t i = 0; i < 3; i++)
        submit(loader, i, i + 2);
    for (uint32_t count = 0; count < 3;)
        count += loader_collect(loader, 3, 3 - count, done + count);
    uint32_t failures = 0;
    for (uint32_t i = 0; i < 3; i++) {
        if (done[i].tag == (1u << 8 | 3)) {
            assert_int_equal(error_restore(done[i].failure), SLUICE_ERR_IO);
            assert_non_null(strstr(error_message(), "layer 2, expert 0"));
            failures++;
        } else {
            assert_null(done[i].failure);
            assert_record((uint32_t)done[i].tag >> 8, done[i].tag & 255);
        }
    }
    assert_int_equal(failures, 1);
    load_many(loader, 20);
    loader_destroy(loader);
}

// Reads every expert `times` times, and returns how many checksums were computed meanwhile.
static uint64_t count_checksums(struct loader *loader, uint32_t times)
{
    uint64_t before = loader_statistics(loader).checksums;
    for (uint32_t i = 0; i < times * SAMPLE_EXPERTS; i++) {
        struct loader_completion done;
        submit(loader, 0, i % SAMPLE_EXPERTS);
        assert_int_equal(loader_collect(loader, 1, 1, &done), 1);
        assert_null(done.failure);
        assert_record(0, i % SAMPLE_EXPERTS);
    }
    return loader_statistics(loader).checksums - before;
}

// Until the file was left alone for long enough.
static void settle(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 150000000}, NULL);
}

// Every token would cost milliseconds for checksums of experts that are known to be right; or they would never be
// looked at; or those who want each read verified would not get it.
static void checksums_are_computed_as_often_as_asked_for(void **state)
{
    (void)state;
    const struct {
        enum loader_verify verify;
        uint64_t first, then;
    } cases[] = {{LOADER_VERIFY_ONCE, SAMPLE_EXPERTS, 0},
                 {LOADER_VERIFY_ALWAYS, SAMPLE_EXPERTS, 3 * SAMPLE_EXPERTS},
                 {LOADER_VERIFY_NEVER, 0, 0}};
    settle();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct loader *loader = open_verifying(cases[i].verify);
        assert_int_equal(count_checksums(loader, 1), cases[i].first);
        assert_int_equal(count_checksums(loader, 3), cases[i].then);
        loader_destroy(loader);
    }
}

static void flip_bit(uint32_t number)
{
    FILE *file = fopen(path, "r+b");
    uint64_t offset = container_expert_offset(container, experts[number].layer, experts[number].expert) + 1234;
    assert_non_null(file);
    fseek(file, (long)offset, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, (long)offset, SEEK_SET);
    fputc(byte ^ 4, file);
    fclose(file);
}

static void assert_damaged(struct loader *loader, uint32_t number)
{
    struct loader_completion done;
    submit(loader, 0, number);
    assert_int_equal(loader_collect(loader, 1, 1, &done), 1);
    assert_int_equal(error_restore(done.failure), SLUICE_ERR_CHECKSUM);
    assert_non_null(strstr(error_message(), "expert 1"));
}

// A file that is overwritten after its experts were found right would be computed with.
static void a_changed_file_is_verified_again(void **state)
{
    (void)state;
    settle();
    struct loader *loader = open_verifying(LOADER_VERIFY_ONCE);
    assert_int_equal(count_checksums(loader, 1), SAMPLE_EXPERTS);
    for (int i = 0; i < 3; i++) {
        flip_bit(4);
        assert_damaged(loader, 4);
        assert_damaged(loader, 4);
        flip_bit(4);
        (void)count_checksums(loader, 2);
        settle();
        (void)count_checksums(loader, 2); // the first of them notice that the file has come to rest
        assert_int_equal(count_checksums(loader, 1), 0);
    }
    loader_destroy(loader);
}

// Within a tick of the kernel's clock a file can change twice and look as if it had changed once: what was read between
// would pass for verified.
static void a_file_that_was_just_written_is_not_trusted(void **state)
{
    (void)state;
    bool fast = false; // else the machine was too busy to say
    for (int i = 0; i < 100 && !fast; i++) {
        struct timespec from, to;
        struct loader *loader = open_verifying(LOADER_VERIFY_ONCE);
        clock_gettime(CLOCK_MONOTONIC, &from);
        flip_bit(4);
        flip_bit(4);
        uint64_t checksums = count_checksums(loader, 2);
        clock_gettime(CLOCK_MONOTONIC, &to);
        fast = (to.tv_sec - from.tv_sec) * 1000000000 + to.tv_nsec - from.tv_nsec < 80000000;
        if (fast)
            assert_int_equal(checksums, 2 * SAMPLE_EXPERTS);
        loader_destroy(loader);
    }
    if (!fast)
        skip();
}

// A flipped bit on the drive would go unnoticed.
static void damaged_records_are_refused(void **state)
{
    (void)state;
    const enum loader_verify verify[] = {LOADER_VERIFY_ONCE, LOADER_VERIFY_ALWAYS, LOADER_VERIFY_NEVER};
    flip_bit(1);
    for (int i = 0; i < 3; i++) {
        struct loader_completion done;
        struct loader *loader = open_verifying(verify[i]);
        if (verify[i] == LOADER_VERIFY_NEVER) {
            submit(loader, 0, 1);
            assert_int_equal(loader_collect(loader, 1, 1, &done), 1);
            assert_null(done.failure);
        } else {
            assert_damaged(loader, 1);
        }
        loader_destroy(loader);
    }
    flip_bit(1);
}

// Leaving in the middle of a document would let the drive write into memory that is somebody else's by then.
static void destroying_waits_for_what_is_in_flight(void **state)
{
    (void)state;
    const enum reader_kind kinds[] = {READER_PREAD, READER_URING};
    for (int n = 0; n < 40; n++) {
        struct loader *loader = open_loader(kinds[n % 2], NULL);
        for (uint32_t i = 0; i < SLOTS; i++)
            submit(loader, i, i % SAMPLE_EXPERTS);
        loader_destroy(loader);
        memset(memory, 0x55, (size_t)SLOTS * RECORD_BYTES_MAX);
    }
    for (size_t i = 0; i < (size_t)SLOTS * RECORD_BYTES_MAX; i++)
        assert_int_equal(memory[i], 0x55);
}

// Slots that were given back would stay in memory, or reads into the others fail.
static void a_smaller_region_is_let_go(void **state)
{
    (void)state;
    const enum reader_kind kinds[] = {READER_PREAD, READER_URING};
    for (int i = 0; i < 2; i++)
        for (int used = 0; used < 2; used++) {
            struct loader *loader;
            struct loader_options options = {.reader = {.kind = kinds[i],
                                                        .depth = 3,
                                                        .region = memory,
                                                        .region_bytes = (uint64_t)SLOTS * RECORD_BYTES_MAX,
                                                        .region_unit_bytes = RECORD_BYTES_MAX},
                                             .capacity = SLOTS};
            enum sluice_status status = loader_create(container, &options, &loader);
            if (status == SLUICE_ERR_UNSUPPORTED)
                skip();
            assert_int_equal(status, SLUICE_OK);
            unsigned long all = pinned_kilobytes();
            if (used)
                load_many(loader, 30);
            loader_region_shrink(loader, 2ull * RECORD_BYTES_MAX);
            if (all > 0)
                assert_int_equal(pinned_kilobytes(), all / SLOTS * 2);
            load_many(loader, 30);
            loader_region_shrink(loader, 0);
            assert_int_equal(pinned_kilobytes(), 0);
            load_many(loader, 30);
            loader_destroy(loader);
        }
}

// A small machine would crash instead of saying that it is too small.
static void every_failed_allocation_is_an_error(void **state)
{
    (void)state;
    for (uint64_t at = 0;; at++) {
        struct loader *loader;
        struct loader_options options = {.reader = {.depth = 2}, .capacity = 2};
        mem_fail_at(at);
        enum sluice_status status = loader_create(container, &options, &loader);
        mem_fail_at(UINT64_MAX);
        if (status == SLUICE_OK) {
            loader_destroy(loader);
            break;
        }
        assert_int_equal(status, SLUICE_ERR_MEMORY);
        assert_null(loader);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uring_loads_what_was_asked_for),
        cmocka_unit_test(pread_loads_what_was_asked_for),
        cmocka_unit_test(the_reader_changes_hands),
        cmocka_unit_test(callers_may_take_turns),
        cmocka_unit_test(signals_do_not_end_a_wait),
        cmocka_unit_test(a_broken_ring_fails_everything),
        cmocka_unit_test(failures_name_the_expert_and_spare_the_others),
        cmocka_unit_test(checksums_are_computed_as_often_as_asked_for),
        cmocka_unit_test(a_changed_file_is_verified_again),
        cmocka_unit_test(a_file_that_was_just_written_is_not_trusted),
        cmocka_unit_test(damaged_records_are_refused),
        cmocka_unit_test(destroying_waits_for_what_is_in_flight),
        cmocka_unit_test(a_smaller_region_is_let_go),
        cmocka_unit_test(every_failed_allocation_is_an_error),
    };
    by = LOADER_BY_THREAD;
    int failed = cmocka_run_group_tests_name("by the thread", tests, set_up, tear_down);
    by = LOADER_BY_CALLER;
    return failed + cmocka_run_group_tests_name("by the caller", tests, set_up, tear_down);
}
