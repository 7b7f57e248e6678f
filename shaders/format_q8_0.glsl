// q8_0: two pieces of 16 signed bytes and one f16 scale per 32 columns.
#define FORMAT_STEP_COLS uint(QUANT_Q8_0_STEP_COLS)
#define FORMAT_STEP_UNITS (uint(QUANT_Q8_0_STEP_BYTES) / unit_bytes)
#define FORMAT_GROUPS 1u
#define FORMAT_PLANES 1u
#define FORMAT_PACKS 4u
#define FORMAT_QUANTISED

#define format_head float
#define format_group float
#define format_piece uvec4

uint format_column(uint group, uint piece, uint plane)
{
    return 16u * piece;
}

uint format_tile_units(uint cols)
{
    return cols / FORMAT_STEP_COLS * FORMAT_STEP_UNITS;
}

uint format_pieces(uint cols_left)
{
    return 2u;
}

format_head format_read_head(uint unit, uint row)
{
    return read_row_scale(unit, row, QUANT_Q8_0_SCALES_OFFSET);
}

format_group format_read_group(format_head d, uint group)
{
    return d;
}

format_piece format_read_piece(format_head d, uint unit, uint row, uint group, uint piece)
{
    return read_piece(unit, row, QUANT_Q8_0_QS_PIECE + piece);
}

uint format_integers(format_piece q, uint plane, uint pack)
{
    return q[pack];
}

vec4 format_weights(format_group d, format_piece q, uint plane, uint pack)
{
    return d * signed_bytes(q[pack]);
}

float format_join(format_group d, uint plane, vec2 x_scale, int sum, float total)
{
    return add_product(d * x_scale.x, float(sum), total);
}
