#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "runtime/text/detokenizer.h"
#include "runtime/text/text_buffer.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"
#include "tests/text/text_data.h"

// A tokenizer whose tokens are the 256 bytes (with equal ids) and some pieces that begin and end within characters.
static struct tokenizer *byte_tokenizer(void)
{
    static const char *const merges[] = {"\u00E4 \u00BD", "\u00BD \u0142", "\u0142 a", "\u00F0 \u0141", NULL};
    json_t *file = data_small_tokenizer(merges);
    struct tokenizer *tokenizer = data_tokenizer(file);
    json_decref(file);
    return tokenizer;
}

// Streams ids and checks that all pieces are valid UTF-8 and together what tokenizer_decode gives.
static void expect_stream(const struct tokenizer *tokenizer, const int32_t *ids, size_t count)
{
    struct detokenizer *detokenizer;
    struct text_buffer all = {0};
    const char *piece;
    size_t bytes;
    assert_int_equal(detokenizer_create(tokenizer, false, &detokenizer), SLUICE_OK);
    for (size_t i = 0; i <= count; i++) {
        if (i < count)
            assert_int_equal(detokenizer_push(detokenizer, ids[i], &piece, &bytes), SLUICE_OK);
        else
            detokenizer_flush(detokenizer, &piece, &bytes);
        assert_int_equal(utf8_valid_prefix((const uint8_t *)piece, bytes), bytes);
        assert_int_equal(piece[bytes], '\0');
        assert_int_equal(text_buffer_append(&all, piece, bytes), SLUICE_OK);
    }
    char *whole;
    size_t whole_bytes;
    assert_int_equal(tokenizer_decode(tokenizer, ids, count, false, &whole, &whole_bytes), SLUICE_OK);
    assert_int_equal(all.bytes, whole_bytes);
    if (whole_bytes > 0)
        assert_memory_equal(all.data, whole, whole_bytes);
    mem_free(whole);
    text_buffer_finish(&all);
    detokenizer_destroy(detokenizer);
}

// Half a character would appear as garbage in the terminal and break JSON of the server's events.
static void only_complete_characters_come_out(void **state)
{
    (void)state;
    static const char text[] = "a\u00E9\u4F60\U0001F600\u0301z";
    struct tokenizer *tokenizer = byte_tokenizer();
    for (size_t cut = 0; cut < sizeof text; cut++) { // every cut: the text then ends or goes on within a character
        int32_t ids[2 * sizeof text];
        size_t count = 0;
        for (size_t i = 0; i < cut; i++)
            ids[count++] = (uint8_t)text[i];
        expect_stream(tokenizer, ids, count);
        for (size_t i = 0; i + 1 < sizeof text; i++)
            ids[count++] = (uint8_t)text[i];
        expect_stream(tokenizer, ids, count);
    }
    tokenizer_destroy(tokenizer);
}

// A character must appear with its last byte, not one token later: the last word of an answer would be missing.
static void characters_come_out_with_their_last_byte(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = byte_tokenizer();
    struct detokenizer *detokenizer;
    const char *text;
    size_t bytes;
    assert_int_equal(detokenizer_create(tokenizer, false, &detokenizer), SLUICE_OK);
    assert_int_equal(detokenizer_push(detokenizer, 256, &text, &bytes), SLUICE_OK); // E4 BD
    assert_int_equal(bytes, 0);
    assert_int_equal(detokenizer_push(detokenizer, 258, &text, &bytes), SLUICE_OK); // A0 61
    assert_string_equal(text, "\u4F60a");
    assert_int_equal(detokenizer_push(detokenizer, 0xF0, &text, &bytes), SLUICE_OK);
    assert_int_equal(detokenizer_push(detokenizer, 'b', &text, &bytes), SLUICE_OK);
    assert_string_equal(text, "\uFFFDb");
    detokenizer_flush(detokenizer, &text, &bytes);
    assert_int_equal(bytes, 0);
    detokenizer_destroy(detokenizer);
    tokenizer_destroy(tokenizer);
}

// A model under a bad sampler emits any bytes; the stream must agree with the text that is stored.
static void random_tokens_stream_as_they_decode(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = byte_tokenizer();
    uint64_t seed = 7;
    for (int round = 0; round < 2000; round++) {
        int32_t ids[40];
        size_t count = random_next(&seed) % 40;
        for (size_t i = 0; i < count; i++)
            ids[i] = round % 2 ? 0x80 + (int32_t)(random_next(&seed) % 0x84) : (int32_t)(random_next(&seed) % 263);
        expect_stream(tokenizer, ids, count);
    }
    tokenizer_destroy(tokenizer);
}

// Control tokens would show up in the answer; a bad id must not disturb what is held.
static void special_and_unknown_ids(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = byte_tokenizer();
    struct detokenizer *detokenizer;
    const char *text;
    size_t bytes;
    assert_int_equal(detokenizer_create(tokenizer, true, &detokenizer), SLUICE_OK);
    assert_int_equal(detokenizer_push(detokenizer, 256, &text, &bytes), SLUICE_OK);
    assert_int_equal(detokenizer_push(detokenizer, 9999, &text, &bytes), SLUICE_ERR_ARGUMENT);
    assert_int_equal(detokenizer_push(detokenizer, tokenizer_find(tokenizer, "<|im_end|>"), &text, &bytes), SLUICE_OK);
    assert_int_equal(bytes, 0);
    assert_int_equal(detokenizer_push(detokenizer, 258, &text, &bytes), SLUICE_OK);
    assert_string_equal(text, "\u4F60a");
    assert_int_equal(detokenizer_push(detokenizer, tokenizer_find(tokenizer, "<think>"), &text, &bytes), SLUICE_OK);
    assert_string_equal(text, "<think>");
    detokenizer_destroy(detokenizer);
    tokenizer_destroy(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_complete_characters_come_out),
        cmocka_unit_test(characters_come_out_with_their_last_byte),
        cmocka_unit_test(random_tokens_stream_as_they_decode),
        cmocka_unit_test(special_and_unknown_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
