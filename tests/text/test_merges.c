// Merging the bytes of a word.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/base/random.h"
#include "runtime/text/merges.h"

static uint64_t merge_steps(const struct merges *merges, size_t count)
{
    struct merge_work work = {0};
    int32_t *ids = calloc(count, sizeof *ids);
    for (size_t i = 0; i < count; i++)
        ids[i] = 1;
    size_t left = count;
    assert_int_equal(merges_apply(merges, &work, ids, &left), SLUICE_OK);
    uint64_t steps = work.steps;
    merge_work_finish(&work);
    free(ids);
    return steps;
}

// A megabyte of one letter (a damaged scan, a base64 block) would take hours.
static void merging_takes_linear_time(void **state)
{
    (void)state;
    struct merges merges;
    assert_int_equal(merges_init(&merges, 16), SLUICE_OK);
    for (int32_t i = 0; i < 5; i++) // 1 1 -> 2, 2 2 -> 3, ...
        merges_put(&merges, i + 1, i + 1, (uint32_t)i, i + 2);
    uint64_t small = merge_steps(&merges, 1 << 12), large = merge_steps(&merges, 1 << 18);
    assert_true(large < small * 64 * 3); // 64 times the text, and the heap is 2.5 times as high in the worst case
    merges_finish(&merges);
}

// The two ways of merging (short and long words) must agree, or an id would depend on the length of its word.
static void short_and_long_words_merge_alike(void **state)
{
    (void)state;
    struct merges merges;
    struct merge_work work = {0};
    assert_int_equal(merges_init(&merges, 64), SLUICE_OK);
    for (int32_t i = 0; i < 40; i++)
        merges_put(&merges, (i * 7) % 12, (i * 5 + i / 12) % 12, (uint32_t)((i * 23) % 40), 4 + i % 8);
    uint64_t seed = 1;
    for (int round = 0; round < 2000; round++) {
        int32_t shorter[24], longer[64];
        size_t short_count = 1 + random_next(&seed) % 24, long_count = short_count + 40;
        for (size_t i = 0; i < short_count; i++)
            shorter[i] = longer[i] = (int32_t)(random_next(&seed) % 4);
        for (size_t i = short_count; i < long_count; i++)
            longer[i] = 1000; // merges with nothing
        assert_int_equal(merges_apply(&merges, &work, shorter, &short_count), SLUICE_OK);
        assert_int_equal(merges_apply(&merges, &work, longer, &long_count), SLUICE_OK);
        assert_int_equal(long_count, short_count + 40);
        assert_memory_equal(shorter, longer, short_count * sizeof *shorter);
    }
    merge_work_finish(&work);
    merges_finish(&merges);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merging_takes_linear_time),
        cmocka_unit_test(short_and_long_words_merge_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
