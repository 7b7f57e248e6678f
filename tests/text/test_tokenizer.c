// The tokenizer against the ids of Hugging Face, hostile text, and long runs. Its parts: test_splitter.c,
// test_merges.c.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "runtime/text/nfc.h"
#include "runtime/text/tokenizer.h"
#include "tests/text/text_data.h"

static void expect_ids(const struct tokenizer *tokenizer, const char *text, size_t bytes, const json_t *wanted)
{
    int32_t *ids;
    size_t count;
    assert_int_equal(tokenizer_encode(tokenizer, text, bytes, true, &ids, &count), SLUICE_OK);
    bool equal = count == json_array_size(wanted);
    for (size_t i = 0; equal && i < count; i++)
        equal = ids[i] == json_integer_value(json_array_get(wanted, i));
    if (!equal)
        print_error("ids differ for: %s\n", text);
    assert_true(equal);
    mem_free(ids);
}

static void expect_decoded(const struct tokenizer *tokenizer, const json_t *list, const json_t *wanted)
{
    size_t count = json_array_size(list), bytes;
    int32_t *ids = calloc(count + 1, sizeof *ids);
    for (size_t i = 0; i < count; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    char *text;
    assert_int_equal(tokenizer_decode(tokenizer, ids, count, false, &text, &bytes), SLUICE_OK);
    assert_int_equal(bytes, json_string_length(wanted));
    assert_memory_equal(text, json_string_value(wanted), bytes);
    mem_free(text);
    free(ids);
}

static void expect_cases(const struct tokenizer *tokenizer, const char *name)
{
    json_t *cases = data_json_lines(name);
    assert_true(json_array_size(cases) >= 295);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i), *text = json_object_get(one, "text");
        expect_ids(tokenizer, json_string_value(text), json_string_length(text), json_object_get(one, "ids"));
        expect_decoded(tokenizer, json_object_get(one, "ids"), json_object_get(one, "decoded"));
    }
    json_decref(cases);
}

// Turns ["a", "b"] merges into "a b" ones or the other way round.
static void respell_merges(json_t *file)
{
    json_t *model = json_object_get(file, "model"), *merges = json_object_get(model, "merges"), *other = json_array();
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *merge = json_array_get(merges, i);
        const char *text = json_string_value(merge);
        json_array_append_new(other, text ? json_pack("[s%, s]", text, strchr(text, ' ') - text, strchr(text, ' ') + 1)
                                          : json_sprintf("%s %s", json_string_value(json_array_get(merge, 0)),
                                                         json_string_value(json_array_get(merge, 1))));
    }
    json_object_set_new(model, "merges", other);
}

// A prompt would reach the model with other ids than those it was trained on.
static void real_tokenizer_gives_the_ids_of_hugging_face(void **state)
{
    (void)state;
    size_t bytes;
    char *text = data_read("text/tokenizer.json.gz", &bytes);
    struct tokenizer *tokenizer;
    assert_int_equal(tokenizer_create(text, bytes, NULL, 0, &tokenizer), SLUICE_OK);
    expect_cases(tokenizer, "text/tokenizer-cases.jsonl");
    assert_int_equal(tokenizer_vocab_size(tokenizer), 151669);
    assert_int_equal(tokenizer_find(tokenizer, "<|im_end|>"), 151645);
    assert_int_equal(tokenizer_find(tokenizer, "</think>"), 151668);
    assert_true(tokenizer_is_special(tokenizer, 151645));
    assert_false(tokenizer_is_special(tokenizer, 151668));
    tokenizer_destroy(tokenizer);
    free(text);
}

// The tokenizer.json of Coder-Next spells its merges in the other way and would be refused or misread.
static void both_spellings_of_merges_mean_the_same(void **state)
{
    (void)state;
    size_t bytes;
    char *text = data_read("../../tools/demo/tokenizer.json", &bytes);
    json_t *file = json_loadb(text, bytes, 0, NULL);
    for (int spelling = 0; spelling < 2; spelling++) {
        struct tokenizer *tokenizer = data_tokenizer(file);
        expect_cases(tokenizer, "text/demo-cases.jsonl");
        tokenizer_destroy(tokenizer);
        respell_merges(file);
    }
    json_decref(file);
    free(text);
}

static size_t encode_small(const json_t *file, const char *text, bool added, int32_t *out, size_t room)
{
    struct tokenizer *tokenizer = data_tokenizer(file);
    int32_t *ids;
    size_t count;
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), added, &ids, &count), SLUICE_OK);
    memcpy(out, ids, (count < room ? count : room) * sizeof *ids);
    mem_free(ids);
    tokenizer_destroy(tokenizer);
    return count;
}

// A tokenizer file with ignore_merges (as some re-quantised releases have) would give other ids.
static void ignore_merges_takes_whole_words(void **state)
{
    (void)state;
    static const char *const merges[] = {"b c", "a b", "ab c", NULL}; // b c goes first, so "abc" is never merged
    int32_t ids[4];
    json_t *file = data_small_tokenizer(merges);
    assert_int_equal(encode_small(file, "abc", true, ids, 4), 2);
    assert_int_equal(ids[0], 'a');
    assert_int_equal(ids[1], 256);
    json_object_set_new(json_object_get(file, "model"), "ignore_merges", json_true());
    assert_int_equal(encode_small(file, "abc", true, ids, 4), 1);
    assert_int_equal(ids[0], 258);
    json_decref(file);
}

