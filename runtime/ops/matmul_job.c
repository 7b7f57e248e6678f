#include "runtime/ops/matmul_job.h"

#include <string.h>

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
static const enum shader_id shaders_quads[QUANT_TYPE_COUNT] = {
    [QUANT_Q4_K] = SHADER_MATMUL_Q4_K_QUADS,
    [QUANT_Q5_K] = SHADER_MATMUL_Q5_K_QUADS,
    [QUANT_Q6_K] = SHADER_MATMUL_Q6_K_QUADS,
};

// Those that are bound to several slabs: [x in f32, in 8 bits].
static const enum shader_id shaders_slabs[2][QUANT_TYPE_COUNT] = {
    {[QUANT_F32] = SHADER_MATMUL_F32_SLABS,
     [QUANT_F16] = SHADER_MATMUL_F16_SLABS,
     [QUANT_BF16] = SHADER_MATMUL_BF16_SLABS,
     [QUANT_Q8_0] = SHADER_MATMUL_Q8_0_SLABS,
     [QUANT_Q4_K] = SHADER_MATMUL_Q4_K_SLABS,
     [QUANT_Q5_K] = SHADER_MATMUL_Q5_K_SLABS,
     [QUANT_Q6_K] = SHADER_MATMUL_Q6_K_SLABS},
    {[QUANT_Q8_0] = SHADER_MATMUL_Q8_0_Q8_SLABS,
     [QUANT_Q4_K] = SHADER_MATMUL_Q4_K_Q8_SLABS,
     [QUANT_Q5_K] = SHADER_MATMUL_Q5_K_Q8_SLABS,
     [QUANT_Q6_K] = SHADER_MATMUL_Q6_K_Q8_SLABS},
};

