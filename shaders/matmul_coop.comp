// The product of matmul.comp on matrix cores, for many rows of x: weights and x are rounded to f16, sums are f32.
//
// A workgroup owns row_tiles * 32 consecutive rows of weights and one block of `columns` rows of x. Per step of 64
// columns it brings both into shared memory as f16, each weight decoded once, and its subgroups, which own a grid of
// products of coop_m x coop_n, multiply. The next step's bytes are read while they do. The grid is that of matmul.comp:
//   x  the rows        y  dense: column blocks; grouped: tiles        z  grouped: column blocks of the tile
// Tiles that follow each other with the same expert's next rows are done together, as far as `columns` allow: the first of
// them does all.
// Bytes read per output: the weights of one row / columns, and one row of x / (row_tiles * 32).
//
// The order of the columns within a step is the format's, the same for weights and x. One output's sum depends on its row
// of weights and its row of x alone: not on `columns`, nor on its place.
//
// Before they are rounded, weights are multiplied by 64, and a row of x by the power of two that brings its largest value
// near the end of f16's range: small values keep their digits, and nothing overflows.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "coop.glsl"
#include "format.glsl"
#include "math.glsl"
#include "matrix_params.h"

layout(local_size_x_id = 3) in;
layout(constant_id = 3) const uint invocations = 128; // subgroups_m * subgroups_n whole subgroups
layout(constant_id = 4) const uint subgroups_m = 2;   // divides row_tiles * 32 / coop_m
layout(constant_id = 5) const uint subgroups_n = 2;   // divides columns / coop_n
layout(constant_id = 6) const uint columns = 32;      // rows of x
layout(constant_id = 7) const uint matrices = 1;      // 2: row tiles of two matrices in turns, y = silu(first) * second
layout(constant_id = 8) const uint row_list = 0;      // MATMUL_DENSE ...
layout(constant_id = 9) const bool x_is_q8 = false;   // x in 8 bits instead of f32
layout(constant_id = 10) const uint row_tiles = 2;    // a multiple of `matrices`
layout(constant_id = 11) const bool unrolled = true;  // the products of a step

const uint STEP = 64u, RUN = 16u; // columns per step; columns of x that lie side by side
const float WEIGHT_SCALE = 64.0;
const uint PARTS = STEP / RUN; // of a row of x: neighbouring invocations have one each
const bool grouped = row_list != uint(MATMUL_DENSE);

const uint ROWS = row_tiles * tile_rows;
const uint PIECE_COLS = FORMAT_PLANES * FORMAT_PACKS * 4u;
const uint PIECES = STEP / PIECE_COLS; // of a row, per step
const uint GROUP_PIECES = FORMAT_STEP_COLS / FORMAT_GROUPS / PIECE_COLS;
const uint W_ITEMS = (ROWS * PIECES + invocations - 1u) / invocations;           // pieces per invocation
const uint X_ITEMS = (columns * PARTS + invocations - 1u) / invocations; // runs per invocation
const uint GRID_M = ROWS / coop_m / subgroups_m, GRID_N = columns / coop_n / subgroups_n; // of a subgroup

layout(push_constant) uniform push_block { matmul_push push; };
layout(binding = 1, std430) readonly buffer x_buffer { vec4 x[]; };
layout(binding = 1, std430) readonly buffer x_q8_buffer { ivec4 x_q8[]; }; // 16 columns each
layout(binding = 2, std430) buffer y_buffer { float y[]; };
layout(binding = 3, std430) readonly buffer tile_buffer { uvec4 tiles[]; }; // slot, first row, rows, -
layout(binding = 4, std430) readonly buffer row_token_buffer { uint row_token[]; };
layout(binding = 5, std430) readonly buffer x_scale_buffer { vec2 x_scales[]; }; // step, step * sum of 32 integers

