#include "runtime/ops/ops_internal.h"
#include "shaders/mixer_params.h"

enum { ROW_LANES = 64 }; // local size of the row kernels

void op_norm_rms(struct ops *ops, struct gpu_command *cmd, struct gpu_range x, struct gpu_range w, float eps,
                 const struct activations *y)
{
    uint64_t bytes = 4ull * y->n * y->cols;
    CHECK(y->cols > 0 && y->cols % 4 == 0 && y->n <= ops->caps->max_groups_x);
    CHECK(x.bytes >= bytes && y->f32.bytes >= bytes && w.bytes >= 4ull * y->cols);
    bool q8 = y->q8.bytes != 0;
    CHECK(!q8 || (y->cols % 32 == 0 && y->q8.bytes >= bytes / 4 && y->q8_scales.bytes >= bytes / 16));
    struct norm_push push = {.cols = y->cols, .eps = eps};
    struct gpu_range ranges[] = {x, w, y->f32, y->q8, y->q8_scales};
    ops_dispatch(ops, cmd,
                 &(struct ops_dispatch){.shader = q8 ? SHADER_NORM_RMS_Q8 : SHADER_NORM_RMS,
                                        .ranges = ranges,
                                        .range_count = q8 ? 5 : 3,
                                        .push = &push,
                                        .push_bytes = sizeof push,
                                        .groups_x = y->n,
                                        .groups_y = 1,
                                        .groups_z = 1});
}

void op_gated_add(struct ops *ops, struct gpu_command *cmd, struct gpu_range y, struct gpu_range gate,
                  uint32_t gate_stride, uint32_t n, uint32_t cols, struct gpu_range h)
{
    uint64_t bytes = 4ull * n * cols;
    CHECK(cols > 0 && cols % 4 == 0 && gate_stride > 0 && bytes / 16 <= UINT32_MAX);
    CHECK(y.bytes >= bytes && h.bytes >= bytes);
    if (n == 0)
        return;
    CHECK(gate.bytes >= 4 * ((uint64_t)(n - 1) * gate_stride + 1));
    struct gated_add_push push = {.count = (uint32_t)(bytes / 16), .cols = cols, .gate_stride = gate_stride};
    struct gpu_range ranges[] = {y, gate, h};
    ops_dispatch(
        ops, cmd,
        &(struct ops_dispatch){.shader = SHADER_GATED_ADD,
                               .ranges = ranges,
                               .range_count = 3,
                               .push = &push,
                               .push_bytes = sizeof push,
                               .groups_x = u32_min(u32_divide_up(push.count, ROW_LANES), ops->caps->max_groups_x),
                               .groups_y = 1,
                               .groups_z = 1});
}
