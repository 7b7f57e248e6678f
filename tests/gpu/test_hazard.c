#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/gpu/hazard.h"

static int buffer_a, buffer_b;

static struct hazard_access reads(const void *buffer, uint64_t begin, uint64_t end)
{
    return (struct hazard_access){.buffer = buffer, .begin = begin, .end = end};
}

static struct hazard_access writes(const void *buffer, uint64_t begin, uint64_t end)
{
    return (struct hazard_access){.buffer = buffer, .begin = begin, .end = end, .written = true};
}

static bool add(struct hazard_tracker *tracker, struct hazard_access access)
{
    return hazard_add(tracker, &access, 1);
}

// A kernel could read a result before it is there, or overwrite an input that is still being read.
static void conflicts_get_a_barrier(void **state)
{
    (void)state;
    struct hazard_tracker tracker = {0};
    assert_false(add(&tracker, writes(&buffer_a, 0, 64)));
    assert_true(add(&tracker, reads(&buffer_a, 0, 64)));    // read after write
    assert_true(add(&tracker, writes(&buffer_a, 0, 64)));   // write after read
    assert_true(add(&tracker, writes(&buffer_a, 0, 64)));   // write after write
    assert_true(add(&tracker, reads(&buffer_a, 63, 100)));  // overlap by one byte at the end
    assert_true(add(&tracker, writes(&buffer_a, 99, 120))); // and at the start
    assert_true(add(&tracker, reads(&buffer_a, 0, 1000)));  // around it
}

// Independent work would be serialised, which costs most of the speed of decode.
static void independent_work_gets_none(void **state)
{
    (void)state;
    struct hazard_tracker tracker = {0};
    assert_false(add(&tracker, writes(&buffer_a, 0, 64)));
    assert_false(add(&tracker, writes(&buffer_a, 64, 128)));
    assert_false(add(&tracker, writes(&buffer_b, 0, 64)));
    assert_false(add(&tracker, reads(&buffer_b, 64, 128)));
    assert_false(add(&tracker, reads(&buffer_b, 32 + 64, 128)));
    assert_false(add(&tracker, reads(&buffer_a, 128, 256)));
}

// A barrier orders everything before it: asking for it again would be waste, forgetting what came with it a race.
static void a_barrier_starts_over(void **state)
{
    (void)state;
    struct hazard_tracker tracker = {0};
    assert_false(add(&tracker, writes(&buffer_a, 0, 64)));
    assert_false(add(&tracker, writes(&buffer_b, 0, 64)));
    assert_true(add(&tracker, reads(&buffer_a, 0, 64)));
    assert_false(add(&tracker, reads(&buffer_b, 0, 64)));
    assert_true(add(&tracker, writes(&buffer_b, 0, 4)));
    assert_false(add(&tracker, reads(&buffer_a, 0, 64)));
}

// An operation that reads and writes the same range (y += ...) must not wait for itself, but the next one must.
static void one_operation_does_not_conflict_with_itself(void **state)
{
    (void)state;
    struct hazard_tracker tracker = {0};
    const struct hazard_access both[] = {reads(&buffer_a, 0, 64), writes(&buffer_a, 0, 64)};
    assert_false(hazard_add(&tracker, both, 2));
    assert_true(hazard_add(&tracker, both, 2));
}

// A write hidden behind a read of the same range would be forgotten by the duplicate filter.
static void a_read_does_not_hide_a_write(void **state)
{
    (void)state;
    struct hazard_tracker tracker = {0};
    const struct hazard_access read_then_write[] = {reads(&buffer_a, 0, 64), writes(&buffer_a, 0, 64)};
    hazard_add(&tracker, read_then_write, 2);
    assert_true(add(&tracker, reads(&buffer_a, 16, 32)));
}

// Long commands touch more ranges than the tracker holds: they may get barriers too many, never too few.
static void overflow_asks_for_a_barrier(void **state)
{
    (void)state;
    struct hazard_tracker tracker = {0};
    unsigned barriers = 0;
    for (uint64_t i = 0; i < 3 * HAZARD_ACCESSES_MAX; i++)
        barriers += add(&tracker, writes(&buffer_a, i * 4, i * 4 + 4));
    assert_int_equal(barriers, 2);
    assert_true(add(&tracker, reads(&buffer_a, 4 * (3 * HAZARD_ACCESSES_MAX - 1), 4 * 3 * HAZARD_ACCESSES_MAX)));
}

// The same weights read by hundreds of dispatches must not fill the tracker.
static void repeated_reads_take_one_entry(void **state)
{
    (void)state;
    struct hazard_tracker tracker = {0};
    for (uint64_t i = 0; i < 3 * HAZARD_ACCESSES_MAX; i++)
        assert_false(add(&tracker, reads(&buffer_a, 0, 4096)));
    assert_int_equal(tracker.count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conflicts_get_a_barrier),       cmocka_unit_test(independent_work_gets_none),
        cmocka_unit_test(a_barrier_starts_over),         cmocka_unit_test(one_operation_does_not_conflict_with_itself),
        cmocka_unit_test(a_read_does_not_hide_a_write),  cmocka_unit_test(overflow_asks_for_a_barrier),
        cmocka_unit_test(repeated_reads_take_one_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
