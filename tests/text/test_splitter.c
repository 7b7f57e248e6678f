// Cutting text into words with the expression of a tokenizer file.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/text/splitter.h"

// U+180E counts as white space for PCRE2 but not for Hugging Face: Mongolian text would be cut elsewhere.
static void mongolian_vowel_separator_is_no_space(void **state)
{
    (void)state;
    static const char text[] = "\u182A\u180E \u2003x";
    struct splitter *splitter;
    struct splitter_run run;
    size_t start, end;
    assert_int_equal(splitter_create("[^\\s]+|\\s+", 10, &splitter), SLUICE_OK);
    assert_int_equal(splitter_run_init(&run, splitter), SLUICE_OK);
    splitter_run_start(&run, (const uint8_t *)text, strlen(text));
    assert_int_equal(splitter_run_next(&run, &start, &end), SLUICE_OK);
    assert_int_equal(end, 6);
    assert_int_equal(splitter_run_next(&run, &start, &end), SLUICE_OK);
    assert_int_equal(end, 10);
    splitter_run_finish(&run);
    splitter_destroy(splitter);
}

// Distributions have PCRE2 with older tables than the Hugging Face library: Chinese characters of 2023 would be cut
// off.
static void letters_of_newer_unicode_are_letters(void **state)
{
    (void)state;
    static const char pattern[] = "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|\\s|.";
    static const char text[] = " a\U0002EBF0b\U0001E5F1\U0001E4F0c";
    static const size_t ends[] = {7, 11, 15, 16};
    struct splitter *splitter;
    struct splitter_run run;
    size_t start, end;
    assert_int_equal(splitter_create(pattern, strlen(pattern), &splitter), SLUICE_OK);
    assert_int_equal(splitter_run_init(&run, splitter), SLUICE_OK);
    splitter_run_start(&run, (const uint8_t *)text, strlen(text));
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(splitter_run_next(&run, &start, &end), SLUICE_OK);
        assert_int_equal(end, ends[i]);
    }
    assert_int_equal(splitter_run_next(&run, &start, &end), SLUICE_PENDING);
    splitter_run_finish(&run);
    splitter_destroy(splitter);
}

// Text that an expression does not match, or matches emptily, would be lost.
static void splitter_gives_all_of_the_text(void **state)
{
    (void)state;
    static const char *const patterns[] = {"b", "b*", "(?=b)", "\\s+", "x", "$"};
    static const char text[] = "aabbcb\u00E9 bb";
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        struct splitter *splitter;
        struct splitter_run run;
        assert_int_equal(splitter_create(patterns[i], strlen(patterns[i]), &splitter), SLUICE_OK);
        assert_int_equal(splitter_run_init(&run, splitter), SLUICE_OK);
        splitter_run_start(&run, (const uint8_t *)text, strlen(text));
        size_t start, end, done = 0;
        while (splitter_run_next(&run, &start, &end) == SLUICE_OK) {
            assert_int_equal(start, done);
            assert_true(end > start);
            done = end;
        }
        assert_int_equal(done, strlen(text));
        splitter_run_finish(&run);
        splitter_destroy(splitter);
    }
}

// An expression from a hostile file could keep the program busy for ever.
static void splitter_gives_up_on_exponential_expressions(void **state)
{
    (void)state;
    static const char pattern[] = "(?:(a|aa)+)+[bc]";
    static char text[200];
    memset(text, 'a', sizeof text);
    struct splitter *splitter;
    struct splitter_run run;
    size_t start, end;
    assert_int_equal(splitter_create(pattern, strlen(pattern), &splitter), SLUICE_OK);
    assert_int_equal(splitter_run_init(&run, splitter), SLUICE_OK);
    splitter_run_start(&run, (const uint8_t *)text, sizeof text);
    assert_int_equal(splitter_run_next(&run, &start, &end), SLUICE_ERR_UNSUPPORTED);
    splitter_run_finish(&run);
    splitter_destroy(splitter);
}

// Long runs need more backtracking points than the machine code's stack holds; they must not be dropped or refused.
static void splitter_survives_a_full_machine_code_stack(void **state)
{
    (void)state;
    static const char pattern[] = "(?:a|b)*c|a";
    enum { BYTES = 60000 };
    char *text = malloc(BYTES);
    memset(text, 'a', BYTES);
    text[BYTES - 1] = 'c';
    struct splitter *splitter;
    struct splitter_run run;
    size_t start, end;
    assert_int_equal(splitter_create(pattern, strlen(pattern), &splitter), SLUICE_OK);
    assert_int_equal(splitter_run_init(&run, splitter), SLUICE_OK);
    splitter_run_start(&run, (const uint8_t *)text, BYTES);
    assert_int_equal(splitter_run_next(&run, &start, &end), SLUICE_OK);
    assert_int_equal(end, BYTES);
    splitter_run_finish(&run);
    splitter_destroy(splitter);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mongolian_vowel_separator_is_no_space),
        cmocka_unit_test(letters_of_newer_unicode_are_letters),
        cmocka_unit_test(splitter_gives_all_of_the_text),
        cmocka_unit_test(splitter_gives_up_on_exponential_expressions),
        cmocka_unit_test(splitter_survives_a_full_machine_code_stack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
