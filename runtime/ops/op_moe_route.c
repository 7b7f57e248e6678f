#include "runtime/ops/ops_internal.h"
#include "shaders/mixer_params.h"

void op_moe_route(struct ops *ops, struct gpu_command *cmd, struct gpu_range logits, uint32_t n, uint32_t experts,
                  uint32_t top_k, bool renormalise, struct gpu_range ids, struct gpu_range weights)
{
    CHECK(experts > 0 && experts <= OPS_EXPERTS_MAX && n <= ops->caps->max_groups_x);
    CHECK(top_k > 0 && top_k <= experts && top_k <= OPS_TOP_K_MAX);
    CHECK(logits.bytes >= 4ull * n * experts);
    CHECK(ids.bytes >= 4ull * n * top_k && weights.bytes >= 4ull * n * top_k);
    struct moe_route_push push = {.experts = experts, .top_k = top_k, .renormalise = renormalise};
    struct gpu_range ranges[] = {logits, ids, weights};
    ops_dispatch(ops, cmd,
                 &(struct ops_dispatch){.shader = SHADER_MOE_ROUTE,
                                        .ranges = ranges,
                                        .range_count = 3,
                                        .push = &push,
                                        .push_bytes = sizeof push,
                                        .groups_x = n,
                                        .groups_y = 1,
                                        .groups_z = 1});
}

void op_moe_combine(struct ops *ops, struct gpu_command *cmd, struct gpu_range y, struct gpu_range row,
                    struct gpu_range weight, uint32_t n, uint32_t top_k, uint32_t row0, uint32_t row_count,
                    struct gpu_range h, uint32_t hidden)
{
    uint64_t fours = (uint64_t)n * (hidden / 4);
    CHECK(hidden > 0 && hidden % 4 == 0 && top_k > 0 && top_k <= OPS_TOP_K_MAX && fours <= UINT32_MAX);
    CHECK(y.bytes >= 4ull * row_count * hidden && h.bytes >= 16 * fours);
    CHECK(row.bytes >= 4ull * n * top_k && weight.bytes >= 4ull * n * top_k);
    if (row_count == 0)
        return;
    struct moe_combine_push push = {
        .tokens = n, .hidden = hidden, .top_k = top_k, .row0 = row0, .row_count = row_count};
    struct gpu_range ranges[] = {y, row, weight, h};
    ops_dispatch(ops, cmd,
                 &(struct ops_dispatch){.shader = SHADER_MOE_COMBINE,
                                        .ranges = ranges,
                                        .range_count = 4,
                                        .push = &push,
                                        .push_bytes = sizeof push,
                                        .groups_x = u32_min(n, ops->caps->max_groups_x),
                                        .groups_y = 1,
                                        .groups_z = 1});
}

void op_moe_combine_norm(struct ops *ops, struct gpu_command *cmd, struct gpu_range y, struct gpu_range row,
                         struct gpu_range weight, uint32_t top_k, struct gpu_range h, struct gpu_range w, float eps,
                         const struct activations *x)
{
    uint64_t picks = (uint64_t)x->n * top_k, bytes = 4ull * x->n * x->cols;
    bool q8 = x->q8.bytes != 0;
    CHECK(x->cols > 0 && x->cols % 4 == 0 && top_k > 0 && x->n <= ops->caps->max_groups_x);
    CHECK(y.bytes >= 4 * picks * x->cols && row.bytes >= 4 * picks && weight.bytes >= 4 * picks);
    CHECK(h.bytes >= bytes && x->f32.bytes >= bytes && w.bytes >= 4ull * x->cols);
    CHECK(!q8 || (x->cols % 32 == 0 && x->q8.bytes >= bytes / 4 && x->q8_scales.bytes >= bytes / 16));
    struct moe_combine_norm_push push = {.cols = x->cols, .top_k = top_k, .eps = eps};
    struct gpu_range plain[] = {h, w, x->f32, y, row, weight};
    struct gpu_range rounded[] = {h, w, x->f32, x->q8, x->q8_scales, y, row, weight};
    ops_dispatch(ops, cmd,
                 &(struct ops_dispatch){.shader = q8 ? SHADER_MOE_COMBINE_NORM_Q8 : SHADER_MOE_COMBINE_NORM,
                                        .ranges = q8 ? rounded : plain,
                                        .range_count = q8 ? 8 : 6,
                                        .push = &push,
                                        .push_bytes = sizeof push,
                                        .groups_x = x->n,
                                        .groups_y = 1,
                                        .groups_z = 1});
}
