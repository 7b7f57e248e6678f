// JSON from files and requests, parsed with messages that say where and what is wrong; and token ids as JSON.
#ifndef SLUICE_TEXT_JSON_TEXT_H
#define SLUICE_TEXT_JSON_TEXT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

// Parses `bytes` bytes; strings may contain NUL. `what` names the text in the message ("tokenizer.json").
// `*json` is the caller's (json_decref), NULL after a failure.
// Errors: FORMAT (with line and column), MEMORY.
enum sluice_status json_text_parse(const char *text, size_t bytes, const char *what, json_t **json);

// The same for text that need not be JSON: `*json` is NULL, without a failure, if it is not. `flags` are added to the
// parser's; `*used`, if not NULL, is the number of bytes of the value. Errors: MEMORY.
enum sluice_status json_text_try(const char *text, size_t bytes, size_t flags, json_t **json, size_t *used);

// An array of `count` token ids, the caller's (json_decref). NULL: no memory.
json_t *json_from_ids(const int32_t *ids, size_t count);

#endif
