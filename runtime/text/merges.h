// Byte-pair encoding of one word: the table of merges and the merging.
#ifndef SLUICE_TEXT_MERGES_H
#define SLUICE_TEXT_MERGES_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

struct merge {
    uint32_t left, right; // ids; left == UINT32_MAX: free slot
    uint32_t rank;        // lower goes first
    int32_t id;           // what the pair becomes
};

struct merges {
    struct merge *slots; // [slot_count], owned
    size_t slot_count;   // power of two
};

// Makes an empty table for up to `count` merges. Errors: MEMORY.
enum sluice_status merges_init(struct merges *merges, size_t count);

void merges_finish(struct merges *merges);

// Adds a merge; a pair that is there already gets the later rank, as in a Python dict of pairs.
void merges_put(struct merges *merges, int32_t left, int32_t right, uint32_t rank, int32_t id);

// Scratch memory for merging, one per running encoding. Starts as {0}.
struct merge_work {
    struct merge_node *nodes; // [capacity], owned
    uint64_t *heap;           // [3 * capacity], owned
    size_t capacity;
    uint64_t steps; // pairs looked up and heap levels walked, so that a test can see that the work is linear
};

// Merges the `*count` ids at `ids` in place, always the pair of the lowest rank, the leftmost of equals, until none is
// left, and sets the new `*count`. O(n log n). Errors: MEMORY.
enum sluice_status merges_apply(const struct merges *merges, struct merge_work *work, int32_t *ids, size_t *count);

void merge_work_finish(struct merge_work *work);

#endif
