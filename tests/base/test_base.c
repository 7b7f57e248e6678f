// The base layer: messages, memory, numbers.
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/doubles.h"
#include "runtime/base/integer.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "runtime/base/status.h"

// If this fails, a user sees a message that was cut in the middle of a character, or none.
static void test_messages_are_cut_between_characters(void **state)
{
    (void)state;
    char text[ERROR_MESSAGE_BYTES + 8];
    for (size_t start = ERROR_MESSAGE_BYTES - 6; start < ERROR_MESSAGE_BYTES; start++) {
        memset(text, 'a', sizeof text);
        memcpy(text + start, "\xF0\x9F\x98\x80", 4); // one character of four bytes across the end
        text[sizeof text - 1] = '\0';
        assert_int_equal(error_set(SLUICE_ERR_IO, "%s", text), SLUICE_ERR_IO);
        size_t length = strlen(error_message());
        assert_true(length < ERROR_MESSAGE_BYTES);
        assert_true(length >= ERROR_MESSAGE_BYTES - 5);
        bool whole = start + 4 <= ERROR_MESSAGE_BYTES - 1;
        assert_true(whole ? length == ERROR_MESSAGE_BYTES - 1 : length == start);
    }
}

// If this fails, a message loses its cause when a caller says where it happened, or when a thread hands it on.
static void test_messages_keep_their_cause(void **state)
{
    (void)state;
    error_set(SLUICE_ERR_FORMAT, "bad %s", "header");
    assert_int_equal(error_prefix(SLUICE_ERR_FORMAT, "file %d", 7), SLUICE_ERR_FORMAT);
    assert_string_equal(error_message(), "file 7: bad header");
    struct error_record record;
    error_save(&record, SLUICE_ERR_FORMAT);
    error_set(SLUICE_ERR_IO, "%s", error_message()); // its own text as argument
    assert_string_equal(error_message(), "file 7: bad header");
    error_set(SLUICE_ERR_IO, "something else");
    assert_int_equal(error_restore(&record), SLUICE_ERR_FORMAT);
    assert_string_equal(error_message(), "file 7: bad header");
}

// If this fails, a status is printed as nothing.
static void test_every_status_has_a_text(void **state)
{
    (void)state;
#define X(name, value, text)       \
    assert_int_equal(name, value); \
    assert_string_equal(status_text(name), text);
    SLUICE_STATUS_LIST(X)
#undef X
    assert_string_equal(status_text((enum sluice_status)12345), "unknown status");
}

// If this fails, a size from a hostile file wraps around and a small buffer is overrun.
static void test_allocation_sizes_do_not_wrap(void **state)
{
    (void)state;
    assert_null(mem_alloc(SIZE_MAX / 2, 3));
    assert_non_null(strstr(error_message(), "out of memory"));
    assert_null(mem_realloc(NULL, SIZE_MAX, 2));
    unsigned char *bytes = mem_alloc(3, 5);
    for (int i = 0; i < 15; i++)
        assert_int_equal(bytes[i], 0);
    mem_free(bytes);
    void *nothing = mem_alloc(0, 8);
    assert_non_null(nothing);
    mem_free(nothing);
    mem_fail_at(1);
    void *first = mem_alloc(1, 1);
    assert_non_null(first);
    assert_null(mem_alloc(1, 1));
    void *third = mem_alloc(1, 1); // one failure only
    assert_non_null(third);
    mem_free(first);
    mem_free(third);
}

static void count_messages(void *user, enum log_level level, const char *text)
{
    assert_int_equal(level, LOG_NOTE);
    assert_string_equal(text, "3 slots");
    ++*(int *)user;
}

// If this fails, notes of the library do not reach the program, or time runs backwards in its reports.
static void test_log_and_clock(void **state)
{
    (void)state;
    int count = 0;
    log_message(LOG_NOTE, "dropped");
    log_set(count_messages, &count);
    log_message(LOG_NOTE, "%d slots", 3);
    log_set(NULL, NULL);
    log_message(LOG_NOTE, "dropped");
    assert_int_equal(count, 1);
    uint64_t before = clock_ns();
    assert_true(clock_ns() >= before);
}

// Until the thread's clock has moved.
static void work(void)
{
    for (uint64_t start_ns = clock_thread_cpu_ns(); clock_thread_cpu_ns() == start_ns;)
        continue;
}

