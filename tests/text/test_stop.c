#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/random.h"
#include "runtime/text/stop.h"
#include "runtime/text/text_buffer.h"
#include "tests/text/text_data.h"

// Feeds `text` in pieces of `piece` bytes; returns what came out in `out` and the stop string found.
static int run(struct stop *stop, const char *text, size_t piece, char *out)
{
    size_t bytes = strlen(text), used = 0, given;
    const char *data;
    int found = -1, now;
    for (size_t at = 0; at < bytes; at += piece) {
        size_t length = bytes - at < piece ? bytes - at : piece;
        assert_int_equal(stop_push(stop, text + at, length, &data, &given, &now), SLUICE_OK);
        memcpy(out + used, data, given);
        used += given;
        found = now >= 0 ? now : found;
    }
    stop_finish(stop, &data, &given);
    memcpy(out + used, data, given);
    out[used + given] = '\0';
    return found;
}

// Parts of the stop string would be shown, or the answer would go on past it, depending on how the tokens happen to
// fall.
static void stop_strings_are_found_across_pieces(void **state)
{
    (void)state;
    static const char *const strings[] = {"END", "\n\nUser:", "aab", "x"};
    static const struct {
        const char *text, *out;
        int found;
    } cases[] = {
        {"hello END more", "hello ", 0},
        {"hello EN", "hello EN", -1},
        {"ENEND", "EN", 0},
        {"a\n\n\nUser: q", "a\n", 1},
        {"aaaaaab", "aaaa", 2},
        {"aaaaaa", "aaaaaa", -1},
        {"ENDx", "", 0},
        {"E\n\nUserx", "E\n\nUser", 3},
        {"", "", -1},
        {"a\n\nUse", "a\n\nUse", -1},
        {"\u4F60END\u4F60", "\u4F60", 0},
    };
    struct stop *stop;
    assert_int_equal(stop_create(strings, 4, NULL, 0, &stop), SLUICE_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t piece = 1; piece <= 16; piece++) {
            char out[64];
            assert_int_equal(run(stop, cases[i].text, piece, out), cases[i].found);
            assert_string_equal(out, cases[i].out);
        }
    stop_destroy(stop);
}

// Of overlapping stop strings, always the same one must win.
static void the_first_to_end_wins_and_then_the_longest(void **state)
{
    (void)state;
    static const char *const strings[] = {"bc", "abc", "abcdef"};
    struct stop *stop;
    char out[64];
    assert_int_equal(stop_create(strings, 3, NULL, 0, &stop), SLUICE_OK);
    for (size_t piece = 1; piece < 8; piece++) {
        assert_int_equal(run(stop, "xabcdef", piece, out), 1);
        assert_string_equal(out, "x");
    }
    stop_destroy(stop);
}

// Text must appear as soon as it cannot be part of a stop string, or streaming would lag behind.
static void only_what_may_match_is_held_back(void **state)
{
    (void)state;
    static const char *const strings[] = {"STOP"};
    struct stop *stop;
    const char *out;
    size_t bytes;
    int found;
    assert_int_equal(stop_create(strings, 1, NULL, 0, &stop), SLUICE_OK);
    assert_int_equal(stop_push(stop, "abSTO", 5, &out, &bytes, &found), SLUICE_OK);
    assert_int_equal(bytes, 2);
    assert_int_equal(stop_push(stop, "S", 1, &out, &bytes, &found), SLUICE_OK);
    assert_int_equal(bytes, 3);
    assert_memory_equal(out, "STO", 3);
    stop_destroy(stop);
}

// Random texts over a small alphabet against a plain search.
static void random_texts_agree_with_a_plain_search(void **state)
{
    (void)state;
    static const char *const strings[] = {"abab", "bb", "aaaa"};
    uint64_t seed = 3;
    struct stop *stop;
    assert_int_equal(stop_create(strings, 3, NULL, 0, &stop), SLUICE_OK);
    for (int round = 0; round < 5000; round++) {
        char text[16], out[32];
        size_t bytes = random_next(&seed) % 15, end = bytes, cut = bytes;
        for (size_t i = 0; i < bytes; i++)
            text[i] = (char)('a' + random_next(&seed) % 3 % 2);
        text[bytes] = '\0';
        for (int i = 0; i < 3; i++) {
            const char *at = strstr(text, strings[i]);
            size_t stop_end = at ? (size_t)(at - text) + strlen(strings[i]) : bytes + 1;
            if (stop_end < end || (stop_end == end && at && (size_t)(at - text) < cut)) {
                end = stop_end;
                cut = (size_t)(at - text);
            }
        }
        run(stop, text, 1 + random_next(&seed) % 5, out);
        assert_int_equal(strlen(out), cut);
        assert_memory_equal(out, text, cut);
    }
    stop_destroy(stop);
}

// The answer would go on after <|im_end|>.
static void stop_ids_and_bad_arguments(void **state)
{
    (void)state;
    static const int32_t ids[] = {151645, 151643};
    static const char *const empty[] = {""};
    struct stop *stop;
    assert_int_equal(stop_create(NULL, 0, ids, 2, &stop), SLUICE_OK);
    assert_true(stop_is_id(stop, 151643));
    assert_true(stop_is_id(stop, 151645));
    assert_false(stop_is_id(stop, 0));
    stop_destroy(stop);
    assert_int_equal(stop_create(empty, 1, NULL, 0, &stop), SLUICE_ERR_ARGUMENT);
    assert_null(stop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stop_strings_are_found_across_pieces),
        cmocka_unit_test(the_first_to_end_wins_and_then_the_longest),
        cmocka_unit_test(only_what_may_match_is_held_back),
        cmocka_unit_test(random_texts_agree_with_a_plain_search),
        cmocka_unit_test(stop_ids_and_bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
