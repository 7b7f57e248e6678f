// y[i, :] = row ids[i] of the table in f32, for the ids whose rows lie in this part of the table. An invocation owns what
// one 16-byte piece of weights decodes to, one such task at a time: it reads 16 bytes and the scales, writes 4 to 32
// floats.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "format.glsl"
#include "matrix_params.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint lanes = 32;

layout(push_constant) uniform push_block { embed_rows_push push; };
layout(binding = 1, std430) readonly buffer id_buffer { uint ids[]; };
layout(binding = 2, std430) writeonly buffer y_buffer { vec4 y[]; };

// Invocations of one row of y; piece numbers follow the order in which the pieces are stored.
const uint piece_cols = FORMAT_PLANES * FORMAT_PACKS * 4u;
const uint group_cols = FORMAT_STEP_COLS / FORMAT_GROUPS;

void write_piece(uint i, uint row, uint number)
{
    uint stored_column = number * piece_cols;
    uint step = stored_column / FORMAT_STEP_COLS;
    uint group = stored_column % FORMAT_STEP_COLS / group_cols;
    uint piece = stored_column % group_cols / piece_cols;
    uint unit = row / tile_rows * format_tile_units(push.cols) + step * FORMAT_STEP_UNITS;
    format_head head = format_read_head(unit, row % tile_rows);
    format_group scales = format_read_group(head, group);
    format_piece data = format_read_piece(head, unit, row % tile_rows, group, piece);
    [[unroll]] for (uint plane = 0; plane < FORMAT_PLANES; plane++) {
        uint column = step * FORMAT_STEP_COLS + format_column(group, piece, plane);
        [[unroll]] for (uint pack = 0; pack < FORMAT_PACKS; pack++)
            y[i * (push.cols / 4u) + column / 4u + pack] = format_weights(scales, data, plane, pack);
    }
}

void main()
{
    uint pieces = push.cols / piece_cols;
    uint stride = gl_NumWorkGroups.x * lanes; // a grid has a largest size
    for (uint task = gl_GlobalInvocationID.x; task < push.n * pieces; task += stride) {
        uint i = task / pieces;
        if (ids[i] >= push.row0 && ids[i] - push.row0 < push.rows)
            write_piece(i, ids[i] - push.row0, task % pieces);
    }
}
