// Both readers against a file of known content, with every fault that a drive or an administrator can cause. What can
// go wrong when they are created is in test_reader_setup.c.
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "container_sample.h"
#include "runtime/base/clock.h"
#include "tests/offload/reader_case.h"

static void many_requests(enum reader_kind kind)
{
    const struct reader_options options[] = {
        {0},
        {.buffered = true},
        {.region = reader_case.memory, .region_bytes = MEMORY_PAGES * PAGE, .region_unit_bytes = 30 * PAGE},
        // Some destinations outside, some across its end.
        {.region = reader_case.memory + 8 * PAGE, .region_bytes = 100 * PAGE},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        struct reader *r = reader_case_open(kind, &options[i]);
        assert_true(!options[i].buffered || !reader_is_direct(r));
        reader_case_read_many(r, 300);
        struct reader_statistics s = reader_statistics(r);
        assert_true(s.requests == 300 && s.reads >= 300 && s.bytes > 300 * PAGE);
        assert_true(s.busy_ns > 0 && s.wait_ns > 0);
        reader_destroy(r);
    }
}

// An expert would get another expert's weights.
static void uring_reads_what_is_there(void **state)
{
    (void)state;
    many_requests(READER_URING);
}

static void pread_reads_what_is_there(void **state)
{
    (void)state;
    many_requests(READER_PREAD);
}