static const enum shader_id shaders_quads_slabs[QUANT_TYPE_COUNT] = {
    [QUANT_Q4_K] = SHADER_MATMUL_Q4_K_QUADS_SLABS,
    [QUANT_Q5_K] = SHADER_MATMUL_Q5_K_QUADS_SLABS,
    [QUANT_Q6_K] = SHADER_MATMUL_Q6_K_QUADS_SLABS,
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

static uint32_t count_steps(enum quant_type type, uint32_t cols)
{
    uint32_t step_cols = quant_format_get(type)->is_float ? (uint32_t)FLOAT_STEP_COLS : quant_tile_step_cols(type);
    return u32_divide_up(cols, step_cols);
}

// By the shape alone, because it decides the order of the sum.
static uint32_t choose_slices(enum quant_type type, uint32_t cols)
{
    return u32_min(count_steps(type, cols), MATMUL_SLICES_MAX);
}

// The power of two from `slices` on, if there are few columns.
static uint32_t choose_slice_lanes(const struct matmul_tuning *tuning, uint32_t slices, uint32_t columns)
{
    uint32_t lanes = 1;
    while (columns <= tuning->slice_columns_max && lanes < slices)
        lanes *= 2;
    return lanes;
}

// How many slices of `columns` rows of x fit into shared memory beside each other, see stage_columns in
// matmul_quads.glsl. 0: there is no such kernel.
static uint32_t choose_stage_slices(const struct matmul_tuning *tuning, const struct matmul_job *job, uint32_t columns)
{
    bool is_k = job->type == QUANT_Q4_K || job->type == QUANT_Q5_K || job->type == QUANT_Q6_K;
    if (!is_k || !uses_q8(job->type, job->x))
        return 0;
    uint32_t slices = choose_slices(job->type, job->push.cols);
    uint32_t slice_steps = u32_divide_up(count_steps(job->type, job->push.cols), slices);
    return tuning->stage_words / columns / 9 * 32 / (slice_steps * quant_tile_step_cols(job->type));
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

// `count` blocks from `first` on, in grids that the device allows.
static void dispatch_blocks(struct ops *ops, struct gpu_command *cmd, struct matmul_push push,
                            struct ops_dispatch *dispatch, uint32_t first, uint32_t count)
{
    dispatch->push = &push;
    dispatch->push_bytes = sizeof push;
    for (push.block0 = first; push.block0 < first + count; push.block0 += dispatch->groups_y) {
        dispatch->groups_y = u32_min(first + count - push.block0, ops->caps->max_groups_y);
        ops_dispatch(ops, cmd, dispatch);
    }
}

// Without the dot product instruction four columns of a pair are more than Intel's registers hold, and eight of one
// matrix more than AMD's scalar ones.
static const uint32_t *column_choices(const struct ops *ops, const struct matmul_job *job)
{
    static const uint32_t few[2][MATMUL_COLUMN_CHOICES] = {{1, 2, 4}, {1, 2}};
    bool q8 = uses_q8(job->type, job->x);
    if (q8 && !ops->tuning.matmul.integer_dot && !ops->caps->is_software)
        return few[job->pair];
    return ops->tuning.matmul.columns[q8][job->pair];
}

// Whether a workgroup's results fit where the stage was: see keep() in matmul_quads.glsl.
static bool stage_holds_results(const struct matmul_tuning *tuning, uint32_t lanes, uint32_t columns)
{
    return lanes * tuning->rows_per_lane <= tuning->stage_words / columns / 9 * 8;
}

static enum shader_id choose_shader(const struct matmul_job *job, bool staged, bool slabs)
{
    bool q8 = uses_q8(job->type, job->x);
    if (staged)
        return (slabs ? shaders_quads_slabs : shaders_quads)[job->type];
    return slabs ? shaders_slabs[q8][job->type] : q8 ? shaders_q8[job->type] : shaders_f32[job->type];
}

// The ranges with weights: one, or as many as the kernels for slabs are bound to, the last one again and again. Returns
// how many.
static uint32_t bind_weights(const struct matmul_job *job, bool slabs, struct gpu_range *ranges)
{
    ranges[0] = job->weights;
    for (uint32_t i = 1; slabs && i < MATMUL_SLABS; i++)
        ranges[i] = job->slabs[u32_min(i, job->slab_count - 1)].range;
    return slabs ? MATMUL_SLABS : 1;
}

// The kernel that takes `columns` rows of x at once, for `count` blocks from `first` on; grouped: of the list's tiles,
// with column_blocks times as many rows at most, else those are the blocks.
static void dispatch_columns(struct ops *ops, struct gpu_command *cmd, const struct matmul_job *job, uint32_t columns,
                             uint32_t column_blocks, uint32_t first, uint32_t count)
{
    const struct matmul_tuning *tuning = &ops->tuning.matmul;
    bool q8 = uses_q8(job->type, job->x), grouped = job->row_list != MATMUL_DENSE;
    struct matmul_push push = job->push;
    push.slices = choose_slices(job->type, push.cols);
    push.stage_slices = choose_stage_slices(tuning, job, columns);
    bool rounds = job->rounded;
    bool staged = push.stage_slices > 0 && (!rounds || stage_holds_results(tuning, tuning->lanes, columns));
    bool wide = staged && push.rows >= tuning->stage_lanes * tuning->rows_per_lane &&
                (!rounds || stage_holds_results(tuning, tuning->stage_lanes, columns));
    uint32_t lanes = wide ? tuning->stage_lanes : tuning->lanes;
    bool slabs = grouped && tuning->slabs;
    struct gpu_range x = q8 ? job->x->q8 : job->x->f32;
    // What a variant does not look at must be bound to something.
    const struct gpu_range others[] = {x,
                                       job->y,
                                       grouped ? job->tiles->range : x,
                                       job->push.accumulate == MATMUL_ADD_GATED ? job->gate
                                       : job->row_list == MATMUL_INDIRECT       ? job->row_token
                                                                                : x,
                                       job->x->q8_scales,
                                       rounds ? job->rounded->q8 : job->y,
                                       rounds ? job->rounded->q8_scales : job->y};
    struct gpu_range ranges[SHADER_BUFFERS_MAX];
    uint32_t weights = bind_weights(job, slabs, ranges);
    memcpy(&ranges[weights], others, sizeof others);
    struct ops_dispatch dispatch = {
        .shader = choose_shader(job, staged, slabs),
        .constants = {lanes, tuning->rows_per_lane, columns, job->pair ? 2 : 1, job->row_list, tuning->integer_dot,
                      tuning->unrolled || staged, staged ? 1 : choose_slice_lanes(tuning, push.slices, columns),
                      tuning->read_ahead, !ops->caps->is_software, rounds, tuning->stage_words},
        .constant_count = staged ? 12
                          : q8   ? 11
                                 : 9,
        .ranges = ranges,
        .range_count = weights + (q8 ? 7 : 4),
        .groups_x = u32_divide_up(push.rows, lanes * tuning->rows_per_lane),
        .groups_z = grouped ? column_blocks : 1,
    };
    CHECK(dispatch.groups_x <= ops->caps->max_groups_x);
    dispatch_blocks(ops, cmd, push, &dispatch, first, count);
}

// Tiles first .. first + count - 1 of the list, none of which has more than `rows` rows.
static void dispatch_tiles(struct ops *ops, struct gpu_command *cmd, const struct matmul_job *job, uint32_t rows,
                           uint32_t first, uint32_t count)
{
    uint32_t columns = choose_columns(column_choices(ops, job), rows);
    if (count)
        dispatch_columns(ops, cmd, job, columns, u32_divide_up(rows, columns), first, count);
}

static void dispatch_list(struct ops *ops, struct gpu_command *cmd, const struct matmul_job *job)
{
    const uint32_t *choices = column_choices(ops, job);
    uint32_t first = 0, count = 0, most = 0;
    for (uint32_t rows = 1; rows <= MOE_TILE_ROWS; rows++) {
        uint32_t more = job->tiles->counts[rows - 1];
        bool other = choose_columns(choices, rows) != choose_columns(choices, most);
        if (more && other && ops->tuning.matmul.split_tiles) {
            dispatch_tiles(ops, cmd, job, most, first, count);
            first += count;
            count = 0;
        }
        count += more;
        most = more ? rows : most;
    }
    dispatch_tiles(ops, cmd, job, most, first, count);
}

bool matmul_job_rounds(const struct ops *ops, const struct matmul_job *job)
{
    return uses_q8(job->type, job->x) && !coop_multiplies(ops, job);
}

static void check_rounded(const struct ops *ops, const struct matmul_job *job)
{
    const struct activations *y = job->rounded;
    uint64_t values = (uint64_t)y->n * y->cols;
    CHECK(matmul_job_rounds(ops, job) && !job->push.accumulate);
    CHECK(y->cols == job->push.y_stride && y->cols % 32 == 0 && job->push.row0 % 32 == 0 && job->push.rows % 32 == 0);
    CHECK(y->q8.bytes >= values && y->q8_scales.bytes >= values / 32 * 8);
}

void matmul_job_dispatch(struct ops *ops, struct gpu_command *cmd, const struct matmul_job *job)
{
    check_shape(job, uses_q8(job->type, job->x));
    if (job->rounded)
        check_rounded(ops, job);
    if (coop_multiplies(ops, job)) {
        coop_multiply(ops, cmd, job);
        return;
    }
    if (job->row_list != MATMUL_DENSE) {
        dispatch_list(ops, cmd, job);
        return;
    }
    uint32_t columns = choose_columns(column_choices(ops, job), job->x->n);
    dispatch_columns(ops, cmd, job, columns, 0, 0, u32_divide_up(job->x->n, columns));
}
