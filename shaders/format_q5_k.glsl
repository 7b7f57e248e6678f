// q5_k: as q4_k, with the fifth bits in two more pieces: bit j of byte l is the top bit of column 32 j + l.
#define FORMAT_STEP_COLS uint(QUANT_Q5_K_STEP_COLS)
#define FORMAT_STEP_UNITS (uint(QUANT_Q5_K_STEP_BYTES) / unit_bytes)
#define FORMAT_GROUPS 4u
#define FORMAT_PLANES 2u
#define FORMAT_PACKS 4u
#define FORMAT_QUAD_RUN 2u
#define FORMAT_QUANTISED
#include "format_k.glsl"

struct format_head {
    k_scales scales;
    uvec4 high_bits[2]; // of columns l = 0..15 and 16..31 of every sub-block
};

struct format_piece {
    uvec4 low, high_bits; // high_bits: the sub-block of plane 0 in bit 0 of each byte, that of plane 1 in bit 1
};

format_head format_read_head(uint unit, uint row)
{
    format_head head;
    head.scales = k_decode_scales(read_piece(unit, row, QUANT_Q5_K_HEADER_PIECE));
    head.high_bits[0] = read_piece(unit, row, QUANT_Q5_K_QH_PIECE);
    head.high_bits[1] = read_piece(unit, row, QUANT_Q5_K_QH_PIECE + 1);
    return head;
}

format_group format_read_group(format_head head, uint group)
{
    return k_group(head.scales, group);
}

format_piece format_read_piece(format_head head, uint unit, uint row, uint group, uint piece)
{
    format_piece p;
    p.low = read_piece(unit, row, QUANT_Q5_K_QS_PIECE + 2u * group + piece);
    p.high_bits = (piece == 0u ? head.high_bits[0] : head.high_bits[1]) >> (2u * group);
    return p;
}

uint format_integers(format_piece p, uint plane, uint pack)
{
    return ((p.low[pack] >> (4u * plane)) & 0x0f0f0f0fu) | (((p.high_bits[pack] >> plane) & 0x01010101u) << 4);
}

#if defined ACTIVATIONS_QUADS
int64_t format_quad(format_piece p, uint plane, uint half_piece, uint odd)
{
    uint64_t low = (eight_bytes(p.low, half_piece) >> (8u * odd + 4u * plane)) & 0x000f000f000f000ful;
    uint64_t high = (eight_bytes(p.high_bits, half_piece) >> (8u * odd + plane)) & 0x0001000100010001ul;
    return int64_t(low | high << 4);
}
#endif

vec4 format_weights(format_group g, format_piece p, uint plane, uint pack)
{
    return k_weights(g, plane, format_integers(p, plane, pack));
}
