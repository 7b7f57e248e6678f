// Which experts of a prompt are worth keeping.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "offload/prompt_tail.h"

static struct prompt_tail tail;

// The answer would begin with experts from the drive that the prompt's end used all the time.
static void most_used_comes_first_and_of_equals_the_latest(void **state)
{
    (void)state;
    static const uint32_t first[] = {4, 1, /**/ 4, 2}, later[] = {4, 3, /**/ 0, 3, /**/ 2, 7};
    static const uint32_t ranked[] = {4, 2, 3, 7, 0, 1};
    prompt_tail_clear(&tail, 8);
    prompt_tail_count(&tail, first, 2, 2);
    prompt_tail_count(&tail, later, 3, 2);
    prompt_tail_rank(&tail, 8);
    assert_int_equal(tail.count, 6);
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(tail.ranked[i].expert, ranked[i]);
        assert_int_equal(tail.rank[ranked[i]], i);
    }
    assert_int_equal(tail.rank[5], UINT32_MAX);
    assert_int_equal(tail.rank[6], UINT32_MAX);
}

// One layer's experts would be taken for another's.
static void nothing_is_left_of_the_layer_before(void **state)
{
    (void)state;
    static const uint32_t ids[] = {3, 1};
    prompt_tail_clear(&tail, PROMPT_TAIL_EXPERTS_MAX);
    prompt_tail_count(&tail, ids, 1, 2);
    prompt_tail_rank(&tail, PROMPT_TAIL_EXPERTS_MAX);
    assert_int_equal(tail.count, 2);
    prompt_tail_clear(&tail, PROMPT_TAIL_EXPERTS_MAX);
    prompt_tail_rank(&tail, PROMPT_TAIL_EXPERTS_MAX);
    assert_int_equal(tail.count, 0);
    for (uint32_t i = 0; i < PROMPT_TAIL_EXPERTS_MAX; i++)
        assert_int_equal(tail.rank[i], UINT32_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(most_used_comes_first_and_of_equals_the_latest),
        cmocka_unit_test(nothing_is_left_of_the_layer_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
