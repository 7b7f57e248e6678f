// The rows of one block, sorted by expert. Each (token, selected expert) pair is a row; an expert's rows are contiguous
// and in the order of the tokens, so that its weights are used once for all of them.
//
//   first[e] .. first[e + 1] - 1    rows of expert e
//   token[r]                        token of row r
#ifndef SLUICE_MODEL_EXPERT_ROWS_H
#define SLUICE_MODEL_EXPERT_ROWS_H

#include <stdint.h>

#include "runtime/base/status.h"

struct expert_rows {
    uint32_t experts, top_k;
    uint32_t *first; // [experts + 1], owned
    uint32_t *token; // [tokens_max * top_k], owned
};

// What the router chose for each token, and what the weighted sum of a token's rows needs: all [tokens][top_k].
struct expert_picks {
    const uint32_t *ids;
    const float *weights;
    uint32_t *row;     // rows of the token, by rising expert: the order in which they are added
    float *row_weight; // of these rows
};

// Room for a block of `tokens_max` tokens; no rows at first. top_k is 1..MODEL_TOP_K_MAX, experts 1..MODEL_EXPERTS_MAX.
// Errors: SLUICE_ERR_MEMORY; *rows is to be finished even then.
enum sluice_status expert_rows_create(uint32_t experts, uint32_t top_k, uint32_t tokens_max, struct expert_rows *rows);
void expert_rows_finish(struct expert_rows *rows); // a zeroed struct is allowed

// Sorts the picks of `tokens` tokens and writes picks->row and row_weight. Errors: SLUICE_ERR_DEVICE (an id is none of
// an expert).
enum sluice_status expert_rows_sort(struct expert_rows *rows, uint32_t tokens, const struct expert_picks *picks);

static inline uint32_t expert_rows_count(const struct expert_rows *rows, uint32_t expert)
{
    return rows->first[expert + 1] - rows->first[expert];
}

#endif
