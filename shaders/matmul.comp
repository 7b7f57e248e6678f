// y[i, row] = sum over the columns of W[row, column] * x[i, column], for one matrix (dense) or for the experts of a list
// of tiles (grouped), and with matrices = 2 y = silu(gate x) * (up x) of the rows of two matrices that lie in turns.
//
// A lane owns rows_per_lane rows and keeps their sums with `columns` rows of x in registers: it reads its own 16 bytes of
// weights, and x at an address that is the same for all lanes of a subgroup. A workgroup owns lanes * rows_per_lane
// consecutive rows and one block of `columns`; the grid is
//   x  the rows
//   y  dense: column blocks; grouped: tiles
//   z  grouped: column blocks of the tile
// Bytes read per output: the weights of one row / columns, and from caches one row of x / (lanes * rows_per_lane).
//
// The columns are cut into push.slices slices, which are summed one by one in rising order of columns and then added in
// order. slice_lanes = 1: a lane does all slices of its rows. Else one lane per slice, which puts more reads under way
// when there are few rows and columns. The bits are the same, whatever the specialization.
//
// With WEIGHT_SLABS the experts of a list lie in several buffers, and a tile names its one.
//
// With round_y the results are rounded to 8 bits as well, for the matrix that follows (matmul_round.glsl).
//
// With ACTIVATIONS_QUADS a workgroup first puts x, prepared for plain integer multiplications, into shared memory, as many
// slices at a time as fit (matmul_quads.glsl).
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_spirv_intrinsics : require
#extension GL_KHR_shader_subgroup_basic : require
#include "matrix_params.h"
#include "format.glsl"
#include "math.glsl"

layout(local_size_x_id = 0, local_size_y_id = 7) in;
layout(constant_id = 0) const uint lanes = 32;
layout(constant_id = 1) const uint rows_per_lane = 1;
layout(constant_id = 2) const uint columns = 1;
layout(constant_id = 3) const uint matrices = 1;
layout(constant_id = 4) const uint row_list = 0;       // MATMUL_DENSE ...
layout(constant_id = 5) const bool integer_dot = true; // 8-bit x: use the dot product instruction
layout(constant_id = 6) const bool unrolled = true;    // the pieces of a group, so that their loads go out together
layout(constant_id = 7) const uint slice_lanes = 1;    // 1, or at least push.slices
layout(constant_id = 8) const bool read_ahead = false; // touch the next weights: see runtime/ops/tuning.c

// 9 is in format_common.glsl, 11 in matmul_quads.glsl
#if defined ACTIVATIONS_Q8
layout(constant_id = 10) const bool round_y = false; // y in 8 bits, too
#else
const bool round_y = false;
#endif
#if defined ACTIVATIONS_QUADS
const bool STAGED = true;
#else
const bool STAGED = false;
#endif

const uint line_units = 4; // 64 bytes
const bool grouped = row_list != uint(MATMUL_DENSE);

layout(push_constant) uniform push_block { matmul_push push; };
layout(binding = 2, std430) buffer y_buffer { float y[]; };
layout(binding = 3, std430) readonly buffer tile_buffer { uvec4 tiles[]; }; // slot, first row, rows, slab
layout(binding = 4, std430) readonly buffer row_token_buffer { uint row_token[]; };
layout(binding = 4, std430) readonly buffer gate_buffer { float gates[]; }; // MATMUL_ADD_GATED

#define EACH_ROW                                                                                                       \
    [[unroll]] for (uint m = 0; m < matrices; m++)                                                                     \
        [[unroll]] for (uint r = 0; r < rows_per_lane; r++)
#define EACH_COLUMN [[unroll]] for (uint c = 0; c < columns; c++)

uint x_row[columns];                 // the rows of x that the columns stand for
uint tile_row[rows_per_lane];        // a row's place in its tile
uint unit0[matrices];                // first unit of the lane's tile
uint unit[matrices];                 // first unit of its current step
uint last_unit;                      // of the matrix
uint row_steps;                      // of a row
uint touched;                        // see touch_next()
format_head head[matrices][rows_per_lane];
format_group group_scales[matrices][rows_per_lane];
format_piece piece_data[matrices][rows_per_lane];
float total[matrices][rows_per_lane][columns]; // of a slice
float sum[matrices][rows_per_lane][columns];   // of all slices

