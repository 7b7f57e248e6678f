// Fuzz target: a tokenizer.json and a text. What is in front of the first NUL byte is the file, what follows the text.
// If the file is empty, a small sound tokenizer takes its place, and more can be promised about the result.
//
// In the text, the bytes 0x1C to 0x1F are the borders of parts by different hands: what follows 0x1C may hold any added
// token, what follows 0x1D only tags, and the rest is text.
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "runtime/text/detokenizer.h"
#include "runtime/text/text_buffer.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"
#include "tests/text/small_tokenizer.h"

enum { TEXT_BYTES_MAX = 1 << 14 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

static struct tokenizer *sound_tokenizer(void)
{
    static const char *const merges[] = {"a a", "aa aa", "t h",           "th e", "\u0120 the",
                                         "i n", "1 2",   "\u010A \u010A", NULL};
    static struct tokenizer *tokenizer;
    if (tokenizer)
        return tokenizer;
    json_t *file = data_small_tokenizer(merges);
    char *text = json_dumps(file, 0);
    CHECK(text && tokenizer_create(text, strlen(text), NULL, 0, &tokenizer) == SLUICE_OK);
    free(text);
    json_decref(file);
    return tokenizer;
}

// Streaming gives the same text, in pieces that are valid UTF-8.
static void check_stream(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, const char *whole,
                         size_t whole_bytes)
{
    struct detokenizer *detokenizer;
    struct text_buffer all = {0};
    const char *piece;
    size_t bytes;
    CHECK(detokenizer_create(tokenizer, false, &detokenizer) == SLUICE_OK);
    for (size_t i = 0; i <= count; i++) {
        if (i < count)
            CHECK(detokenizer_push(detokenizer, ids[i], &piece, &bytes) == SLUICE_OK);
        else
            detokenizer_flush(detokenizer, &piece, &bytes);
        CHECK(utf8_valid_prefix((const uint8_t *)piece, bytes) == bytes);
        CHECK(text_buffer_append(&all, piece, bytes) == SLUICE_OK);
    }
    CHECK(all.bytes == whole_bytes && (whole_bytes == 0 || memcmp(all.data, whole, whole_bytes) == 0));
    text_buffer_finish(&all);
    detokenizer_destroy(detokenizer);
}

static void check_text(const struct tokenizer *tokenizer, bool sound, bool added, const char *text, size_t bytes)
{
    int32_t *ids, *again;
    char *decoded;
    size_t count, again_count, decoded_bytes;
    enum sluice_status status = tokenizer_encode(tokenizer, text, bytes, added, &ids, &count);
    CHECK(status == SLUICE_OK || (!sound && status == SLUICE_ERR_UNSUPPORTED));
    if (status < 0)
        return;
    CHECK(tokenizer_decode(tokenizer, ids, count, false, &decoded, &decoded_bytes) == SLUICE_OK);
    check_stream(tokenizer, ids, count, decoded, decoded_bytes);
    if (sound && !added) {
        CHECK(tokenizer_encode(tokenizer, decoded, decoded_bytes, false, &again, &again_count) == SLUICE_OK);
        CHECK(count == again_count && memcmp(ids, again, count * sizeof *ids) == 0);
        mem_free(again);
    }
    mem_free(ids);
    mem_free(decoded);
}

// How often the token `id` of `tokenizer` can begin and end in the spans.
static size_t count_in_spans(const struct tokenizer *tokenizer, int32_t id, const char *text,
                             const struct control_spans *spans)
{
    const uint8_t *token;
    size_t bytes, count = 0;
    CHECK(tokenizer_token_bytes(tokenizer, id, &token, &bytes));
    for (size_t i = 0; i < spans->count; i++) {
        const char *at = text + spans->list[i].start, *end = text + spans->list[i].end;
        if (spans->list[i].scope == CONTROL_TAGS && tokenizer_is_special(tokenizer, id))
            continue;
        for (; (at = memmem(at, (size_t)(end - at), token, bytes)) != NULL; at += bytes)
            count++;
    }
    return count;
}

static void find_spans(const char *text, size_t bytes, struct control_spans *spans)
{
    for (size_t at = 0, end; at < bytes; at = end) {
        end = at + 1;
        while (end < bytes && (text[end] < 0x1C || text[end] > 0x1F))
            end++;
        if (text[at] == 0x1C || text[at] == 0x1D)
            CHECK(control_spans_add(spans, at, end, text[at] == 0x1C ? CONTROL_ALL : CONTROL_TAGS) == SLUICE_OK);
    }
}

// Of the sound tokenizer's added tokens none overlaps another, so each occurrence in a span is one.
static void check_spans(const struct tokenizer *tokenizer, bool sound, const char *text, size_t bytes)
{
    static const char *const added[] = {"<|im_start|>", "<|im_end|>", "<think>"};
    struct control_spans spans = {0};
    int32_t *ids;
    size_t count;
    find_spans(text, bytes, &spans);
    enum sluice_status status = tokenizer_encode_spans(tokenizer, text, bytes, &spans, &ids, &count);
    CHECK(status == SLUICE_OK || (!sound && status == SLUICE_ERR_UNSUPPORTED));
    for (size_t i = 0; sound && i < 3; i++) {
        int32_t id = tokenizer_find(tokenizer, added[i]);
        size_t found = 0;
        for (size_t j = 0; j < count; j++)
            found += ids[j] == id;
        CHECK(found == count_in_spans(tokenizer, id, text, &spans));
    }
    mem_free(ids);
    control_spans_finish(&spans);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    const uint8_t *nul = memchr(bytes, 0, count);
    size_t file_bytes = nul ? (size_t)(nul - bytes) : count;
    const char *text = nul ? (const char *)nul + 1 : "The 3 quick\n\n <|im_end|>";
    size_t text_bytes = nul ? count - file_bytes - 1 : strlen(text);
    struct tokenizer *made = NULL;
    if (file_bytes > 0 && tokenizer_create((const char *)bytes, file_bytes, NULL, 0, &made) < 0) {
        CHECK(made == NULL && error_message()[0] != '\0');
        return 0;
    }
    const struct tokenizer *tokenizer = made ? made : sound_tokenizer();
    if (text_bytes <= TEXT_BYTES_MAX) {
        check_text(tokenizer, !made, true, text, text_bytes);
        check_text(tokenizer, !made, false, text, text_bytes);
        check_spans(tokenizer, !made, text, text_bytes);
    }
    tokenizer_destroy(made);
    return 0;
}