static void faulty(enum reader_kind kind)
{
    const struct {
        struct reader_faults faults;
        enum sluice_status status;
        const char *text;
    } cases[] = {
        {{.short_every = 1}, SLUICE_OK, ""},
        {{.error_at = 1, .error = EINTR, .error_count = 50}, SLUICE_OK, ""},
        {{.error_at = 1, .error = EAGAIN, .error_count = 50}, SLUICE_OK, ""},
        {{.error_at = 1, .error = ECANCELED}, SLUICE_OK, ""},
        {{.error_at = 1, .error = EIO, .error_count = 3}, SLUICE_OK, ""},
        {{.error_at = 1, .error = EIO, .error_count = 4}, SLUICE_ERR_IO, "the drive may be failing"},
        {{.error_at = 1, .error = ENXIO}, SLUICE_ERR_IO, "at offset 40960"},
        {{.error_at = 1, .error = EAGAIN, .error_count = 5000}, SLUICE_ERR_IO, "at offset 40960"},
        {{.short_every = 1, .error_at = 2, .error = EIO, .error_count = 2}, SLUICE_OK, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct reader *r = reader_case_open(kind, &(struct reader_options){.faults = &cases[i].faults});
        assert_int_equal(reader_case_read(r, reader_case_request(5, 10, 20, 3)), cases[i].status);
        if (cases[i].status < 0) {
            assert_non_null(strstr(error_message(), reader_case.path));
            assert_non_null(strstr(error_message(), cases[i].text));
            if (cases[i].faults.error_count < 1000) // the fault is over, and so is its effect
                assert_int_equal(reader_case_read(r, reader_case_request(6, 12, 20, 3)), SLUICE_OK);
        }
        struct reader_statistics s = reader_statistics(r);
        assert_true((s.short_reads > 0) == (cases[i].faults.short_every > 0));
        assert_true((s.retries > 0) == (cases[i].faults.error_at > 0 && cases[i].faults.error != ENXIO));
        reader_destroy(r);
    }
    struct reader_faults often = {.short_every = 3, .error_at = 20, .error = EINTR, .error_count = 60};
    struct reader *r = reader_case_open(kind, &(struct reader_options){.faults = &often});
    reader_case_read_many(r, 200);
    reader_destroy(r);
}

// A signal, a short read or a hiccup of the drive would end a generation, or a dying drive hang it.
static void uring_survives_faults(void **state)
{
    (void)state;
    faulty(READER_URING);
}

static void pread_survives_faults(void **state)
{
    (void)state;
    faulty(READER_PREAD);
}

static void truncated(enum reader_kind kind)
{
    struct reader *r = reader_case_open(kind, &(struct reader_options){0});
    assert_int_equal(truncate(reader_case.path, 100 * PAGE), 0);
    assert_int_equal(reader_case_read(r, reader_case_request(1, 90, 10, 0)), SLUICE_OK);
    assert_int_equal(reader_case_read(r, reader_case_request(1, 90, 20, 0)), SLUICE_ERR_IO);
    assert_non_null(strstr(error_message(), "was cut while in use"));
    assert_int_equal(reader_case_read(r, reader_case_request(1, 300, 20, 0)), SLUICE_ERR_IO);
    assert_int_equal(truncate(reader_case.path, 100 * PAGE - 5), 0);
    assert_int_equal(reader_case_read(r, reader_case_request(1, 90, 10, 0)), SLUICE_ERR_IO);
    reader_destroy(r);
    file_store(reader_case.path, reader_case.content, FILE_PAGES * PAGE);
}

// Replacing the model file while it is in use would hang the program or feed it garbage.
static void uring_notices_a_cut_file(void **state)
{
    (void)state;
    truncated(READER_URING);
}

static void pread_notices_a_cut_file(void **state)
{
    (void)state;
    truncated(READER_PREAD);
}

// Waits for at most timeout_ns; on a busy machine that may take as long as the delay, and then it is no error.
static void wait_in_vain(struct reader *r, uint64_t timeout_ns, uint64_t due_ns)
{
    struct reader_completion done;
    uint32_t count;
    if (clock_ns() >= due_ns)
        return;
    enum sluice_status status = reader_wait(r, DEPTH, 1, &done, &count, timeout_ns);
    assert_true((status == SLUICE_PENDING && count == 0) || clock_ns() >= due_ns);
    if (count > 0)
        skip();
}

static void timed(enum reader_kind kind)
{
    const uint64_t delay_ns = 60000000;
    struct reader_faults slow = {.delay_ns = delay_ns};
    struct reader *r = reader_case_open(kind, &(struct reader_options){.faults = &slow});
    struct reader_request requests[DEPTH + 1];
    struct reader_completion done[DEPTH];
    uint32_t count = 99;
    for (uint32_t i = 0; i <= DEPTH; i++)
        requests[i] = reader_case_request(i, i * 3, 2, i * 2);
    assert_int_equal(reader_wait(r, 5, DEPTH, done, &count, UINT64_MAX), SLUICE_OK); // nothing outstanding
    assert_int_equal(count, 0);
    assert_int_equal(reader_submit(r, requests, DEPTH + 1), SLUICE_PENDING);
    assert_int_equal(reader_space(r), DEPTH);
    uint64_t due_ns = clock_ns() + delay_ns;
    assert_int_equal(reader_submit(r, requests, DEPTH), SLUICE_OK);
    assert_int_equal(reader_submit(r, requests, 1), SLUICE_PENDING);
    wait_in_vain(r, 0, due_ns);
    wait_in_vain(r, 1000000, due_ns);
    assert_int_equal(reader_wait(r, DEPTH, DEPTH, done, &count, UINT64_MAX), SLUICE_OK);
    assert_true(clock_ns() >= due_ns);
    assert_int_equal(count, DEPTH);
    assert_int_equal(reader_wait(r, 0, 1, done, &count, 0), SLUICE_OK);
    reader_destroy(r);
}

// The GPU would wait for reads that came long ago, or the program spin on one that is late.
static void uring_waits_as_told(void **state)
{
    (void)state;
    timed(READER_URING);
}

static void pread_waits_as_told(void **state)
{
    (void)state;
    timed(READER_PREAD);
}

// Leaving in the middle of a document would let the drive write into memory that is somebody else's by then.
static void destroy_waits_for_what_is_in_flight(void **state)
{
    (void)state;
    const enum reader_kind kinds[] = {READER_PREAD, READER_URING};
    for (int i = 0; i < 2; i++)
        for (int n = 0; n < 20; n++) {
            struct reader *r = reader_case_open(kinds[i], &(struct reader_options){0});
            struct reader_request requests[DEPTH];
            for (uint32_t k = 0; k < DEPTH; k++)
                requests[k] = reader_case_request(k, k * 30, 30, k * 32);
            assert_int_equal(reader_submit(r, requests, DEPTH), SLUICE_OK);
            reader_destroy(r);
            memset(reader_case.memory, 0x55, MEMORY_PAGES * PAGE);
        }
    for (size_t i = 0; i < MEMORY_PAGES * PAGE; i++)
        assert_int_equal(reader_case.memory[i], 0x55);
}

enum { WAKE_UPS = 50 };

struct waiter {
    struct reader *reader;
    atomic_uint woken; // how often
};

// For a read that takes an hour.
static void *wait_for_ever(void *user)
{
    struct waiter *waiter = user;
    struct reader_completion done;
    struct reader_request wanted = reader_case_request(1, 0, 5, 0);
    uint32_t count;
    if (reader_submit(waiter->reader, &wanted, 1) != SLUICE_OK)
        return NULL;
    for (; waiter->woken < WAKE_UPS; waiter->woken++)
        if (reader_wait(waiter->reader, 1, 1, &done, &count, UINT64_MAX) != SLUICE_PENDING || count > 0)
            return NULL;
    return waiter;
}

// A new request would wait until an earlier one of a slow drive is done.
static void a_waiting_thread_can_be_woken(void **state)
{
    (void)state;
    const enum reader_kind kinds[] = {READER_PREAD, READER_URING};
    const struct reader_faults slow = {.delay_ns = UINT64_C(3600) * 1000000000};
    for (int i = 0; i < 2; i++) {
        struct waiter waiter = {.reader = reader_case_open(kinds[i], &(struct reader_options){.faults = &slow})};
        pthread_t thread;
        void *result;
        assert_int_equal(pthread_create(&thread, NULL, wait_for_ever, &waiter), 0);
        for (uint32_t n = 0; n < WAKE_UPS; n++) {
            if (n % 2)
                usleep(1000); // most likely it waits by then
            reader_wake(waiter.reader);
            while (waiter.woken == n)
                usleep(10);
        }
        pthread_join(thread, &result);
        assert_ptr_equal(result, &waiter);
        reader_destroy(waiter.reader);
    }
}

static void *read_some(void *user)
{
    reader_case_read_many(user, 20);
    return user;
}

// A server that serves each request on another thread would hang, or fail with a riddle (EEXIST).
static void threads_may_take_turns(void **state)
{
    (void)state;
    const enum reader_kind kinds[] = {READER_PREAD, READER_URING};
    for (int i = 0; i < 2; i++) {
        struct reader *r = reader_case_open(kinds[i], &(struct reader_options){0});
        for (int n = 0; n < 5; n++) {
            pthread_t thread;
            void *result;
            assert_int_equal(pthread_create(&thread, NULL, read_some, r), 0);
            pthread_join(thread, &result);
            assert_ptr_equal(result, r);
            reader_case_read_many(r, 20);
        }
        reader_destroy(r);
    }
}

static void *create_elsewhere(void *user)
{
    (void)user;
    struct reader *r;
    struct reader_options options = {.kind = READER_URING, .depth = DEPTH};
    return reader_create(reader_case.path, &options, &r) == SLUICE_OK ? r : NULL;
}

// An engine opened on one thread and used on another would fail with a riddle (EEXIST).
static void another_thread_may_create(void **state)
{
    (void)state;
    pthread_t thread;
    void *r;
    assert_int_equal(pthread_create(&thread, NULL, create_elsewhere, NULL), 0);
    pthread_join(thread, &r);
    if (!r)
        skip();
    reader_case_read_many(r, 20);
    reader_destroy(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uring_reads_what_is_there),
        cmocka_unit_test(pread_reads_what_is_there),
        cmocka_unit_test(uring_survives_faults),
        cmocka_unit_test(pread_survives_faults),
        cmocka_unit_test(uring_notices_a_cut_file),
        cmocka_unit_test(pread_notices_a_cut_file),
        cmocka_unit_test(uring_waits_as_told),
        cmocka_unit_test(pread_waits_as_told),
        cmocka_unit_test(destroy_waits_for_what_is_in_flight),
        cmocka_unit_test(a_waiting_thread_can_be_woken),
        cmocka_unit_test(threads_may_take_turns),
        cmocka_unit_test(another_thread_may_create),
    };
    return cmocka_run_group_tests(tests, reader_case_set_up, reader_case_tear_down);
}