// Lanes whose rows make up one tile.
const uint tile_lanes = tile_rows / rows_per_lane;

// Invocations in the order of subgroups, so that compilers see that a subgroup has one slice: the address in x is then
// the same for all its lanes.
uint invocation()
{
    return slice_lanes == 1u ? gl_LocalInvocationIndex
                             : gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
}

const uint group_results = lanes * rows_per_lane * columns;
shared float slice_totals[slice_lanes != 1u    ? slice_lanes * matrices * group_results
                          : round_y && !STAGED ? group_results
                                               : 1u];

// The arithmetic: stage(first column, end), group_begin(), group_piece(column, group, piece), group_end(column, group); and
// keep_begin(), keep(place, value), kept(place) for the results while all of a workgroup's are collected.
#if defined ACTIVATIONS_QUADS
#include "matmul_quads.glsl"
#elif defined ACTIVATIONS_Q8
#include "matmul_q8.glsl"
#else
#include "matmul_f32.glsl"
#endif

// Reads a word of each cache line of the next step's weights, as far as they are this group's share.
void touch_next(uint group)
{
    const uint share = (FORMAT_STEP_UNITS + FORMAT_GROUPS - 1u) / FORMAT_GROUPS;
    [[unroll]] for (uint m = 0; m < matrices; m++)
        [[unroll]] for (uint i = 0; i < share; i += line_units)
            touched |= weight_words[min(unit[m] + FORMAT_STEP_UNITS + group * share + i, last_unit) * 4u];
}

void multiply_group(uint column, uint group, uint pieces)
{
    if (read_ahead)
        touch_next(group);
    EACH_ROW group_scales[m][r] = format_read_group(head[m][r], group);
    group_begin();
    if (unrolled) {
        [[unroll]] for (uint piece = 0; piece < pieces; piece++)
            group_piece(column, group, piece);
    } else {
        [[dont_unroll]] for (uint piece = 0; piece < pieces; piece++)
            group_piece(column, group, piece);
    }
    group_end(column, group);
}

void multiply_steps(uint begin, uint end)
{
    EACH_ROW EACH_COLUMN total[m][r][c] = 0.0;
    [[unroll]] for (uint m = 0; m < matrices; m++)
        unit[m] = unit0[m] + begin * FORMAT_STEP_UNITS;
    for (uint step = begin; step < end; step++) {
        uint column = step * FORMAT_STEP_COLS;
        EACH_ROW head[m][r] = format_read_head(unit[m], tile_row[r]);
        uint pieces = format_pieces(push.cols - column);
        [[dont_unroll]] for (uint group = 0; group < FORMAT_GROUPS; group++)
            multiply_group(column, group, pieces);
        [[unroll]] for (uint m = 0; m < matrices; m++)
            unit[m] += FORMAT_STEP_UNITS;
    }
}

// The first of the steps of a slice.
uint slice_step(uint slice)
{
    return row_steps * slice / push.slices;
}

uint my_slice()
{
    if (slice_lanes == 1u)
        return 0u;
    return gl_SubgroupSize > lanes ? invocation() / lanes : gl_SubgroupID * gl_SubgroupSize / lanes;
}

void multiply_slices(uint begin, uint end)
{
    for (uint slice = begin; slice < end; slice += slice_lanes) {
        multiply_steps(slice_step(slice), slice_step(slice + 1u));
        EACH_ROW EACH_COLUMN sum[m][r][c] += total[m][r][c];
    }
}

void multiply()
{
    row_steps = (push.cols + FORMAT_STEP_COLS - 1u) / FORMAT_STEP_COLS;
    EACH_ROW EACH_COLUMN sum[m][r][c] = 0.0;
    if (!STAGED) {
        multiply_slices(my_slice(), push.slices);
        return;
    }
    for (uint slice = 0; slice < push.slices; slice += push.stage_slices) {
        uint end = min(slice + push.stage_slices, push.slices);
        stage(slice_step(slice) * FORMAT_STEP_COLS, slice_step(end) * FORMAT_STEP_COLS);
        multiply_slices(slice, end);
    }
}

