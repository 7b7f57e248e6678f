// What f32, f16 and bf16 have in common: no scales. A step of the kernels is one group of up to 64 columns, several steps
// of the tile layout; the last one of a row may be shorter.
#define FORMAT_STEP_COLS 64u
#define FORMAT_STEP_UNITS (FORMAT_STEP_COLS / FLOAT_PIECE_COLS * tile_rows)
#define FORMAT_GROUPS 1u
#define FORMAT_PLANES 1u
#define FORMAT_PACKS (FLOAT_PIECE_COLS / 4u)

#define format_head uint
#define format_group uint
#define format_piece uvec4

uint format_column(uint group, uint piece, uint plane)
{
    return FLOAT_PIECE_COLS * piece;
}

uint format_tile_units(uint cols)
{
    return cols / FLOAT_PIECE_COLS * tile_rows;
}

uint format_pieces(uint cols_left)
{
    return min(cols_left, FORMAT_STEP_COLS) / FLOAT_PIECE_COLS;
}

format_head format_read_head(uint unit, uint row)
{
    return 0u;
}

format_group format_read_group(format_head head, uint group)
{
    return 0u;
}

format_piece format_read_piece(format_head head, uint unit, uint row, uint group, uint piece)
{
    return read_piece(unit, row, piece);
}
