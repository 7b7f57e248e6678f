// Which experts stay in the cache after a prefill. Decoding goes on where the prompt ends, so of each layer those are
// kept that the prompt's last tokens used most: as many on the device, and after these in host memory, as leave the
// same room to every layer. They are in a slot anyway when their turn comes; nothing more is read for it.
#ifndef SLUICE_MODEL_MOE_KEEP_H
#define SLUICE_MODEL_MOE_KEEP_H

#include "runtime/model/config.h"

enum { MOE_KEEP_TOKENS = 128 }; // the prompt's tail

struct moe_keep_use {
    uint32_t expert, uses, last; // uses by the tail; the last user's place in it, from 1
};

struct moe_keep {
    struct moe_keep_use ranked[MODEL_EXPERTS_MAX]; // [count] by falling use
    uint32_t rank[MODEL_EXPERTS_MAX];              // by expert; UINT32_MAX: not used by the tail
    uint32_t count;
};

// Empties `keep` for a layer of `experts` experts.
void moe_keep_clear(struct moe_keep *keep, uint32_t experts);

// Counts the selections ids[tokens, top_k] of further tokens, in the order of the prompt.
void moe_keep_count(struct moe_keep *keep, const uint32_t *ids, uint32_t tokens, uint32_t top_k);

// Ranks what was counted: most uses first, of equals the one used last.
void moe_keep_rank(struct moe_keep *keep, uint32_t experts);

#endif