// In fours of f16 with padding against bank conflicts; c in floats, one column of coop_n at a time.
const uint STRIDE = (STEP + 8u) / 4u, C_STRIDE = ROWS + 4u;
shared f16vec4 w_tile[ROWS * STRIDE];    // [row][column]
shared f16vec4 x_tile[columns * STRIDE]; // [row of x][column]
shared float c_tile[coop_n * C_STRIDE];  // [row of x][row]
shared float x_largest[columns * PARTS]; // [row of x][part]
shared float y_scale[columns];           // undoes the scales of weights and x

uint first_unit, tile_units, last_tile; // of the matrix
uvec4 run;                              // slot, first row of x, rows of x
uint column0;                           // first row of x of this workgroup, within the run

// What was read for the next step.
format_head w_head[W_ITEMS];
format_group w_group[W_ITEMS];
format_piece w_piece[W_ITEMS];
uint x_row[X_ITEMS];
float x_scale[X_ITEMS];
vec4 x_floats[X_ITEMS * 4u];
ivec4 x_integers[X_ITEMS];
float x_step[X_ITEMS];

coop_c sums[GRID_M * GRID_N];

struct place {
    uint row, piece; // of an item's piece within this workgroup's rows and step
};

place w_place(uint item)
{
    uint i = item * invocations + gl_LocalInvocationIndex;
    return place(i % ROWS, i / ROWS);
}

bool w_exists(uint item)
{
    return item * invocations + gl_LocalInvocationIndex < ROWS * PIECES;
}

uint group_of(uint step, uint piece)
{
    return (step * PIECES + piece) / GROUP_PIECES;
}

// Of a plane of piece number `piece` of a step.
uint column_of(uint step, uint piece, uint plane)
{
    uint group = group_of(step, piece);
    return group / FORMAT_GROUPS * FORMAT_STEP_COLS +
           format_column(group % FORMAT_GROUPS, (step * PIECES + piece) % GROUP_PIECES, plane);
}

void read_weights(uint step)
{
    [[unroll]] for (uint item = 0u; item < W_ITEMS; item++) {
        place p = w_place(item);
        if (!w_exists(item) || column_of(step, p.piece, 0u) >= push.cols)
            continue;
        uint group = group_of(step, p.piece), row = p.row % tile_rows;
        uint tile = min(gl_WorkGroupID.x * row_tiles + p.row / tile_rows, last_tile);
        uint unit = first_unit + tile * tile_units + group / FORMAT_GROUPS * FORMAT_STEP_UNITS;
        if (step == 0u || group / FORMAT_GROUPS != group_of(step - 1u, p.piece) / FORMAT_GROUPS)
            w_head[item] = format_read_head(unit, row);
        w_group[item] = format_read_group(w_head[item], group % FORMAT_GROUPS);
        w_piece[item] = format_read_piece(w_head[item], unit, row, group % FORMAT_GROUPS,
                                          (step * PIECES + p.piece) % GROUP_PIECES);
    }
}

void store_weights(uint step)
{
    [[unroll]] for (uint item = 0u; item < W_ITEMS; item++) {
        place p = w_place(item);
        if (!w_exists(item))
            continue;
        bool inside = column_of(step, p.piece, 0u) < push.cols;
        uint at = p.row * STRIDE + p.piece * (PIECE_COLS / 4u);
        [[unroll]] for (uint plane = 0u; plane < FORMAT_PLANES; plane++)
            [[unroll]] for (uint pack = 0u; pack < FORMAT_PACKS; pack++) {
                vec4 w = inside ? format_weights(w_group[item], w_piece[item], plane, pack) * WEIGHT_SCALE : vec4(0.0);
                w_tile[at + plane * FORMAT_PACKS + pack] = f16vec4(w);
            }
    }
}

// First column of run number `i` of a step.
uint x_column(uint step, uint i)
{
    return column_of(step, i * RUN / PIECE_COLS, PIECE_COLS > RUN ? i % (PIECE_COLS / RUN) : 0u);
}

