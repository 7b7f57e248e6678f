// Token ids to text while they are produced: only complete characters come out.
//
// A token may end in the middle of a UTF-8 character; its first bytes are held until the rest arrives. What can never
// become a character is replaced by U+FFFD, so that all pieces put together are exactly tokenizer_decode of all ids.
#ifndef SLUICE_TEXT_DETOKENIZER_H
#define SLUICE_TEXT_DETOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

struct detokenizer;
struct tokenizer;

// `tokenizer` is borrowed and must live longer. `skip_special`: special tokens give no text. One thread at a time.
// Errors: MEMORY.
enum sluice_status detokenizer_create(const struct tokenizer *tokenizer, bool skip_special,
                                      struct detokenizer **detokenizer);

// NULL is allowed.
void detokenizer_destroy(struct detokenizer *detokenizer);

// Takes the next id. `*text` is valid UTF-8, possibly empty, NUL-terminated, and valid until the next call.
// Errors: ARGUMENT (not a token of this tokenizer; nothing changes). Does not allocate.
enum sluice_status detokenizer_push(struct detokenizer *detokenizer, int32_t id, const char **text, size_t *bytes);

// Ends the text: an unfinished character becomes one U+FFFD. Afterwards the detokenizer starts a new text.
void detokenizer_flush(struct detokenizer *detokenizer, const char **text, size_t *bytes);

#endif
