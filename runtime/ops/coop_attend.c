#include "runtime/ops/coop.h"
#include "shaders/mixer_params.h"

// Of attend_coop.comp: query rows and positions that a workgroup handles at a time, dimensions that pass through shared
// memory at once.
enum { ROWS = 32, STEP = 32, PIECE = 64, PADDING = 8, SHARED_BYTES_MAX = 32 << 10 };

// Along the columns: one for each product of scores; twice as many on Intel's narrow subgroups, which have too few
// registers for their share of the values otherwise.
static uint32_t subgroups_n(const struct gpu_caps *caps, uint32_t head_dim)
{
    bool narrow = caps->matrix_subgroup_size < 32 && !caps->is_software && head_dim >= 2 * STEP;
    return STEP / caps->matrix_shape.n * (narrow ? 2 : 1);
}

static uint32_t invocations_of(const struct gpu_caps *caps, uint32_t head_dim)
{
    return ROWS / caps->matrix_shape.m * subgroups_n(caps, head_dim) * caps->matrix_subgroup_size;
}

static uint32_t shared_bytes(const struct gpu_caps *caps, uint32_t head_dim)
{
    uint32_t piece = u32_min(head_dim, PIECE),
             halves = ROWS * (head_dim + PADDING) + STEP * (piece + PADDING) + ROWS * (STEP + PADDING);
    return 2 * halves + 4 * (ROWS * (STEP + 4) + ROWS * caps->matrix_shape.n + invocations_of(caps, head_dim));
}

bool coop_attends(const struct ops *ops, const struct attention_shape *shape)
{
    const struct gpu_caps *caps = ops->caps;
    uint32_t dim = shape->head_dim;
    if (!ops->tuning.matrix_cores || !ops->tuning.matrix_attention || !ops->prefill || shape->kv != KV_F16 ||
        !(dim == STEP || dim % PIECE == 0))
        return false;
    // Products of 8 columns on Intel's A770 leave no registers for the rest.
    if (caps->matrix_shape.n < 16 && !caps->is_software)
        return false;
    uint32_t invocations = invocations_of(caps, dim);
    // PARTS of a row must be of fours of positions.
    return caps->matrix_shape.k <= STEP && invocations % ROWS == 0 && invocations / ROWS <= STEP / 4 &&
           invocations <= caps->max_invocations && shared_bytes(caps, dim) <= SHARED_BYTES_MAX;
}

void coop_attend(struct ops *ops, struct gpu_command *cmd, const struct attention_shape *shape,
                 const struct attend_push *push, const struct gpu_range ranges[5], uint32_t split_count)
{
    const struct gpu_matrix_shape *matrix = &ops->caps->matrix_shape;
    bool unrolled = !gpu_device_caps(ops->device)->is_software; // it would compile that for minutes
    uint32_t rows = push->tokens * (shape->heads / shape->kv_heads);
    ops_dispatch(ops, cmd,
                 &(struct ops_dispatch){.shader = SHADER_ATTEND_COOP,
                                        .constants = {matrix->m, matrix->n, matrix->k,
                                                      invocations_of(ops->caps, shape->head_dim), shape->head_dim,
                                                      unrolled, subgroups_n(ops->caps, shape->head_dim)},
                                        .constant_count = 7,
                                        .ranges = ranges,
                                        .range_count = 5,
                                        .push = push,
                                        .push_bytes = sizeof *push,
                                        .groups_x = u32_divide_up(rows, ROWS),
                                        .groups_y = shape->kv_heads,
                                        .groups_z = split_count});
}
