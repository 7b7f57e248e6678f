#include "quant/tile.h"
#include "runtime/ops/coop.h"
#include "runtime/ops/matmul_job.h"

enum { LIST_LANES = 64 }; // local size of the kernels that work through a list of pieces

// One dispatch per part, with what `job` says beside the weights and their shape.
static void multiply_parts(struct ops *ops, struct gpu_command *cmd, const struct tensor *w, struct matmul_job job)
{
    job.type = w->type;
    job.exact = w->exact;
    job.push.cols = w->cols;
    job.push.x_count = job.x->n;
    if (job.x->n == 0)
        return;
    CHECK(job.push.y_stride >= w->rows);
    CHECK(job.y.bytes >= 4 * ((uint64_t)(job.x->n - 1) * job.push.y_stride + w->rows));
    for (uint32_t i = 0; i < w->part_count; i++) {
        const struct tensor_part *part = &w->parts[i];
        CHECK(part->range.bytes >= quant_tile_bytes(w->type, part->rows, w->cols));
        job.weights = part->range;
        job.push.rows = part->rows;
        job.push.row0 = part->row0;
        matmul_job_dispatch(ops, cmd, &job);
    }
}

void op_matmul(struct ops *ops, struct gpu_command *cmd, const struct tensor *w, const struct activations *x,
               struct gpu_range y, uint32_t y_stride, bool accumulate)
{
    multiply_parts(
        ops, cmd, w,
        (struct matmul_job){
            .x = x, .y = y, .push = {.y_stride = y_stride, .accumulate = accumulate ? MATMUL_ADD : MATMUL_STORE}});
}

void op_matmul_gated(struct ops *ops, struct gpu_command *cmd, const struct tensor *w, const struct activations *x,
                     struct gpu_range gate, struct gpu_range y, struct gpu_range h)
{
    struct matmul_job job = {
        .x = x, .y = h, .gate = gate, .push = {.y_stride = w->rows, .accumulate = MATMUL_ADD_GATED}};
    CHECK(gate.bytes >= 4ull * x->n);
    job.type = w->type;
    job.exact = w->exact;
    if (!coop_multiplies(ops, &job)) {
        multiply_parts(ops, cmd, w, job);
        return;
    }
    op_matmul(ops, cmd, w, x, y, w->rows, false);
    op_gated_add(ops, cmd, y, gate, 1, x->n, w->rows, h);
}

void op_gate_up(struct ops *ops, struct gpu_command *cmd, const struct tensor *gate_up, uint32_t inter,
                const struct activations *x, const struct activations *y)
{
    if (x->n == 0)
        return;
    CHECK(y->n == x->n && y->cols == inter && y->f32.bytes >= 4ull * inter * y->n);
    bool rounded = y->q8.bytes != 0;
    for (uint32_t i = 0; i < gate_up->part_count; i++) {
        const struct tensor_part *part = &gate_up->parts[i];
        CHECK(part->row0 % (2 * QUANT_TILE_ROWS) == 0 && part->rows % (2 * QUANT_TILE_ROWS) == 0);
        CHECK(part->row0 / 2 < inter && part->range.bytes >= quant_tile_bytes(gate_up->type, part->rows, x->cols));
        struct matmul_job job = {
            .type = gate_up->type,
            .pair = true,
            .weights = part->range,
            .x = x,
            .y = y->f32,
            .push = {.rows = u32_min(inter - part->row0 / 2, part->rows / 2),
                     .cols = gate_up->cols,
                     .row0 = part->row0 / 2,
                     .y_stride = inter,
                     .x_count = x->n},
        };
        rounded = rounded && matmul_job_rounds(ops, &job);
        job.rounded = rounded ? y : NULL;
        matmul_job_dispatch(ops, cmd, &job);
    }
    if (!rounded)
        op_quantize_q8(ops, cmd, y);
}

void op_quantize_q8(struct ops *ops, struct gpu_command *cmd, const struct activations *x)
{
    if (x->q8.bytes == 0)
        return;
    uint64_t values = (uint64_t)x->n * x->cols;
    CHECK(x->cols % 32 == 0 && values / 4 <= UINT32_MAX);
    CHECK(x->f32.bytes >= 4 * values && x->q8.bytes >= values && x->q8_scales.bytes >= values / 32 * 8);
    struct quantize_q8_push push = {.block_count = (uint32_t)(values / 32)};
    struct gpu_range ranges[] = {x->f32, x->q8, x->q8_scales};
    ops_dispatch(ops, cmd,
                 &(struct ops_dispatch){
                     .shader = SHADER_QUANTIZE_Q8,
                     .constants = {LIST_LANES},
                     .constant_count = 1,
                     .ranges = ranges,
                     .range_count = 3,
                     .push = &push,
                     .push_bytes = sizeof push,
                     .groups_x = u32_min(u32_divide_up(push.block_count, LIST_LANES), ops->caps->max_groups_x),
                     .groups_y = 1,
                     .groups_z = 1,
                 });
}

// The kernels of the formats, and the columns that one 16-byte piece of weights holds.
static const struct embed_kernel {
    enum shader_id shader;
    uint32_t piece_cols;
} embed_kernels[QUANT_TYPE_COUNT] = {
    [QUANT_F32] = {SHADER_EMBED_ROWS_F32, 4},    [QUANT_F16] = {SHADER_EMBED_ROWS_F16, 8},
    [QUANT_BF16] = {SHADER_EMBED_ROWS_BF16, 8},  [QUANT_Q8_0] = {SHADER_EMBED_ROWS_Q8_0, 16},
    [QUANT_Q4_K] = {SHADER_EMBED_ROWS_Q4_K, 32}, [QUANT_Q5_K] = {SHADER_EMBED_ROWS_Q5_K, 32},
    [QUANT_Q6_K] = {SHADER_EMBED_ROWS_Q6_K, 32},
};

void op_embed_rows(struct ops *ops, struct gpu_command *cmd, const struct tensor *table, struct gpu_range ids,
                   uint32_t n, struct gpu_range y)
{
    uint32_t piece_cols = embed_kernels[table->type].piece_cols;
    uint64_t pieces = (uint64_t)n * (table->cols / piece_cols);
    CHECK(table->cols % quant_tile_step_cols(table->type) == 0 && pieces <= UINT32_MAX / 2);
    CHECK(ids.bytes >= 4ull * n && y.bytes >= 4ull * n * table->cols);
    for (uint32_t i = 0; i < table->part_count; i++) {
        const struct tensor_part *part = &table->parts[i];
        CHECK(part->range.bytes >= quant_tile_bytes(table->type, part->rows, table->cols));
        struct embed_rows_push push = {.n = n, .cols = table->cols, .row0 = part->row0, .rows = part->rows};
        struct gpu_range ranges[] = {part->range, ids, y};
        ops_dispatch(ops, cmd,
                     &(struct ops_dispatch){
                         .shader = embed_kernels[table->type].shader,
                         .constants = {LIST_LANES},
                         .constant_count = 1,
                         .ranges = ranges,
                         .range_count = 3,
                         .push = &push,
                         .push_bytes = sizeof push,
                         .groups_x = u32_min(u32_divide_up((uint32_t)pieces, LIST_LANES), ops->caps->max_groups_x),
                         .groups_y = 1,
                         .groups_z = 1,
                     });
    }
}
