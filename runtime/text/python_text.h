// JSON values as Python writes them, which is what a Jinja template's output contains.
#ifndef SLUICE_TEXT_PYTHON_TEXT_H
#define SLUICE_TEXT_PYTHON_TEXT_H

#include <jansson.h>
#include <stddef.h>

#include "runtime/base/status.h"
#include "runtime/text/text_buffer.h"

// json.dumps(value, ensure_ascii=False): ", " and ": " between, keys in their order, characters beyond ASCII as they
// are, real numbers in the shortest spelling that reads back as the same double. Errors: MEMORY.
enum sluice_status python_json_append(struct text_buffer *out, const json_t *value);

// str(value): a string's characters as they are, None, True, False, numbers, lists and dicts with repr() of what is in
// them. Errors: MEMORY.
enum sluice_status python_str_append(struct text_buffer *out, const json_t *value);

// str.strip(): moves `*text` and `*bytes` past white space at both ends (Unicode's, and U+001C to U+001F).
void python_strip(const char **text, size_t *bytes);

#endif
