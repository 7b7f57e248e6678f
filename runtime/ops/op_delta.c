#include "runtime/ops/ops_internal.h"
#include "shaders/mixer_params.h"

enum { CONV_LANES = 64, SCAN_COLUMNS = 32, SCAN_PARTS = 4 };

// Tokens per workgroup of the convolution; a call of more is cut into runs. Long enough that the taps - 1 tokens that
// two runs both read cost little, short enough that a prompt fills a GPU.
enum { CONV_RUN_TOKENS = 32 };

static uint32_t channel_count(const struct delta_shape *shape)
{
    return 2 * shape->key_heads * shape->key_dim + shape->value_heads * shape->value_dim;
}

static uint64_t qkvz_bytes(const struct delta_shape *shape, uint32_t tokens)
{
    return 8ull * tokens * (shape->key_heads * shape->key_dim + shape->value_heads * shape->value_dim);
}

static void shape_check(const struct ops *ops, const struct delta_shape *shape, uint32_t tokens)
{
    CHECK(shape->key_heads > 0 && shape->value_heads > 0 && shape->value_heads % shape->key_heads == 0);
    CHECK(shape->key_dim > 0 && shape->key_dim % 8 == 0 && shape->value_dim > 0 && shape->value_dim % 8 == 0);
    CHECK(shape->conv_taps >= 2 && shape->conv_taps <= OPS_CONV_TAPS_MAX);
    CHECK(tokens <= ops->caps->max_groups_x && shape->value_heads <= ops->caps->max_groups_y);
}

// The new state after a call that was cut into runs.
static void conv_state(struct ops *ops, struct gpu_command *cmd, const struct delta_shape *shape,
                       const struct conv_push *push, const struct gpu_range ranges[3])
{
    ops_dispatch(ops, cmd,
                 &(struct ops_dispatch){.shader = SHADER_CONV_STATE,
                                        .constants = {shape->conv_taps},
                                        .constant_count = 1,
                                        .ranges = ranges,
                                        .range_count = 3,
                                        .push = push,
                                        .push_bytes = sizeof *push,
                                        .groups_x = u32_divide_up(channel_count(shape), CONV_LANES),
                                        .groups_y = 1,
                                        .groups_z = 1});
}

void op_conv_seq(struct ops *ops, struct gpu_command *cmd, const struct delta_shape *shape, struct gpu_range qkvz,
                 uint32_t tokens, struct gpu_range weight, struct gpu_range state, struct gpu_range out)
{
    uint64_t channels = channel_count(shape);
    shape_check(ops, shape, tokens);
    CHECK(qkvz.bytes >= qkvz_bytes(shape, tokens) && out.bytes >= 4 * tokens * channels);
    CHECK(weight.bytes >= 4 * channels * shape->conv_taps && state.bytes >= 4 * channels * (shape->conv_taps - 1));
    if (tokens == 0)
        return;
    bool single = tokens <= CONV_RUN_TOKENS;
    struct conv_push push = {.key_heads = shape->key_heads,
                             .value_heads = shape->value_heads,
                             .key_dim = shape->key_dim,
                             .value_dim = shape->value_dim,
                             .tokens = tokens,
                             .run_tokens = CONV_RUN_TOKENS,
                             .update_state = single};
    struct gpu_range ranges[] = {qkvz, weight, state, out};
    ops_dispatch(ops, cmd,
                 &(struct ops_dispatch){.shader = SHADER_CONV_SEQ,
                                        .constants = {shape->conv_taps},
                                        .constant_count = 1,
                                        .ranges = ranges,
                                        .range_count = 4,
                                        .push = &push,
                                        .push_bytes = sizeof push,
                                        .groups_x = u32_divide_up((uint32_t)channels, CONV_LANES),
                                        .groups_y = u32_divide_up(tokens, CONV_RUN_TOKENS),
                                        .groups_z = 1});
    if (!single)
        conv_state(ops, cmd, shape, &push, ranges);
}

void op_delta_scan(struct ops *ops, struct gpu_command *cmd, const struct delta_shape *shape, struct gpu_range conv,
                   struct gpu_range ba, uint32_t tokens, struct gpu_range a_log, struct gpu_range dt_bias,
                   struct gpu_range state, struct gpu_range o)
{
    uint64_t values = (uint64_t)shape->value_heads * shape->value_dim;
    shape_check(ops, shape, tokens);
    CHECK(conv.bytes >= 4ull * tokens * channel_count(shape) && ba.bytes >= 8ull * tokens * shape->value_heads);
    CHECK(a_log.bytes >= 4ull * shape->value_heads && dt_bias.bytes >= 4ull * shape->value_heads);
    CHECK(state.bytes >= 4 * values * shape->key_dim && o.bytes >= 4 * tokens * values);
    if (tokens == 0)
        return;
    uint32_t parts = shape->key_dim % (4 * SCAN_PARTS) == 0 ? SCAN_PARTS : 2;
    const struct delta_tuning *tuning = &ops->tuning.delta;
    uint32_t lane_parts = tuning->whole_columns ? parts : 1;
    struct delta_scan_push push = {.key_heads = shape->key_heads, .value_heads = shape->value_heads, .tokens = tokens};
    struct gpu_range ranges[] = {conv, ba, a_log, dt_bias, state, o};
    ops_dispatch(ops, cmd,
                 &(struct ops_dispatch){
                     .shader = SHADER_DELTA_SCAN,
                     .constants = {SCAN_COLUMNS / tuning->lane_columns * parts / lane_parts * tuning->row_lanes,
                                   shape->key_dim / 4, shape->value_dim, parts, lane_parts, tuning->lane_columns,
                                   tuning->staged, tuning->row_lanes},
                     .constant_count = 8,
                     .ranges = ranges,
                     .range_count = 6,
                     .push = &push,
                     .push_bytes = sizeof push,
                     .groups_x = u32_divide_up(shape->value_dim, SCAN_COLUMNS),
                     .groups_y = shape->value_heads,
                     .groups_z = 1});
}

void op_delta_norm(struct ops *ops, struct gpu_command *cmd, const struct delta_shape *shape, struct gpu_range o,
                   struct gpu_range qkvz, struct gpu_range w, float eps, const struct activations *y)
{
    uint64_t bytes = 4ull * y->n * y->cols;
    shape_check(ops, shape, y->n);
    CHECK(y->cols == shape->value_heads * shape->value_dim && w.bytes >= 4ull * shape->value_dim);
    CHECK(o.bytes >= bytes && y->f32.bytes >= bytes && qkvz.bytes >= qkvz_bytes(shape, y->n));
    struct delta_norm_push push = {.key_heads = shape->key_heads,
                                   .value_heads = shape->value_heads,
                                   .key_dim = shape->key_dim,
                                   .value_dim = shape->value_dim,
                                   .eps = eps};
    bool rounds = ops_head_rounds(shape->value_dim, y);
    struct gpu_range ranges[] = {o, qkvz, w, y->f32, y->q8, y->q8_scales};
    ops_dispatch(ops, cmd,
                 &(struct ops_dispatch){.shader = rounds ? SHADER_DELTA_NORM_Q8 : SHADER_DELTA_NORM,
                                        .ranges = ranges,
                                        .range_count = rounds ? 6 : 4,
                                        .push = &push,
                                        .push_bytes = sizeof push,
                                        .groups_x = y->n,
                                        .groups_y = shape->value_heads,
                                        .groups_z = 1});
    if (!rounds)
        op_quantize_q8(ops, cmd, y);
}