// A document that contains "<|im_end|>" could end the user's turn and speak as the system.
static void added_tokens_are_text_when_asked(void **state)
{
    (void)state;
    static const char *const merges[] = {NULL};
    int32_t ids[32];
    json_t *file = data_small_tokenizer(merges);
    assert_int_equal(encode_small(file, "a<|im_end|>", true, ids, 32), 2);
    assert_int_equal(ids[1], 257);
    assert_int_equal(encode_small(file, "a<|im_end|>", false, ids, 32), 11);
    assert_int_equal(ids[1], '<');
    json_decref(file);
}

// Of <tool> and <tool_call>, or of tokens that overlap, the wrong one would be found.
static void added_tokens_match_leftmost_and_longest(void **state)
{
    (void)state;
    static const char *const merges[] = {NULL};
    json_t *file = data_small_tokenizer(merges), *added = json_object_get(file, "added_tokens");
    static const char *const more[] = {"<think>x", "hink>xy", "<", NULL};
    for (int i = 0; more[i]; i++)
        json_array_append_new(added, json_pack("{s:i, s:s}", "id", 300 + i, "content", more[i]));
    int32_t ids[8];
    assert_int_equal(encode_small(file, "<think>xy<thin", true, ids, 8), 7);
    assert_int_equal(ids[0], 300);
    assert_int_equal(ids[1], 'y');
    assert_int_equal(ids[2], 302);
    assert_int_equal(ids[3], 't');
    json_decref(file);
}

// A file in another encoding would abort the program or be encoded differently from what its repaired text gives.
static void invalid_bytes_become_replacement_characters(void **state)
{
    (void)state;
    static const struct {
        const char *raw, *repaired;
    } cases[] = {
        {"a\xFFz", "a\xEF\xBF\xBDz"},
        {"\xE4\xBDz", "\xEF\xBF\xBDz"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xF0\x9F\x98", "\xEF\xBF\xBD"},
        {"\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xE4\xE4\xBD\xA0", "\xEF\xBF\xBD\xE4\xBD\xA0"},
    };
    struct tokenizer *tokenizer = data_demo_tokenizer();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t *raw, *repaired;
        size_t raw_count, repaired_count;
        assert_int_equal(tokenizer_encode(tokenizer, cases[i].raw, strlen(cases[i].raw), true, &raw, &raw_count), 0);
        assert_int_equal(
            tokenizer_encode(tokenizer, cases[i].repaired, strlen(cases[i].repaired), true, &repaired, &repaired_count),
            0);
        assert_int_equal(raw_count, repaired_count);
        assert_memory_equal(raw, repaired, raw_count * sizeof *raw);
        mem_free(raw);
        mem_free(repaired);
    }
    tokenizer_destroy(tokenizer);
}

// A megabyte of white space, of one letter, or of marks in the wrong order must go through; each once took quadratic
// time in some library underneath, so that this test would not end.
static void long_runs_are_encoded(void **state)
{
    (void)state;
    static const char *const units[] = {
        " ", "a", "\n", " \n", "\u0301\u0316", "\u4F60", "<", "'s", "\u1100\u1161\u11A8"};
    enum { BYTES = 1 << 20 };
    struct tokenizer *tokenizer = data_demo_tokenizer();
    char *text = malloc(BYTES);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        size_t unit = strlen(units[i]), bytes = BYTES / unit * unit;
        for (size_t at = 0; at < bytes; at += unit)
            memcpy(text + at, units[i], unit);
        int32_t *ids;
        size_t count;
        assert_int_equal(tokenizer_encode(tokenizer, text, bytes, true, &ids, &count), SLUICE_OK);
        mem_free(ids);
    }
    free(text);
    tokenizer_destroy(tokenizer);
}

// Text of one megabyte is normalised in chunks; a chunk border could separate a letter from its accent.
static void normalisation_does_not_depend_on_chunks(void **state)
{
    (void)state;
    static const char *const units[] = {"\u304B\u3099", "\u0435\u0308", "\u1100\u1161\u11A8", "\u09C7\u09BE"};
    static const char *const composed[] = {"\u304C", "\u0451", "\uAC01", "\u09CB"};
    for (size_t i = 0; i < 4; i++) {
        struct text_buffer text = {0}, out = {0};
        for (int j = 0; j < 20000; j++)
            assert_int_equal(text_buffer_append_string(&text, units[i]), SLUICE_OK);
        assert_int_equal(nfc_append(&out, (const uint8_t *)text.data, text.bytes), SLUICE_OK);
        size_t unit = strlen(composed[i]);
        assert_int_equal(out.bytes, 20000 * unit);
        for (size_t at = 0; at < out.bytes; at += unit)
            assert_memory_equal(out.data + at, composed[i], unit);
        text_buffer_finish(&text);
        text_buffer_finish(&out);
    }
}

