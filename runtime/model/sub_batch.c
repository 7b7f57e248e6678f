#include "runtime/model/sub_batch.h"

struct gpu_range sub_batch_rows(const struct sub_batch *b, struct gpu_range range, uint64_t row_bytes)
{
    return range.bytes ? gpu_range_part(range, b->row * row_bytes, b->rows * row_bytes) : range;
}

// The part of the block's runs that lies in the sub-batch.
static void select_runs(struct sub_batch *b, const struct run *runs, uint32_t count)
{
    b->run_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t begin = runs[i].row > b->row ? runs[i].row : b->row;
        uint32_t end = runs[i].row + runs[i].tokens, limit = b->row + b->rows;
        if (end > limit)
            end = limit;
        if (begin >= end)
            continue;
        b->runs[b->run_count++] = (struct run){
            .session = runs[i].session,
            .row = begin - b->row,
            .tokens = end - begin,
            .position = runs[i].position + (begin - runs[i].row),
        };
    }
}

struct sub_batch sub_batch_make(struct pass *pass, uint32_t block, uint32_t row)
{
    struct sluice_engine *e = pass->engine;
    struct sub_batch b = {.engine = e, .pass = pass, .block = &e->scratch.blocks[block], .row = row};
    uint32_t left = pass->blocks[block].rows - row;
    b.rows = left < e->scratch.batch ? left : e->scratch.batch;
    b.h = sub_batch_rows(&b, b.block->h, 4ull * e->config.hidden_size);
    select_runs(&b, pass->blocks[block].runs, pass->blocks[block].run_count);
    return b;
}
