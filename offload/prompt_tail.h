// Which experts stay in the cache after a prefill. Decoding goes on where the prompt ends, so of each layer those are
// kept that the prompt's last tokens used most: as many on the device, and after these in host memory, as leave the
// same room to every layer. They are in a slot anyway when their turn comes; nothing more is read for it.
#ifndef SLUICE_OFFLOAD_PROMPT_TAIL_H
#define SLUICE_OFFLOAD_PROMPT_TAIL_H

#include <stdint.h>

enum { PROMPT_TAIL_TOKENS = 128, PROMPT_TAIL_EXPERTS_MAX = 1024 };

struct prompt_tail_use {
    uint32_t expert, uses, last; // uses by the tail; the last user's place in it, from 1
};

struct prompt_tail {
    struct prompt_tail_use ranked[PROMPT_TAIL_EXPERTS_MAX]; // [count] by falling use
    uint32_t rank[PROMPT_TAIL_EXPERTS_MAX];                 // by expert; UINT32_MAX: not used by the tail
    uint32_t count;
};

// Empties `keep` for a layer of `experts` experts.
void prompt_tail_clear(struct prompt_tail *keep, uint32_t experts);

// Counts the selections ids[tokens, top_k] of further tokens, in the order of the prompt.
void prompt_tail_count(struct prompt_tail *keep, const uint32_t *ids, uint32_t tokens, uint32_t top_k);

// Ranks what was counted: most uses first, of equals the one used last.
void prompt_tail_rank(struct prompt_tail *keep, uint32_t experts);

#endif
