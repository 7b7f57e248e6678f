#include "runtime/text/detokenizer.h"

#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "runtime/text/text_buffer.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"

enum { HELD_MAX = 3 }; // the longest unfinished character

struct detokenizer {
    const struct tokenizer *tokenizer;
    bool skip_special;
    uint8_t *bytes; // held bytes, then room for one token; owned
    size_t held;
    struct text_buffer text; // room for everything one token can give
};

enum sluice_status detokenizer_create(const struct tokenizer *tokenizer, bool skip_special,
                                      struct detokenizer **detokenizer)
{
    *detokenizer = NULL;
    struct detokenizer *made = mem_alloc(1, sizeof *made);
    if (!made)
        return SLUICE_ERR_MEMORY;
    made->tokenizer = tokenizer;
    made->skip_special = skip_special;
    size_t bytes_max = HELD_MAX + tokenizer_token_bytes_max(tokenizer);
    made->bytes = mem_alloc(bytes_max, 1);
    if (!made->bytes || text_buffer_reserve(&made->text, 3 * bytes_max) < 0) {
        detokenizer_destroy(made);
        return SLUICE_ERR_MEMORY;
    }
    *detokenizer = made;
    return SLUICE_OK;
}

void detokenizer_destroy(struct detokenizer *detokenizer)
{
    if (!detokenizer)
        return;
    mem_free(detokenizer->bytes);
    text_buffer_finish(&detokenizer->text);
    mem_free(detokenizer);
}

// How many of the last bytes are the beginning of a character.
static size_t unfinished_bytes(const uint8_t *bytes, size_t count)
{
    for (size_t length = 1; length <= HELD_MAX && length <= count; length++) {
        struct utf8_step step = utf8_next(bytes + count - length, length);
        if (step.unfinished && step.bytes == length)
            return length;
    }
    return 0;
}

static void give(struct detokenizer *detokenizer, size_t count, const char **text, size_t *bytes)
{
    struct text_buffer *out = &detokenizer->text;
    out->bytes = 0;
    CHECK(text_buffer_append_repaired(out, detokenizer->bytes, count) == SLUICE_OK); // room was reserved
    out->data[out->bytes] = '\0';
    *text = out->data;
    *bytes = out->bytes;
}

enum sluice_status detokenizer_push(struct detokenizer *detokenizer, int32_t id, const char **text, size_t *bytes)
{
    const uint8_t *token;
    size_t token_bytes;
    *text = "";
    *bytes = 0;
    if (!tokenizer_token_bytes(detokenizer->tokenizer, id, &token, &token_bytes))
        return error_set(SLUICE_ERR_ARGUMENT, "%d is not a token: the ids go from 0 to %d", id,
                         tokenizer_vocab_size(detokenizer->tokenizer) - 1);
    if (detokenizer->skip_special && tokenizer_is_special(detokenizer->tokenizer, id))
        return SLUICE_OK;
    memcpy(detokenizer->bytes + detokenizer->held, token, token_bytes);
    size_t count = detokenizer->held + token_bytes;
    size_t held = unfinished_bytes(detokenizer->bytes, count);
    give(detokenizer, count - held, text, bytes);
    memmove(detokenizer->bytes, detokenizer->bytes + count - held, held);
    detokenizer->held = held;
    return SLUICE_OK;
}

void detokenizer_flush(struct detokenizer *detokenizer, const char **text, size_t *bytes)
{
    give(detokenizer, detokenizer->held, text, bytes);
    detokenizer->held = 0;
}
