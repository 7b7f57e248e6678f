// A sub-batch of a pass: consecutive rows of one block, as many as the widest intermediate results have room for
// (scratch.h). The functions that record its operations take it.
#ifndef SLUICE_MODEL_SUB_BATCH_H
#define SLUICE_MODEL_SUB_BATCH_H

#include "runtime/model/engine_internal.h"

struct sub_batch {
    struct sluice_engine *engine;
    const struct pass *pass;
    struct gpu_command *cmd; // being recorded; set by the caller
    struct scratch_block *block;
    uint32_t row, rows; // rows [row, row + rows) of the block
    uint32_t run_count;
    struct run runs[SLUICE_SESSIONS_MAX]; // rows counted from the sub-batch's start
    struct gpu_range h;                   // f32 [rows][hidden]: the residual stream
};

// The sub-batch that begins at `row` of the pass's block.
struct sub_batch sub_batch_make(struct pass *pass, uint32_t block, uint32_t row);

// The rows of an array of the block that belong to the sub-batch; an empty range stays empty.
struct gpu_range sub_batch_rows(const struct sub_batch *b, struct gpu_range range, uint64_t row_bytes);

#endif
