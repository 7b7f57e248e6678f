#include "runtime/ops/coop.h"

#include "quant/tile_layout.h"

enum {
    INVOCATIONS = 128,
    INVOCATIONS_NARROW = 256,
    ROW_TILES = 2,
    ROWS = ROW_TILES * QUANT_TILE_ROWS,
    COLUMNS_MIN = 16,
    COLUMNS_MERGED = 32, // tiles of an expert with more rows than a tile has are done together
    COLUMNS_MAX = 64,
};

static const enum shader_id shaders[QUANT_TYPE_COUNT] = {
    [QUANT_F16] = SHADER_MATMUL_COOP_F16,   [QUANT_BF16] = SHADER_MATMUL_COOP_BF16,
    [QUANT_Q8_0] = SHADER_MATMUL_COOP_Q8_0, [QUANT_Q4_K] = SHADER_MATMUL_COOP_Q4_K,
    [QUANT_Q5_K] = SHADER_MATMUL_COOP_Q5_K, [QUANT_Q6_K] = SHADER_MATMUL_COOP_Q6_K,
};

bool coop_multiplies(const struct ops *ops, const struct matmul_job *job)
{
    return ops->tuning.matrix_cores && ops->prefill && !job->exact && job->type != QUANT_F32;
}

// The smallest block that takes all rows of x at once, else the largest: a small block wastes less on experts with few
// rows. All give the same bits.
static uint32_t choose_columns(const struct gpu_matrix_shape *shape, uint32_t rows_of_x)
{
    uint32_t columns = shape->n < COLUMNS_MIN ? COLUMNS_MIN : shape->n;
    while (columns < rows_of_x && columns < COLUMNS_MAX)
        columns *= 2;
    return columns;
}

// How the subgroups of a workgroup share its products, and whether their loop is unrolled.
struct grid {
    uint32_t m, n;
    bool unrolled;
};

// Intel's subgroups of 8 and 16 lanes have few registers for all their products: twice as many of them, and no
// unrolling, or they spill. A software driver compiles unrolled products for minutes.
static struct grid choose_grid(const struct gpu_caps *caps, uint32_t columns)
{
    const struct gpu_matrix_shape *shape = &caps->matrix_shape;
    bool narrow = caps->matrix_subgroup_size < 32;
    uint32_t invocations = narrow && !caps->is_software ? INVOCATIONS_NARROW : INVOCATIONS;
    uint32_t subgroups = invocations / caps->matrix_subgroup_size, n_max = columns / shape->n;
    struct grid grid = {.n = n_max < 2 ? 1 : 2, .unrolled = !narrow};
    grid.m = u32_min(subgroups / grid.n, ROWS / shape->m);
    while (grid.m * grid.n < subgroups && 2 * grid.n <= n_max)
        grid.n *= 2;
    return grid;
}

// The grid in y, in slices that a dispatch may have.
static void dispatch_blocks(struct ops *ops, struct gpu_command *cmd, const struct matmul_job *job,
                            struct ops_dispatch *dispatch, uint32_t blocks)
{
    struct matmul_push push = job->push;
    if (job->row_list != MATMUL_DENSE)
        push.x_count = blocks;
    dispatch->push = &push;
    dispatch->push_bytes = sizeof push;
    for (push.block0 = 0; push.block0 < blocks; push.block0 += dispatch->groups_y) {
        dispatch->groups_y = u32_min(blocks - push.block0, ops->caps->max_groups_y);
        ops_dispatch(ops, cmd, dispatch);
    }
}

static uint32_t tile_count(const struct moe_tiles *tiles)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < MOE_TILE_ROWS; i++)
        count += tiles->counts[i];
    return count;
}

// Of the largest tile.
static uint32_t tile_rows(const struct moe_tiles *tiles)
{
    uint32_t rows = MOE_TILE_ROWS;
    while (rows > 1 && tiles->counts[rows - 1] == 0)
        rows--;
    return rows;
}

void coop_multiply(struct ops *ops, struct gpu_command *cmd, const struct matmul_job *job)
{
    const struct gpu_matrix_shape *shape = &ops->caps->matrix_shape;
    bool q8 = job->x->q8.bytes != 0 && !quant_format_get(job->type)->is_float;
    bool grouped = job->row_list != MATMUL_DENSE;
    uint32_t rows_of_x = grouped ? tile_rows(job->tiles) : job->x->n;
    uint32_t columns = choose_columns(shape, grouped && rows_of_x == MATMUL_TILE_ROWS ? COLUMNS_MERGED : rows_of_x);
    uint32_t matrices = job->pair ? 2 : 1;
    struct grid grid = choose_grid(ops->caps, columns);
    uint32_t column_blocks = u32_divide_up(rows_of_x, columns);
    struct gpu_range x = q8 ? job->x->q8 : job->x->f32;
    // What a variant does not look at must be bound to something.
    struct gpu_range ranges[] = {job->weights,
                                 x,
                                 job->y,
                                 grouped ? job->tiles->range : x,
                                 job->row_list == MATMUL_INDIRECT ? job->row_token : x,
                                 q8 ? job->x->q8_scales : x};
    struct ops_dispatch dispatch = {
        .shader = shaders[job->type],
        .constants = {shape->m, shape->n, shape->k, grid.m * grid.n * ops->caps->matrix_subgroup_size, grid.m, grid.n,
                      columns, matrices, job->row_list, q8, ROW_TILES, grid.unrolled},
        .constant_count = 12,
        .ranges = ranges,
        .range_count = 6,
        .groups_x = u32_divide_up(job->push.rows, ROWS / matrices),
        .groups_z = grouped ? column_blocks : 1,
    };
    CHECK(dispatch.groups_x <= ops->caps->max_groups_x && dispatch.groups_z <= ops->caps->max_groups_z);
    dispatch_blocks(ops, cmd, job, &dispatch, grouped ? tile_count(job->tiles) : column_blocks);
}
