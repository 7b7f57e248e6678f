// Text to ids. One struct encoding holds everything that changes, so that the tokenizer itself stays constant.
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "runtime/text/nfc.h"
#include "runtime/text/tokenizer_private.h"
#include "runtime/text/utf8.h"

enum {
    TEXT_BYTES_MAX = 1 << 30, // so that positions in the normalised text (at most three times as long) fit 32 bits
    CACHED_WORD_BYTES_MAX = 64,
    CACHE_SLOTS_MIN = 64,
    CACHE_SLOTS_MAX = 1 << 14,
};

// A word that was encoded before: where it is in encoding.text and its ids in encoding.ids.
struct cached_word {
    uint32_t hash; // 0: free
    uint32_t text_start, text_bytes;
    uint32_t ids_start, ids_count;
};

struct encoding {
    const struct tokenizer *tokenizer;
    struct text_buffer text; // the pieces so far, normalised
    int32_t *ids;            // [capacity]
    size_t count, capacity;
    struct cached_word *cache; // [cache_slots], a power of two
    size_t cache_slots;
    struct merge_work work;
    struct splitter_run run;
    struct text_buffer repaired; // a piece that was not valid UTF-8
};

static enum sluice_status reserve_ids(struct encoding *encoding, size_t more)
{
    if (more <= encoding->capacity - encoding->count)
        return SLUICE_OK;
    size_t capacity = (encoding->count + more) + (encoding->count + more) / 2 + 64;
    int32_t *ids = mem_realloc(encoding->ids, capacity, sizeof *ids);
    if (!ids)
        return SLUICE_ERR_MEMORY;
    encoding->ids = ids;
    encoding->capacity = capacity;
    return SLUICE_OK;
}

// Whether merging gave a control token: only in files whose model has such tokens among its merges or words.
static bool has_control(const struct vocab *vocab, const int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (vocab->tokens[ids[i]].kind == VOCAB_SPECIAL)
            return true;
    return false;
}

static void spell_word(const struct vocab *vocab, const uint8_t *word, size_t bytes, int32_t *ids)
{
    for (size_t i = 0; i < bytes; i++)
        ids[i] = vocab->byte_ids[word[i]];
}

static enum sluice_status merge_word(struct encoding *encoding, const uint8_t *word, size_t bytes)
{
    const struct vocab *vocab = &encoding->tokenizer->vocab;
    if (reserve_ids(encoding, bytes) < 0)
        return SLUICE_ERR_MEMORY;
    int32_t *ids = encoding->ids + encoding->count;
    if (encoding->tokenizer->ignore_merges) {
        ids[0] = vocab_find(vocab, word, bytes);
        if (ids[0] >= 0 && !has_control(vocab, ids, 1)) {
            encoding->count++;
            return SLUICE_OK;
        }
    }
    spell_word(vocab, word, bytes, ids);
    size_t count = bytes;
    if (merges_apply(&encoding->tokenizer->merges, &encoding->work, ids, &count) < 0)
        return SLUICE_ERR_MEMORY;
    if (has_control(vocab, ids, count)) {
        spell_word(vocab, word, bytes, ids);
        count = bytes;
    }
    encoding->count += count;
    return SLUICE_OK;
}

static uint32_t hash_word(const uint8_t *word, size_t bytes)
{
    uint64_t hash = bytes;
    for (; bytes >= 8; word += 8, bytes -= 8) {
        uint64_t part;
        memcpy(&part, word, 8);
        hash = (hash ^ part) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 32;
    }
    uint64_t rest = 0;
    memcpy(&rest, word, bytes);
    hash = (hash ^ rest) * 0x9E3779B97F4A7C15u;
    uint32_t result = (uint32_t)(hash >> 32);
    return result ? result : 1;
}

static bool is_cached(const struct encoding *encoding, const struct cached_word *entry, uint32_t hash,
                      const uint8_t *word, size_t bytes)
{
    return entry->hash == hash && entry->text_bytes == bytes &&
           memcmp(encoding->text.data + entry->text_start, word, bytes) == 0;
}

static enum sluice_status encode_word(struct encoding *encoding, size_t start, size_t bytes)
{
    const uint8_t *word = (const uint8_t *)encoding->text.data + start;
    if (bytes < 2 || bytes > CACHED_WORD_BYTES_MAX)
        return merge_word(encoding, word, bytes);
    uint32_t hash = hash_word(word, bytes);
    struct cached_word *entry = &encoding->cache[hash & (encoding->cache_slots - 1)];
    if (is_cached(encoding, entry, hash, word, bytes)) {
        if (reserve_ids(encoding, entry->ids_count) < 0)
            return SLUICE_ERR_MEMORY;
        memcpy(encoding->ids + encoding->count, encoding->ids + entry->ids_start, entry->ids_count * sizeof(int32_t));
        encoding->count += entry->ids_count;
        return SLUICE_OK;
    }
    size_t before = encoding->count;
    if (merge_word(encoding, word, bytes) < 0)
        return SLUICE_ERR_MEMORY;
    *entry = (struct cached_word){hash, (uint32_t)start, (uint32_t)bytes, (uint32_t)before,
                                  (uint32_t)(encoding->count - before)};
    return SLUICE_OK;
}

