// The tokens: what bytes each id stands for, and the id of given bytes.
#ifndef SLUICE_TEXT_VOCAB_H
#define SLUICE_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/text/text_buffer.h"

enum {
    VOCAB_ID_LIMIT = 1 << 22, // ids a hostile file may name; memory grows with the highest one
};

enum vocab_kind {
    VOCAB_UNUSED,
    VOCAB_PLAIN,
    VOCAB_FOREIGN, // its text is not spelt in bytes: it has a meaning when decoded, encoding never gives it
    VOCAB_ADDED,
    VOCAB_SPECIAL,
};

struct vocab_token {
    uint32_t start; // into struct vocab.text
    uint32_t bytes;
    enum vocab_kind kind;
};

struct vocab {
    struct vocab_token *tokens; // [size], owned
    int32_t size;               // highest id + 1
    int32_t capacity;
    size_t bytes_max;        // of the longest token
    struct text_buffer text; // the tokens' bytes, one after the other
    int32_t *slots;          // [slot_count] open-addressing table of ids by their bytes, -1 free; owned
    size_t slot_count;       // power of two
    int32_t byte_ids[256];   // the id of each single byte
};

// Starts as {0}. Adds a token; `id` is checked by the caller against VOCAB_ID_LIMIT and vocab_has.
// Errors: MEMORY, FORMAT (more than 4 GiB of token text).
enum sluice_status vocab_add(struct vocab *vocab, int32_t id, const uint8_t *bytes, size_t count, enum vocab_kind kind);

// Builds the table and byte_ids once all tokens of the model are there. Added tokens come later and have their own
// matcher. Errors: MEMORY, FORMAT (a byte without a token, or two ids with the same bytes).
enum sluice_status vocab_index(struct vocab *vocab);

bool vocab_has(const struct vocab *vocab, int32_t id);

// The plain token with these bytes, or -1.
int32_t vocab_find(const struct vocab *vocab, const uint8_t *bytes, size_t count);

void vocab_finish(struct vocab *vocab);

// GPT-2's spelling of bytes as printable characters, which the files use for token texts. Decodes the `count` bytes of
// UTF-8 at `text` into `out` [count]; returns the number of bytes, or -1 if a character is not one of the 256.
ptrdiff_t vocab_decode_spelling(const char *text, size_t count, uint8_t *out);

#endif