// If this fails, what a token costs the processor is told wrongly, or telling it costs as much as the token.
static void test_one_piece_of_work_stands_for_several(void **state)
{
    (void)state;
    struct clock_sample sample = {.pieces = CLOCK_SAMPLE_FIRST - 3}, all = {0}, excluding = {0};
    for (uint64_t piece = CLOCK_SAMPLE_FIRST - 3; piece < CLOCK_SAMPLE_FIRST + 6; piece++) {
        uint64_t before_ns = sample.cpu_ns, all_before_ns = all.cpu_ns;
        clock_sample_begin(&all, 1, piece); // what is excluded need not begin at 0
        clock_sample_begin(&sample, 3, 0);
        work();
        clock_sample_end(&sample, 0);
        clock_sample_end(&all, piece);
        uint64_t piece_ns = all.cpu_ns - all_before_ns, sampled_ns = sample.cpu_ns - before_ns;
        assert_true(piece_ns > 0);
        uint32_t weight = piece < CLOCK_SAMPLE_FIRST ? 1 : piece % 3 == 0 ? 3 : 0;
        assert_true((sampled_ns > 0) == (weight > 0) && sampled_ns <= weight * piece_ns);
    }
    uint64_t start_ns = clock_thread_cpu_ns(), excluded_ns = 0;
    clock_sample_begin(&excluding, 1, excluded_ns);
    uint64_t work_ns = clock_thread_cpu_ns();
    work();
    excluded_ns = clock_thread_cpu_ns() - work_ns;
    clock_sample_end(&excluding, excluded_ns);
    assert_true(excluding.cpu_ns <= clock_thread_cpu_ns() - start_ns - excluded_ns);
}

// If this fails, measured speeds are not those of the run in the middle, and quantiles of a divergence not in order.
static void test_the_median_is_in_the_middle(void **state)
{
    (void)state;
    double one[] = {7}, odd[] = {3, -1, 2e300, 0.5, 3}, even[] = {4, 1, 3, 2};
    assert_true(doubles_median(one, 1) == 7);
    assert_true(doubles_median(odd, 5) == 3);
    assert_true(odd[0] == -1 && odd[1] == 0.5 && odd[2] == 3 && odd[3] == 3 && odd[4] == 2e300);
    assert_true(doubles_median(even, 4) == 3);
}

// If this fails, synthetic checkpoints and seeded answers are others than those of every other build.
static void test_random_numbers_are_splitmix64(void **state)
{
    (void)state;
    // From the generator's published C code with the seed 1234567.
    const uint64_t expected[] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u, 4593380528125082431u,
                                 16408922859458223821u};
    uint64_t at = 1234567, fraction_at = 1234567;
    for (uint64_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        assert_true(random_next(&at) == expected[i]);
        assert_true(random_at(1234567, i) == expected[i]);
        assert_true(random_fraction(&fraction_at) == (double)(expected[i] >> 11) / 9007199254740992.0);
    }
}

// If this fails, a size near the end of its type counts as a small one, and what does not fit is allocated.
static void test_sizes_at_the_ends_of_their_types(void **state)
{
    (void)state;
    assert_true(u64_add(UINT64_MAX - 1, 1) == UINT64_MAX && u64_add(UINT64_MAX, UINT64_MAX) == UINT64_MAX);
    assert_true(u64_subtract(3, 3) == 0 && u64_subtract(3, 4) == 0 && u64_subtract(4, 3) == 1);
    assert_true(u64_divide_up(0, 7) == 0 && u64_divide_up(7, 7) == 1 && u64_divide_up(8, 7) == 2);
    assert_true(u64_divide_up(UINT64_MAX, 2) == (uint64_t)1 << 63 && u32_divide_up(UINT32_MAX, 2) == 1u << 31);
    assert_true(u64_round_up(UINT64_MAX - 4095, 4096) == UINT64_MAX - 4095 && u32_round_up(65, 64) == 128);
    assert_true(u32_min(1, UINT32_MAX) == 1 && u32_max(1, UINT32_MAX) == UINT32_MAX);
    assert_true(u64_min(1, UINT64_MAX) == 1 && u64_max(1, UINT64_MAX) == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_are_cut_between_characters),
        cmocka_unit_test(test_messages_keep_their_cause),
        cmocka_unit_test(test_every_status_has_a_text),
        cmocka_unit_test(test_allocation_sizes_do_not_wrap),
        cmocka_unit_test(test_log_and_clock),
        cmocka_unit_test(test_the_median_is_in_the_middle),
        cmocka_unit_test(test_random_numbers_are_splitmix64),
        cmocka_unit_test(test_sizes_at_the_ends_of_their_types),
        cmocka_unit_test(test_one_piece_of_work_stands_for_several),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
