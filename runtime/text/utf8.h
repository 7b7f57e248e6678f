// UTF-8 from anywhere: decoding that accepts any bytes, and repair with U+FFFD.
//
// Invalid bytes are grouped as the Unicode standard recommends (chapter 3, "substitution of maximal subparts"), which
// is also what Python's errors="replace" and Rust's from_utf8_lossy do: the longest prefix of a valid character is one
// error, any other bad byte is one error of its own.
#ifndef SLUICE_TEXT_UTF8_H
#define SLUICE_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { UTF8_REPLACEMENT = 0xFFFD };

struct utf8_step {
    uint32_t code_point; // UTF8_REPLACEMENT if not valid
    uint32_t bytes;      // how many to go on: 1 to 4
    bool valid;
    bool unfinished; // not valid, but more bytes at the end of the text could make it so
};

// The character or error at `text`, of which `count` >= 1 bytes are there.
struct utf8_step utf8_next(const uint8_t *text, size_t count);

// Writes `code_point` (a valid one) to `out` and returns the number of bytes, 1 to 4.
size_t utf8_put(uint32_t code_point, uint8_t out[4]);

// The length of the longest valid prefix of `text`.
size_t utf8_valid_prefix(const uint8_t *text, size_t count);

#endif
