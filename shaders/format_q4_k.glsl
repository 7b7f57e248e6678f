// q4_k: piece 0 is the header; pieces 1 + 2 g + h hold columns 64 g + 16 h + 0..15 in the low nibbles and those 32
// further on in the high ones.
#define FORMAT_STEP_COLS uint(QUANT_Q4_K_STEP_COLS)
#define FORMAT_STEP_UNITS (uint(QUANT_Q4_K_STEP_BYTES) / unit_bytes)
#define FORMAT_GROUPS 4u
#define FORMAT_PLANES 2u
#define FORMAT_PACKS 4u
#define FORMAT_QUAD_RUN 4u
#define FORMAT_QUANTISED
#include "format_k.glsl"

#define format_head k_scales
#define format_piece uvec4

format_head format_read_head(uint unit, uint row)
{
    return k_decode_scales(read_piece(unit, row, QUANT_Q4_K_HEADER_PIECE));
}

format_group format_read_group(format_head head, uint group)
{
    return k_group(head, group);
}

format_piece format_read_piece(format_head head, uint unit, uint row, uint group, uint piece)
{
    return read_piece(unit, row, QUANT_Q4_K_QS_PIECE + 2u * group + piece);
}

uint format_integers(format_piece q, uint plane, uint pack)
{
    return (q[pack] >> (4u * plane)) & 0x0f0f0f0fu;
}

#if defined ACTIVATIONS_QUADS
int64_t format_quad(format_piece q, uint plane, uint half_piece, uint odd)
{
    return int64_t((eight_bytes(q, half_piece) >> (8u * odd + 4u * plane)) & 0x000f000f000f000ful);
}
#endif

vec4 format_weights(format_group g, format_piece q, uint plane, uint pack)
{
    return k_weights(g, plane, format_integers(q, plane, pack));
}