void read_x(uint step)
{
    [[unroll]] for (uint item = 0u; item < X_ITEMS; item++) {
        uint column = x_column(step, (item * invocations + gl_LocalInvocationIndex) % PARTS);
        if (x_is_q8) {
            x_step[item] = 0.0;
            if (column < push.cols) {
                x_integers[item] = x_q8[x_row[item] * (push.cols / RUN) + column / RUN];
                x_step[item] = x_scales[x_row[item] * (push.cols / 32u) + column / 32u].x * x_scale[item];
            }
        } else {
            [[unroll]] for (uint j = 0u; j < 4u; j++)
                x_floats[4u * item + j] =
                    column + 4u * j < push.cols ? x[x_row[item] * (push.cols / 4u) + column / 4u + j] : vec4(0.0);
        }
    }
}

void store_x()
{
    [[unroll]] for (uint item = 0u; item < X_ITEMS; item++) {
        uint i = item * invocations + gl_LocalInvocationIndex;
        if (i >= columns * PARTS)
            continue;
        uint at = i / PARTS * STRIDE + i % PARTS * (RUN / 4u);
        [[unroll]] for (uint j = 0u; j < 4u; j++) {
            vec4 v = x_is_q8 ? x_step[item] * signed_bytes(uint(x_integers[item][j]))
                             : x_floats[4u * item + j] * x_scale[item];
            x_tile[at + j] = f16vec4(v);
        }
    }
}

// The coop_k columns from k * coop_k on.
void multiply_columns(uint k)
{
    uint row0 = gl_SubgroupID % subgroups_m * GRID_M * coop_m, column = gl_SubgroupID / subgroups_m * GRID_N * coop_n;
    coop_a a[GRID_M];
    [[unroll]] for (uint i = 0u; i < GRID_M; i++)
        a[i] = coop_load_a(w_tile[(row0 + i * coop_m) * STRIDE + k * coop_k / 4u], COOP_ROWS, STRIDE);
    [[unroll]] for (uint j = 0u; j < GRID_N; j++) {
        coop_b b = coop_load_b(x_tile[(column + j * coop_n) * STRIDE + k * coop_k / 4u], COOP_COLUMNS, STRIDE);
        [[unroll]] for (uint i = 0u; i < GRID_M; i++)
            sums[i * GRID_N + j] = coop_multiply_add(a[i], b, sums[i * GRID_N + j]);
    }
}

void multiply_step()
{
    if (unrolled) {
        [[unroll]] for (uint k = 0u; k < STEP / coop_k; k++)
            multiply_columns(k);
    } else {
        [[dont_unroll]] for (uint k = 0u; k < STEP / coop_k; k++)
            multiply_columns(k);
    }
}

void multiply()
{
    uint steps = (push.cols + STEP - 1u) / STEP;
    [[unroll]] for (uint i = 0u; i < GRID_M * GRID_N; i++)
        sums[i] = coop_fill(0.0);
    for (uint next = 0u; next <= steps; next++) {
        if (next < steps) {
            read_weights(next);
            read_x(next);
        }
        if (next > 0u)
            multiply_step();
        barrier();
        if (next < steps) {
            store_weights(next);
            store_x();
        }
        barrier();
    }
}

// The rows that c_tile's columns [column, column + coop_n) hold, to y.
void write_columns(uint column)
{
    uint out_rows = ROWS / matrices, row0 = gl_WorkGroupID.x * out_rows;
    for (uint i = gl_LocalInvocationIndex; i < out_rows * coop_n; i += invocations) {
        uint r = i % out_rows, c = i / out_rows;
        if (row0 + r >= push.rows || column0 + column + c >= run.z)
            continue;
        uint at = c * C_STRIDE + r / tile_rows * matrices * tile_rows + r % tile_rows;
        float value = c_tile[at] * y_scale[column + c];
        if (matrices == 2u)
            value = silu(value) * (c_tile[at + tile_rows] * y_scale[column + c]);
        uint place = (run.y + column0 + column + c) * push.y_stride + push.row0 + row0 + r;
        y[place] = push.accumulate != 0u ? y[place] + value : value;
    }
}