// Encodes a stretch of UTF-8 without added tokens. It is repaired here and not before it is cut out of the text: an
// added token is valid in itself, so it begins and ends between invalid sequences.
static enum sluice_status encode_piece(struct encoding *encoding, const uint8_t *piece, size_t bytes)
{
    size_t base = encoding->text.bytes;
    enum sluice_status status;
    if (utf8_valid_prefix(piece, bytes) < bytes) {
        encoding->repaired.bytes = 0;
        TRY(text_buffer_append_repaired(&encoding->repaired, piece, bytes));
        piece = (const uint8_t *)encoding->repaired.data;
        bytes = encoding->repaired.bytes;
    }
    TRY(encoding->tokenizer->nfc ? nfc_append(&encoding->text, piece, bytes)
                                 : text_buffer_append(&encoding->text, (const char *)piece, bytes));
    splitter_run_start(&encoding->run, (const uint8_t *)encoding->text.data + base, encoding->text.bytes - base);
    for (;;) {
        size_t start, end;
        TRY(splitter_run_next(&encoding->run, &start, &end));
        if (status == SLUICE_PENDING)
            return SLUICE_OK;
        TRY(encode_word(encoding, base + start, end - start));
    }
fail:
    return status;
}

// A walk over the added tokens of a text.
struct control_walk {
    const struct tokenizer *tokenizer;
    const uint8_t *text;
    const struct control_spans *spans;
    size_t span;       // no token is left in those before
    size_t start, end; // of the token that was found
};

// The first added token from `from` on that lies within one span and that its scope lets be a token; -1: none.
static int32_t next_control(struct control_walk *walk, size_t from)
{
    for (; walk->span < walk->spans->count; walk->span++) {
        const struct control_span *span = &walk->spans->list[walk->span];
        size_t at = from > span->start ? from : span->start;
        int32_t id;
        while ((id = added_tokens_next(&walk->tokenizer->added, walk->text, span->end, at, &walk->start, &walk->end)) >=
               0) {
            if (span->scope == CONTROL_ALL || !tokenizer_is_special(walk->tokenizer, id))
                return id;
            at = walk->start + 1;
        }
    }
    return -1;
}

// The pieces go from one control token to the next: the border of a span alone cuts nothing, so that a prompt without
// text that looks like control tokens has the ids that it has as a whole.
static enum sluice_status encode_text(struct encoding *encoding, const uint8_t *text, size_t bytes,
                                      const struct control_spans *spans)
{
    struct control_walk walk = {.tokenizer = encoding->tokenizer, .text = text, .spans = spans};
    enum sluice_status status = SLUICE_OK;
    for (size_t done = 0; done < bytes; done = walk.end) {
        int32_t id = next_control(&walk, done);
        if (id < 0)
            walk.start = walk.end = bytes;
        if (walk.start > done)
            TRY(encode_piece(encoding, text + done, walk.start - done));
        if (id >= 0) {
            TRY(reserve_ids(encoding, 1));
            encoding->ids[encoding->count++] = id;
        }
    }
fail:
    return status;
}

static enum sluice_status encoding_init(struct encoding *encoding, const struct tokenizer *tokenizer, size_t bytes)
{
    *encoding = (struct encoding){.tokenizer = tokenizer, .cache_slots = CACHE_SLOTS_MIN};
    while (encoding->cache_slots < bytes / 8 && encoding->cache_slots < CACHE_SLOTS_MAX)
        encoding->cache_slots *= 2;
    encoding->cache = mem_alloc(encoding->cache_slots, sizeof *encoding->cache);
    if (!encoding->cache)
        return SLUICE_ERR_MEMORY;
    enum sluice_status status;
    TRY(text_buffer_reserve(&encoding->text, bytes));
    TRY(reserve_ids(encoding, bytes / 4 + 1));
    TRY(splitter_run_init(&encoding->run, tokenizer->splitter));
fail:
    return status;
}

static void encoding_finish(struct encoding *encoding)
{
    text_buffer_finish(&encoding->text);
    text_buffer_finish(&encoding->repaired);
    mem_free(encoding->ids);
    mem_free(encoding->cache);
    merge_work_finish(&encoding->work);
    splitter_run_finish(&encoding->run);
}

enum sluice_status tokenizer_encode_spans(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                                          const struct control_spans *spans, int32_t **ids, size_t *count)
{
    *ids = NULL;
    *count = 0;
    CHECK(spans->count == 0 || spans->list[spans->count - 1].end <= bytes);
    if (bytes >= TEXT_BYTES_MAX)
        return error_set(SLUICE_ERR_ARGUMENT, "a text of %zu bytes is too long: the limit is 1 GiB", bytes);
    struct encoding encoding;
    enum sluice_status status;
    TRY(encoding_init(&encoding, tokenizer, bytes));
    TRY(encode_text(&encoding, (const uint8_t *)text, bytes, spans));
    *ids = encoding.ids;
    *count = encoding.count;
    encoding.ids = NULL;
fail:
    encoding_finish(&encoding);
    return status;
}

enum sluice_status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                                    bool added_tokens, int32_t **ids, size_t *count)
{
    struct control_span whole = {0, bytes, CONTROL_ALL};
    const struct control_spans spans = {.list = &whole, .count = added_tokens && bytes > 0 ? 1 : 0};
    return tokenizer_encode_spans(tokenizer, text, bytes, &spans, ids, count);
}
