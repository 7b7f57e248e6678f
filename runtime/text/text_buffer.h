// A growing string of bytes.
#ifndef SLUICE_TEXT_TEXT_BUFFER_H
#define SLUICE_TEXT_TEXT_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

// Starts as {0}. `data` is NULL as long as nothing was reserved; owned, release with text_buffer_finish.
struct text_buffer {
    char *data;
    size_t bytes;
    size_t capacity;
};

// Makes room for `more` further bytes and a NUL. Errors: MEMORY.
enum sluice_status text_buffer_reserve(struct text_buffer *buffer, size_t more);

// Errors: MEMORY; the buffer is then unchanged.
enum sluice_status text_buffer_append(struct text_buffer *buffer, const char *text, size_t bytes);
enum sluice_status text_buffer_append_string(struct text_buffer *buffer, const char *text);

// Appends `bytes` arbitrary bytes as UTF-8, each maximal invalid sequence replaced by U+FFFD (see utf8.h).
enum sluice_status text_buffer_append_repaired(struct text_buffer *buffer, const uint8_t *text, size_t bytes);

// Puts a NUL behind the content, which is not part of it, so that `data` is a string until more is appended.
// Errors: MEMORY.
enum sluice_status text_buffer_terminate(struct text_buffer *buffer);

// Hands the NUL-terminated content to the caller (mem_free) and leaves an empty buffer.
enum sluice_status text_buffer_take(struct text_buffer *buffer, char **text, size_t *bytes);

void text_buffer_finish(struct text_buffer *buffer);

#endif
