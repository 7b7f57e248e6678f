// Sorting a block's rows by expert, against counting them one by one.
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/random.h"
#include "runtime/model/expert_rows.h"

enum { EXPERTS = 13, TOP_K = 4, TOKENS = 37, PICKS = TOKENS * TOP_K };

struct block {
    struct expert_rows rows;
    uint32_t ids[PICKS], row[PICKS];
    float weights[PICKS], row_weight[PICKS];
};

// Different experts for each token, most of them of the first half.
static void draw(struct block *b, uint64_t seed)
{
    for (uint32_t i = 0; i < PICKS; i++) {
        bool taken = true;
        while (taken) {
            b->ids[i] = (uint32_t)(random_next(&seed) % (random_next(&seed) % 3 ? EXPERTS / 2 : EXPERTS));
            taken = false;
            for (uint32_t j = i / TOP_K * TOP_K; j < i; j++)
                taken |= b->ids[j] == b->ids[i];
        }
        b->weights[i] = (float)random_fraction(&seed);
    }
}

static enum sluice_status sort(struct block *b, uint32_t tokens)
{
    struct expert_picks picks = {b->ids, b->weights, b->row, b->row_weight};
    return expert_rows_sort(&b->rows, tokens, &picks);
}

static int set_up(void **state)
{
    struct block *b = calloc(1, sizeof *b);
    *state = b;
    return b ? expert_rows_create(EXPERTS, TOP_K, TOKENS, &b->rows) : -1;
}

static int tear_down(void **state)
{
    struct block *b = *state;
    expert_rows_finish(&b->rows);
    free(b);
    return 0;
}

// If this fails, an expert is computed for other tokens than those that the router sent to it.
static void each_pick_is_a_row_of_its_expert(void **state)
{
    struct block *b = *state;
    for (uint64_t seed = 1; seed < 20; seed++) {
        uint32_t tokens = 1 + (uint32_t)seed * TOKENS / 20;
        bool seen[PICKS] = {false};
        draw(b, seed);
        assert_int_equal(sort(b, tokens), SLUICE_OK);
        assert_int_equal(b->rows.first[0], 0);
        assert_int_equal(b->rows.first[EXPERTS], tokens * TOP_K);
        for (uint32_t i = 0; i < tokens * TOP_K; i++) {
            uint32_t row = b->row[i], pick = i / TOP_K * TOP_K;
            assert_true(row < tokens * TOP_K && !seen[row]);
            seen[row] = true;
            assert_int_equal(b->rows.token[row], i / TOP_K);
            // Which of the token's picks the row is of: the one whose expert has it.
            while (row < b->rows.first[b->ids[pick]] || row >= b->rows.first[b->ids[pick] + 1])
                assert_true(++pick < i / TOP_K * TOP_K + TOP_K);
            assert_true(b->row_weight[i] == b->weights[pick]);
        }
    }
}

// If this fails, the order in which a token's experts are added follows from the router's order, and the same text gets
// other bits when experts arrive in another grouping.
static void rows_rise(void **state)
{
    struct block *b = *state;
    draw(b, 7);
    assert_int_equal(sort(b, TOKENS), SLUICE_OK);
    for (uint32_t i = 0; i < PICKS; i++)
        assert_true(i % TOP_K == 0 || b->row[i] > b->row[i - 1]);
    for (uint32_t expert = 0; expert < EXPERTS; expert++)
        for (uint32_t i = 1; i < expert_rows_count(&b->rows, expert); i++)
            assert_true(b->rows.token[b->rows.first[expert] + i] > b->rows.token[b->rows.first[expert] + i - 1]);
}

// If this fails, a router that computed nonsense makes the program read and write beyond its lists.
static void an_impossible_expert_is_refused(void **state)
{
    struct block *b = *state;
    draw(b, 3);
    b->ids[PICKS / 2] = EXPERTS;
    assert_int_equal(sort(b, TOKENS), SLUICE_ERR_DEVICE);
    assert_non_null(strstr(error_message(), "expert 13 of 13"));
    b->ids[PICKS / 2] = UINT32_MAX;
    assert_int_equal(sort(b, TOKENS), SLUICE_ERR_DEVICE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_pick_is_a_row_of_its_expert, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rows_rise, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_impossible_expert_is_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