uint slice_place(uint slice, uint m, uint r, uint c)
{
    return (((slice * matrices + m) * rows_per_lane + r) * columns + c) * lanes + invocation() % lanes;
}

// The lanes of slice 0 add up what the others have.
void join_slices()
{
    if (slice_lanes == 1u)
        return;
    EACH_ROW EACH_COLUMN slice_totals[slice_place(my_slice(), m, r, c)] = sum[m][r][c];
    barrier();
    if (my_slice() == 0u)
        for (uint slice = 1; slice < push.slices; slice++)
            EACH_ROW EACH_COLUMN sum[m][r][c] += slice_totals[slice_place(slice, m, r, c)];
}

// The lane's tile. Where a subgroup has only one, compilers shall see that: addresses are then the same for all lanes.
uint tile_of()
{
    uint lane = invocation() % lanes;
    if (rows_per_lane > 1u && gl_SubgroupSize <= tile_lanes)
        lane = gl_SubgroupID * gl_SubgroupSize % lanes;
    return gl_WorkGroupID.x * (lanes / tile_lanes) + lane / tile_lanes;
}

uint row_of(uint r)
{
    return tile_of() * tile_rows + r * tile_lanes + invocation() % tile_lanes;
}

// Lanes beyond the last tile work on the last one, and write nothing.
void find_rows(uint first_unit)
{
    uint tile_units = format_tile_units(push.cols);
    uint last_tile = (push.rows - 1u) / tile_rows;
    last_unit = first_unit + (last_tile + 1u) * matrices * tile_units - 1u;
    [[unroll]] for (uint m = 0; m < matrices; m++)
        unit0[m] = first_unit + (min(tile_of(), last_tile) * matrices + m) * tile_units;
    [[unroll]] for (uint r = 0; r < rows_per_lane; r++)
        tile_row[r] = r * tile_lanes + invocation() % tile_lanes;
}

void write(uint r, uint c, uint y_row)
{
    uint i = y_row * push.y_stride + push.row0 + row_of(r);
    float value = matrices == 2u ? silu(sum[0][r][c]) * sum[matrices - 1u][r][c] : sum[0][r][c];
    if (push.accumulate == MATMUL_STORE)
        y[i] = value;
    else if (push.accumulate == MATMUL_ADD)
        y[i] += value;
    else
        y[i] = fma(sigmoid(gates[y_row]), value, y[i]);
    if (round_y)
        keep(slice_place(0u, 0u, r, c), value);
}

#if defined ACTIVATIONS_Q8
#include "matmul_round.glsl"
#else
void round_results(uint y_row, uint count)
{
}
#endif

void main()
{
    uint block = push.block0 + gl_WorkGroupID.y;
    uvec4 run = uvec4(0, 0, push.x_count, 0);
    if (grouped)
        run = tiles[block];
    choose_slab(run.w);
    uint column0 = (grouped ? gl_WorkGroupID.z : block) * columns;
    if (column0 >= run.z)
        return;
    EACH_COLUMN
    {
        uint row = run.y + min(column0 + c, run.z - 1u);
        x_row[c] = row_list == MATMUL_INDIRECT ? row_token[row] : row;
    }
    find_rows(grouped ? run.x * push.slot_units + push.slot_unit0 : 0u);
    touched = 0u;
    multiply();
    if (read_ahead && push.rows == 0u) // never: but compilers must not drop the reads
        y[0] = float(touched);
    join_slices();
    if (round_y)
        keep_begin();
    if (my_slice() == 0u)
        [[unroll]] for (uint r = 0; r < rows_per_lane; r++)
            EACH_COLUMN
                if (column0 + c < run.z && row_of(r) < push.rows)
                    write(r, c, run.y + column0 + c);
    if (round_y)
        round_results(run.y + column0, run.z - column0);
}
