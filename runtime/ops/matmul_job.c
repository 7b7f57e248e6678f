#include "runtime/ops/matmul_job.h"

#include "quant/tile.h"
#include "runtime/ops/coop.h"

static const enum shader_id shaders_f32[QUANT_TYPE_COUNT] = {
    [QUANT_F32] = SHADER_MATMUL_F32,   [QUANT_F16] = SHADER_MATMUL_F16,   [QUANT_BF16] = SHADER_MATMUL_BF16,
    [QUANT_Q8_0] = SHADER_MATMUL_Q8_0, [QUANT_Q4_K] = SHADER_MATMUL_Q4_K, [QUANT_Q5_K] = SHADER_MATMUL_Q5_K,
    [QUANT_Q6_K] = SHADER_MATMUL_Q6_K,
};
static const enum shader_id shaders_q8[QUANT_TYPE_COUNT] = {
    [QUANT_Q8_0] = SHADER_MATMUL_Q8_0_Q8,
    [QUANT_Q4_K] = SHADER_MATMUL_Q4_K_Q8,
    [QUANT_Q5_K] = SHADER_MATMUL_Q5_K_Q8,
    [QUANT_Q6_K] = SHADER_MATMUL_Q6_K_Q8,
};

enum { FLOAT_STEP_COLS = 64 }; // of the kernels, see format_float.glsl; for the other formats it is the layout's step

static bool uses_q8(enum quant_type type, const struct activations *x)
{
    return x->q8.bytes != 0 && !quant_format_get(type)->is_float;
}

// The smallest choice that takes all columns at once, else the largest.
static uint32_t choose_columns(const uint32_t *choices, uint32_t count)
{
    uint32_t best = choices[0];
    for (unsigned i = 1; i < MATMUL_COLUMN_CHOICES && choices[i] && best < count; i++)
        best = choices[i];
    return best;
}

// By the shape alone, because it decides the order of the sum.
static uint32_t choose_slices(enum quant_type type, uint32_t cols)
{
    uint32_t step_cols = quant_format_get(type)->is_float ? (uint32_t)FLOAT_STEP_COLS : quant_tile_step_cols(type);
    return ops_min(ops_divide_up(cols, step_cols), MATMUL_SLICES_MAX);
}

// The power of two from `slices` on, if there are few columns.
static uint32_t choose_slice_lanes(const struct matmul_tuning *tuning, uint32_t slices, uint32_t columns)
{
    uint32_t lanes = 1;
    while (columns <= tuning->slice_columns_max && lanes < slices)
        lanes *= 2;
    return lanes;
}

static void check_shape(const struct matmul_job *job, bool q8)
{
    uint64_t cols = job->push.cols;
    CHECK(job->push.rows > 0 && cols > 0 && cols % quant_tile_step_cols(job->type) == 0);
    CHECK(job->x->cols == cols);
    if (q8) // the only form that is read then; the other may be absent
        CHECK(job->x->q8.bytes >= cols * job->x->n && job->x->q8_scales.bytes >= cols / 32 * 8 * job->x->n);
    else
        CHECK(job->x->f32.bytes >= 4 * cols * job->x->n);
    CHECK((uint64_t)job->x->n * cols / 4 <= UINT32_MAX);
}

static void dispatch_blocks(struct ops *ops, struct gpu_command *cmd, const struct matmul_job *job,
                            struct ops_dispatch *dispatch, uint32_t blocks)
{
    struct matmul_push push = job->push;
    push.slices = choose_slices(job->type, push.cols);
    dispatch->push = &push;
    dispatch->push_bytes = sizeof push;
    for (push.block0 = 0; push.block0 < blocks; push.block0 += dispatch->groups_y) {
        dispatch->groups_y = ops_min(blocks - push.block0, ops->caps->max_groups_y);
        ops_dispatch(ops, cmd, dispatch);
    }
}

void matmul_job_dispatch(struct ops *ops, struct gpu_command *cmd, const struct matmul_job *job)
{
    const struct matmul_tuning *tuning = &ops->tuning.matmul;
    bool q8 = uses_q8(job->type, job->x);
    check_shape(job, q8);
    if (coop_multiplies(ops, job)) {
        coop_multiply(ops, cmd, job);
        return;
    }
    bool grouped = job->row_list != MATMUL_DENSE;
    uint32_t rows_of_x = grouped ? job->tile_rows : job->x->n;
    uint32_t columns = choose_columns(tuning->columns[q8][job->pair], rows_of_x);
    uint32_t column_blocks = ops_divide_up(rows_of_x, columns);
    struct gpu_range x = q8 ? job->x->q8 : job->x->f32;
    // A dense kernel does not look at the lists, but they must be bound to something.
    struct gpu_range ranges[] = {
        job->weights,     x, job->y, grouped ? job->tiles : x, job->row_list == MATMUL_INDIRECT ? job->row_token : x,
        job->x->q8_scales};
    struct ops_dispatch dispatch = {
        .shader = q8 ? shaders_q8[job->type] : shaders_f32[job->type],
        .constants = {tuning->lanes, tuning->rows_per_lane, columns, job->pair ? 2 : 1, job->row_list,
                      tuning->integer_dot, tuning->unrolled,
                      choose_slice_lanes(tuning, choose_slices(job->type, job->push.cols), columns), tuning->read_ahead,
                      !ops->caps->is_software},
        .constant_count = q8 ? 10 : 9,
        .ranges = ranges,
        .range_count = q8 ? 6 : 5,
        .groups_x = ops_divide_up(job->push.rows, tuning->lanes * tuning->rows_per_lane),
        .groups_z = grouped ? column_blocks : 1,
    };
    CHECK(dispatch.groups_x <= ops->caps->max_groups_x);
    dispatch_blocks(ops, cmd, job, &dispatch, grouped ? job->tile_count : column_blocks);
}