// Sums go through shared memory, a column of products at a time, because their layout in registers is unknown.
void write()
{
    uint row0 = gl_SubgroupID % subgroups_m * GRID_M * coop_m, mine = gl_SubgroupID / subgroups_m;
    [[unroll]] for (uint n = 0u; n < columns / coop_n; n++) {
        if (mine == n / GRID_N)
            [[unroll]] for (uint i = 0u; i < GRID_M; i++)
                coop_store(c_tile[row0 + i * coop_m], sums[i * GRID_N + n % GRID_N], COOP_COLUMNS, C_STRIDE);
        barrier();
        write_columns(n * coop_n);
        barrier();
    }
}

// Every PARTS-th value of a row: of its integers only the steps.
float largest_of(uint row, uint part)
{
    float largest = 0.0;
    if (x_is_q8) {
        for (uint i = part; i < push.cols / 32u; i += PARTS)
            largest = max(largest, 127.0 * x_scales[row * (push.cols / 32u) + i].x);
    } else {
        for (uint i = part; i < push.cols / 4u; i += PARTS) {
            vec4 v = abs(x[row * (push.cols / 4u) + i]);
            largest = max(largest, max(max(v.x, v.y), max(v.z, v.w)));
        }
    }
    return largest;
}

// 2^14 over the power of two of `value`, within what f32 holds.
float scale_for(float value)
{
    int exponent = clamp(int(floatBitsToUint(value) >> 23) - 127, -100, 100);
    return intBitsToFloat((127 + 14 - exponent) << 23);
}

// The items' rows of x and their scales.
void find_x()
{
    [[unroll]] for (uint item = 0u; item < X_ITEMS; item++) {
        uint i = item * invocations + gl_LocalInvocationIndex;
        uint row = run.y + min(column0 + i / PARTS, run.z - 1u);
        x_row[item] = row_list == MATMUL_INDIRECT ? row_token[row] : row;
        if (i < columns * PARTS)
            x_largest[i] = largest_of(x_row[item], i % PARTS);
    }
    barrier();
    [[unroll]] for (uint item = 0u; item < X_ITEMS; item++) {
        uint i = item * invocations + gl_LocalInvocationIndex, first = min(i / PARTS, columns - 1u) * PARTS;
        float largest = 0.0;
        [[unroll]] for (uint part = 0u; part < PARTS; part++)
            largest = max(largest, x_largest[first + part]);
        x_scale[item] = scale_for(largest);
        if (i < columns * PARTS && i % PARTS == 0u)
            y_scale[i / PARTS] = 1.0 / (WEIGHT_SCALE * x_scale[item]);
    }
}

bool continues(uint block)
{
    uvec4 before = tiles[block - 1u], tile = tiles[block];
    return tile.x == before.x && tile.y == before.y + before.z;
}

// The rows of tile `block` and of those done together with it; none if an earlier one does them. push.x_count tiles.
uvec4 merged_tiles(uint block)
{
    uvec4 merged = tiles[block];
    uint together = columns / uint(MATMUL_TILE_ROWS), first = block;
    if (together <= 1u)
        return merged;
    while (first > 0u && continues(first))
        first--;
    if ((block - first) % together != 0u)
        return uvec4(0u);
    for (uint i = block + 1u; i < min(block + together, push.x_count) && continues(i); i++)
        merged.z += tiles[i].z;
    return merged;
}

void main()
{
    uint block = push.block0 + gl_WorkGroupID.y;
    run = grouped ? merged_tiles(block) : uvec4(0u, 0u, push.x_count, 0u);
    column0 = (grouped ? gl_WorkGroupID.z : block) * columns;
    if (column0 >= run.z)
        return;
    first_unit = grouped ? run.x * push.slot_units + push.slot_unit0 : 0u;
    tile_units = format_tile_units(push.cols);
    last_tile = (push.rows + tile_rows - 1u) / tile_rows * matrices - 1u;
    find_x();
    multiply();
    write();
}
