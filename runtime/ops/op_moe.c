#include "quant/tile.h"
#include "runtime/ops/matmul_job.h"

_Static_assert((int)MOE_TILE_ROWS == MATMUL_TILE_ROWS, "kernels and lists agree");

// The slab's slots as 16-byte units, and the list of tiles; the shape is filled in by the caller.
static struct matmul_job moe_job(const struct moe_slab *slab, const struct moe_tiles *tiles)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < MOE_TILE_ROWS; i++)
        count += tiles->counts[i];
    CHECK(slab->slot_bytes % 16 == 0 && slab->down_offset % 16 == 0 && slab->range.bytes / 16 <= UINT32_MAX);
    CHECK(tiles->range.bytes >= count * sizeof(struct moe_tile));
    return (struct matmul_job){.row_list = MATMUL_GROUPED,
                               .weights = slab->range,
                               .tiles = tiles,
                               .push = {.slot_units = slab->slot_bytes / 16}};
}

bool op_moe_sorts_tiles(const struct ops *ops)
{
    return ops->tuning.matmul.split_tiles;
}

bool op_moe_gate_up(struct ops *ops, struct gpu_command *cmd, const struct moe_slab *slab,
                    const struct moe_tiles *tiles, struct gpu_range row_token, const struct activations *x,
                    const struct activations *act)
{
    CHECK(act->cols == slab->inter && act->f32.bytes >= 4ull * act->n * act->cols);
    CHECK(row_token.bytes >= 4ull * act->n);
    CHECK(2 * quant_tile_bytes(slab->gate_up_type, slab->inter, slab->hidden) <= slab->down_offset);
    struct matmul_job job = moe_job(slab, tiles);
    job.type = slab->gate_up_type;
    job.pair = true;
    job.row_list = MATMUL_INDIRECT;
    job.row_token = row_token;
    job.x = x;
    job.y = act->f32;
    job.push.rows = slab->inter;
    job.push.cols = slab->hidden;
    job.push.y_stride = slab->inter;
    job.rounded = act->q8.bytes != 0 && matmul_job_rounds(ops, &job) ? act : NULL;
    matmul_job_dispatch(ops, cmd, &job);
    return job.rounded != NULL;
}

void op_moe_down(struct ops *ops, struct gpu_command *cmd, const struct moe_slab *slab, const struct moe_tiles *tiles,
                 const struct activations *act, struct gpu_range y)
{
    CHECK(y.bytes >= 4ull * act->n * slab->hidden);
    CHECK(slab->down_offset + quant_tile_bytes(slab->down_type, slab->hidden, slab->inter) <= slab->slot_bytes);
    struct matmul_job job = moe_job(slab, tiles);
    job.type = slab->down_type;
    job.x = act;
    job.y = y;
    job.push.rows = slab->hidden;
    job.push.cols = slab->inter;
    job.push.y_stride = slab->hidden;
    job.push.slot_unit0 = slab->down_offset / 16;
    matmul_job_dispatch(ops, cmd, &job);
}
