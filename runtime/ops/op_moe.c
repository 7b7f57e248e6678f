#include "quant/tile.h"
#include "runtime/ops/matmul_job.h"

_Static_assert((int)MOE_TILE_ROWS == MATMUL_TILE_ROWS, "kernels and lists agree");
_Static_assert((int)MOE_SLABS_MAX == MATMUL_SLABS && (int)MOE_SLABS_MAX == SHADER_ARRAY_BUFFERS, "so do the bindings");

// The slab's slots as 16-byte units, and the list of tiles; the shape is filled in by the caller.
static struct matmul_job moe_job(const struct ops *ops, const struct moe_slab *slabs, uint32_t slab_count,
                                 const struct moe_tiles *tiles)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < MOE_TILE_ROWS; i++)
        count += tiles->counts[i];
    CHECK(slabs->slot_bytes % 16 == 0 && slabs->down_offset % 16 == 0 && slabs->range.bytes / 16 <= UINT32_MAX);
    CHECK(tiles->range.bytes >= count * sizeof(struct moe_tile));
    CHECK(slab_count > 0 && slab_count <= op_moe_slabs_at_once(ops));
    for (uint32_t i = 1; i < slab_count; i++)
        CHECK(slabs[i].slot_bytes == slabs->slot_bytes && slabs[i].range.bytes / 16 <= UINT32_MAX);
    return (struct matmul_job){.row_list = MATMUL_GROUPED,
                               .weights = slabs->range,
                               .slabs = slabs,
                               .slab_count = slab_count,
                               .tiles = tiles,
                               .push = {.slot_units = slabs->slot_bytes / 16}};
}

bool op_moe_sorts_tiles(const struct ops *ops)
{
    return ops->tuning.matmul.split_tiles;
}

uint32_t op_moe_slabs_at_once(const struct ops *ops)
{
    bool coop = ops->prefill && ops->tuning.matrix_cores;
    return ops->tuning.matmul.slabs && !coop ? MOE_SLABS_MAX : 1;
}

bool op_moe_gate_up(struct ops *ops, struct gpu_command *cmd, const struct moe_slab *slabs, uint32_t slab_count,
                    const struct moe_tiles *tiles, struct gpu_range row_token, const struct activations *x,
                    const struct activations *act)
{
    CHECK(act->cols == slabs->inter && act->f32.bytes >= 4ull * act->n * act->cols);
    CHECK(row_token.bytes >= 4ull * act->n);
    CHECK(2 * quant_tile_bytes(slabs->gate_up_type, slabs->inter, slabs->hidden) <= slabs->down_offset);
    struct matmul_job job = moe_job(ops, slabs, slab_count, tiles);
    job.type = slabs->gate_up_type;
    job.pair = true;
    job.row_list = MATMUL_INDIRECT;
    job.row_token = row_token;
    job.x = x;
    job.y = act->f32;
    job.push.rows = slabs->inter;
    job.push.cols = slabs->hidden;
    job.push.y_stride = slabs->inter;
    job.rounded = act->q8.bytes != 0 && matmul_job_rounds(ops, &job) ? act : NULL;
    matmul_job_dispatch(ops, cmd, &job);
    return job.rounded != NULL;
}

void op_moe_down(struct ops *ops, struct gpu_command *cmd, const struct moe_slab *slabs, uint32_t slab_count,
                 const struct moe_tiles *tiles, const struct activations *act, struct gpu_range y)
{
    CHECK(y.bytes >= 4ull * act->n * slabs->hidden);
    CHECK(slabs->down_offset + quant_tile_bytes(slabs->down_type, slabs->hidden, slabs->inter) <= slabs->slot_bytes);
    struct matmul_job job = moe_job(ops, slabs, slab_count, tiles);
    job.type = slabs->down_type;
    job.x = act;
    job.y = y;
    job.push.rows = slabs->hidden;
    job.push.cols = slabs->inter;
    job.push.y_stride = slabs->hidden;
    job.push.slot_unit0 = slabs->down_offset / 16;
    matmul_job_dispatch(ops, cmd, &job);
}
