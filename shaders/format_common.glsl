// The weight buffer and what the number formats share; format.glsl adds one of format_*.glsl. Each of those provides
//
//   FORMAT_STEP_COLS, FORMAT_STEP_UNITS   one step of the loop along the columns, in columns and 16-byte units
//   FORMAT_GROUPS    groups per step; a group has its own scales, and its sum is rounded on its own
//   FORMAT_PLANES    runs of columns that one piece (16 bytes of one row) holds, in different bits
//   FORMAT_PACKS     packs of 4 columns per plane
//   FORMAT_QUANTISED whether the last two functions below exist
//   FORMAT_QUAD_RUN  how many products of quads may be summed up, see matmul_quads.glsl
//
//   uint format_tile_units(cols)                     16-byte units of a row tile
//   format_head format_read_head(unit, row)         what the row needs once per step
//   format_group format_read_group(head, group)     the group's scales
//   uint format_pieces(cols_left)                   pieces per group; fewer only at the end of a row of floats
//   format_piece format_read_piece(head, unit, row, group, piece)
//   uint format_column(group, piece, plane)         first column of a plane, counted from the start of the step
//   vec4 format_weights(group_data, piece_data, plane, pack)  4 weights, by the f32 operations that quant.h states
//   uint format_integers(piece_data, plane, pack)   4 weights as signed 8-bit integers, without scale
//   int64_t format_quad(piece_data, plane, half, odd)  4 weights of 8 bytes of a piece, 16 bits apart; only with
//                                                   ACTIVATIONS_QUADS, and not in q8_0, whose products are too large
//   float format_join(group_data, plane, x_scale, sum, total)  total + the value of an integer sum over a plane
//
// `unit` is the first 16-byte unit of a step of a row tile, `row` the row within the tile: quant/tile.h has the picture.
#include "quant/tile_layout.h"

#if defined WEIGHT_SLABS
// The weights lie in several buffers: all invocations of a workgroup read one of them.
layout(binding = 0, std430) readonly buffer weight_unit_buffer { uvec4 units[]; } unit_slabs[MATMUL_SLABS];
layout(binding = 0, std430) readonly buffer weight_word_buffer { uint words[]; } word_slabs[MATMUL_SLABS];
uint weight_slab;
#define weight_units unit_slabs[weight_slab].units
#define weight_words word_slabs[weight_slab].words

void choose_slab(uint slab)
{
    weight_slab = slab;
}
#else
layout(binding = 0, std430) readonly buffer weight_unit_buffer { uvec4 weight_units[]; };
layout(binding = 0, std430) readonly buffer weight_word_buffer { uint weight_words[]; };

void choose_slab(uint slab)
{
}
#endif

const uint tile_rows = QUANT_TILE_ROWS;
const uint unit_bytes = QUANT_PIECE_ROW_BYTES;

#if defined ACTIVATIONS_QUADS
// The software driver reads by lane, whatever the width: fewer and wider reads.
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#if defined WEIGHT_SLABS
layout(binding = 0, std430) readonly buffer weight_long_buffer { u64vec2 longs[]; } long_slabs[MATMUL_SLABS];
#define weight_longs long_slabs[weight_slab].longs
#else
layout(binding = 0, std430) readonly buffer weight_long_buffer { u64vec2 weight_longs[]; };
#endif

uvec4 read_piece(uint unit, uint row, uint piece)
{
    u64vec2 longs = weight_longs[unit + piece * tile_rows + row];
    return uvec4(unpackUint2x32(longs.x), unpackUint2x32(longs.y));
}

uint64_t eight_bytes(uvec4 piece, uint half_piece)
{
    return packUint2x32(half_piece == 0u ? piece.xy : piece.zw);
}
#else
uvec4 read_piece(uint unit, uint row, uint piece)
{
    return weight_units[unit + piece * tile_rows + row];
}
#endif

#if defined ACTIVATIONS_Q8
layout(constant_id = 9) const bool fused_sums = true; // false: the same bits on drivers without fused multiply-add

float add_product(float a, float b, float c)
{
    if (fused_sums)
        return fma(a, b, c);
    precise float product = a * b;
    precise float sum = product + c;
    return sum;
}
#else
float add_product(float a, float b, float c)
{
    return fma(a, b, c);
}
#endif

// The f16 in the low 16 bits. By hand, because drivers may flush the subnormal halves that small scales often are.
// Infinities and NaNs, which no scale is, come out as finite numbers.
float decode_f16(uint bits)
{
    uint magnitude = bits & 0x7fffu;
    float subnormal = float(magnitude) * 5.9604644775390625e-8; // 2^-24
    float normal = uintBitsToFloat((magnitude << 13) + (112u << 23));
    float value = magnitude < 0x400u ? subnormal : normal;
    return (bits & 0x8000u) != 0u ? -value : value;
}

// The row's f16 behind the pieces of a step, `offset` bytes from the step's start.
float read_row_scale(uint unit, uint row, uint offset)
{
    uint word = weight_words[unit * (unit_bytes / 4u) + offset / 4u + row / 2u];
    return decode_f16((word >> (16u * (row & 1u))) & 0xffffu);
}

vec4 unsigned_bytes(uint packed)
{
    return vec4(packed & 255u, (packed >> 8) & 255u, (packed >> 16) & 255u, packed >> 24);
}

vec4 signed_bytes(uint packed)
{
    int bits = int(packed);
    return vec4(bitfieldExtract(bits, 0, 8), bitfieldExtract(bits, 8, 8), bitfieldExtract(bits, 16, 8), bits >> 24);
}
