// Finds added tokens (<|im_start|>, <think>, ...) in raw text: leftmost first, the longest of those that start there.
#ifndef SLUICE_TEXT_ADDED_TOKENS_H
#define SLUICE_TEXT_ADDED_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

// A byte trie. Node 0 is the root; children of a node are a list.
struct added_node {
    uint32_t child, sibling; // 0: none
    int32_t id;              // of the token that ends here, or -1
    uint8_t byte;
};

// Starts as {0}.
struct added_tokens {
    struct added_node *nodes; // [count], owned
    uint32_t count, capacity;
    bool starts[256]; // bytes with which some token begins
};

// Adds a token; `bytes` >= 1. Errors: FORMAT (another id has the same text), MEMORY.
enum sluice_status added_tokens_put(struct added_tokens *added, const char *text, size_t bytes, int32_t id);

// The first token in `text` from `from` on: its id and range, or -1.
int32_t added_tokens_next(const struct added_tokens *added, const uint8_t *text, size_t bytes, size_t from,
                          size_t *start, size_t *end);

// The token that is exactly `text`, or -1.
int32_t added_tokens_find(const struct added_tokens *added, const char *text, size_t bytes);

void added_tokens_finish(struct added_tokens *added);

#endif