static void expect_round_trip(const struct tokenizer *tokenizer, const char *text, size_t bytes)
{
    int32_t *ids, *again;
    size_t count, again_count, decoded_bytes;
    char *decoded;
    assert_int_equal(tokenizer_encode(tokenizer, text, bytes, true, &ids, &count), SLUICE_OK);
    assert_int_equal(tokenizer_decode(tokenizer, ids, count, false, &decoded, &decoded_bytes), SLUICE_OK);
    assert_int_equal(tokenizer_encode(tokenizer, decoded, decoded_bytes, true, &again, &again_count), SLUICE_OK);
    assert_int_equal(count, again_count);
    assert_memory_equal(ids, again, count * sizeof *ids);
    mem_free(ids);
    mem_free(again);
    mem_free(decoded);
}

// Text that comes back from the model and is sent again must be the same tokens: it would miss the prompt cache.
static void random_bytes_round_trip(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = data_demo_tokenizer();
    uint64_t seed = 20260101;
    for (int round = 0; round < 3000; round++) {
        char text[64];
        size_t bytes = random_next(&seed) % sizeof text;
        bool ascii = round % 2;
        for (size_t i = 0; i < bytes; i++)
            text[i] = (char)(ascii ? " \n<>|im_endab'S.1\t"[random_next(&seed) % 18] : (char)random_next(&seed));
        expect_round_trip(tokenizer, text, bytes);
    }
    tokenizer_destroy(tokenizer);
}

static void *encode_many_times(void *argument)
{
    static const char text[] =
        "It's the 3rd of\n\n  e\u0301t\u00E9, <|im_end|> aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const struct tokenizer *tokenizer = argument;
    int32_t *first, *ids;
    size_t first_count, count;
    bool same = tokenizer_encode(tokenizer, text, sizeof text - 1, true, &first, &first_count) == SLUICE_OK;
    for (int i = 0; same && i < 500; i++) {
        same = tokenizer_encode(tokenizer, text, sizeof text - 1, true, &ids, &count) == SLUICE_OK &&
               count == first_count && memcmp(ids, first, count * sizeof *ids) == 0;
        mem_free(ids);
    }
    mem_free(first);
    return same ? argument : NULL;
}

// The server encodes the prompts of several clients at once.
static void threads_share_a_tokenizer(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = data_demo_tokenizer();
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_many_times, tokenizer), 0);
    for (size_t i = 0; i < 4; i++) {
        void *result;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_ptr_equal(result, tokenizer);
    }
    tokenizer_destroy(tokenizer);
}

// Calling code would read outside the table.
static void ids_outside_the_vocabulary_are_refused(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = data_demo_tokenizer();
    static const int32_t bad[] = {-1, 2048, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < 4; i++) {
        char *text;
        size_t bytes;
        const uint8_t *token;
        assert_int_equal(tokenizer_decode(tokenizer, &bad[i], 1, false, &text, &bytes), SLUICE_ERR_ARGUMENT);
        assert_null(text);
        assert_false(tokenizer_token_bytes(tokenizer, bad[i], &token, &bytes));
        assert_false(tokenizer_has(tokenizer, bad[i]));
        assert_false(tokenizer_is_special(tokenizer, bad[i]));
    }
    assert_int_equal(tokenizer_find(tokenizer, "no such token"), -1);
    assert_int_equal(tokenizer_find(tokenizer, ""), -1);
    tokenizer_destroy(tokenizer);
}

// The answer's text would contain "<|im_end|>".
static void special_tokens_can_be_left_out(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = data_demo_tokenizer();
    int32_t ids[] = {tokenizer_find(tokenizer, "a"), tokenizer_find(tokenizer, "<|im_end|>")};
    char *text;
    size_t bytes;
    assert_int_equal(tokenizer_decode(tokenizer, ids, 2, true, &text, &bytes), SLUICE_OK);
    assert_string_equal(text, "a");
    mem_free(text);
    assert_int_equal(tokenizer_decode(tokenizer, ids, 2, false, &text, &bytes), SLUICE_OK);
    assert_string_equal(text, "a<|im_end|>");
    mem_free(text);
    tokenizer_destroy(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_tokenizer_gives_the_ids_of_hugging_face),
        cmocka_unit_test(both_spellings_of_merges_mean_the_same),
        cmocka_unit_test(ignore_merges_takes_whole_words),
        cmocka_unit_test(added_tokens_are_text_when_asked),
        cmocka_unit_test(added_tokens_match_leftmost_and_longest),
        cmocka_unit_test(invalid_bytes_become_replacement_characters),
        cmocka_unit_test(long_runs_are_encoded),
        cmocka_unit_test(normalisation_does_not_depend_on_chunks),
        cmocka_unit_test(random_bytes_round_trip),
        cmocka_unit_test(threads_share_a_tokenizer),
        cmocka_unit_test(ids_outside_the_vocabulary_are_refused),
        cmocka_unit_test(special_tokens_can_be_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
