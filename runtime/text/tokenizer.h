// Byte-level BPE as in the Hugging Face tokenizer.json files of Qwen2 to Qwen3.5: text to token ids and back.
//
// Encoding gives the ids that the Hugging Face `tokenizers` library gives for the same file: (1) the raw text is cut at
// added tokens such as <|im_end|>, leftmost and longest first; (2) the pieces between are NFC-normalised if the file
// says so; (3) the file's regular expression splits them into words; (4) each word's bytes are merged by lowest rank.
// The time is linear in the text but for a logarithm of the longest word. No token is added in front or behind.
//
// Step (1) is where a stranger's text could pass for the chat template's, so callers say where it may find tokens: see
// control_spans.h. Steps (2) to (4) never give a token that the file marks as special; should its merges lead to one,
// the word is spelt in single bytes. (Qwen's do not.)
//
// Threads: a tokenizer does not change after its creation; any number of threads may use it at once.
#ifndef SLUICE_TEXT_TOKENIZER_H
#define SLUICE_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/text/control_spans.h"

struct tokenizer;

// Reads a tokenizer from the bytes of a tokenizer.json and, if not NULL, of a tokenizer_config.json (its
// `added_tokens_decoder` may name tokens that the first lacks). Both are copied, and both may come from anybody:
// whatever they contain, the result is a working tokenizer or a failure that names the offending entry.
// `*tokenizer` is NULL after a failure, else the caller's; release with tokenizer_destroy.
// Errors: FORMAT (not such a file, or inconsistent), UNSUPPORTED (another kind of tokenizer), MEMORY.
enum sluice_status tokenizer_create(const char *tokenizer_json, size_t json_bytes, const char *tokenizer_config_json,
                                    size_t config_bytes, struct tokenizer **tokenizer);

// NULL is allowed.
void tokenizer_destroy(struct tokenizer *tokenizer);

// Encodes `bytes` bytes of UTF-8. NUL bytes are ordinary; each maximal invalid sequence counts as one U+FFFD, as it
// does when Python reads the text with errors="replace" before a Hugging Face tokenizer sees it.
//   spans          where text such as "<|im_end|>" may become that token: where it lies in one span as a whole;
//                  elsewhere it is ordinary text. A span's border alone changes nothing: without such text outside,
//                  the ids are those of the text as a whole
//   *ids, *count   the caller's, release with mem_free; *ids is never NULL after success, even for an empty text
// Errors: ARGUMENT (1 GiB or longer), UNSUPPORTED (the file's regular expression gave up), MEMORY.
enum sluice_status tokenizer_encode_spans(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                                          const struct control_spans *spans, int32_t **ids, size_t *count);

// The same for a text that is all of one kind.
//   added_tokens   true: one span in scope CONTROL_ALL, as Hugging Face does; false: none, for input from strangers
enum sluice_status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                                    bool added_tokens, int32_t **ids, size_t *count);

// The text of `count` ids as one string: the tokens' bytes put together, each maximal invalid sequence replaced by
// U+FFFD. `skip_special` leaves out the tokens that the file marks as special (<|im_end|> is, <think> is not).
//   *text   NUL-terminated for convenience (it may contain NULs), the caller's, release with mem_free
// Errors: ARGUMENT (an id that the tokenizer does not have), MEMORY.
enum sluice_status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count,
                                    bool skip_special, char **text, size_t *bytes);

// One more than the highest id. The model's embedding may have more rows; those are padding.
int32_t tokenizer_vocab_size(const struct tokenizer *tokenizer);

// Whether `id` is a token. Any id may be asked for; ids within the vocabulary size can be unused too.
bool tokenizer_has(const struct tokenizer *tokenizer, int32_t id);

// Whether the file marks `id` as special (a control token, not text). False for ids that are not tokens.
bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id);

// The bytes that `id` stands for: any bytes, possibly a part of a UTF-8 character. They belong to the tokenizer and are
// not terminated. False, and an empty result, for an id that is not a token.
bool tokenizer_token_bytes(const struct tokenizer *tokenizer, int32_t id, const uint8_t **bytes, size_t *count);

// The length of the longest token.
size_t tokenizer_token_bytes_max(const struct tokenizer *tokenizer);

// The id of the added token with exactly this content ("<|im_end|>"), or of the ordinary token that stands for these
// bytes; -1 if there is none.
int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *content);

#endif
