// q6_k: the columns 16 s + 0..15 share the signed 8-bit scale number s. Piece p = 4 n + 2 k + h of the low nibbles holds
// columns 128 n + 32 k + 16 h + 0..15 and, in the high nibbles, those 64 further on; byte l of piece 2 n + h of the upper
// bits holds two bits for each of the columns 128 n + 16 h + l + 0, 32, 64 and 96. A group is one piece of low nibbles.
#define FORMAT_STEP_COLS uint(QUANT_Q6_K_STEP_COLS)
#define FORMAT_STEP_UNITS (uint(QUANT_Q6_K_STEP_BYTES) / unit_bytes)
#define FORMAT_GROUPS 8u
#define FORMAT_PLANES 2u
#define FORMAT_PACKS 4u
#define FORMAT_QUAD_RUN 2u
#define FORMAT_QUANTISED

struct format_head {
    uvec4 scales;
    float d;
};

struct format_group {
    vec2 scale; // of the two planes
};

struct format_piece {
    uvec4 low, high_bits; // high_bits: bits 0 and 1 of each byte for plane 0, bits 4 and 5 for plane 1
};

uint format_column(uint group, uint piece, uint plane)
{
    return 128u * (group >> 2) + 64u * plane + 16u * (group & 3u);
}

uint format_tile_units(uint cols)
{
    return cols / FORMAT_STEP_COLS * FORMAT_STEP_UNITS;
}

uint format_pieces(uint cols_left)
{
    return 1u;
}

format_head format_read_head(uint unit, uint row)
{
    format_head head;
    head.scales = read_piece(unit, row, QUANT_Q6_K_SC_PIECE);
    head.d = read_row_scale(unit, row, QUANT_Q6_K_SCALES_OFFSET);
    return head;
}

// The scales of columns 128 n + 16 j are bytes 8 n + j, so group 4 n + j needs bytes 8 n + j and 8 n + j + 4.
format_group format_read_group(format_head head, uint group)
{
    uvec2 words = group < 4u ? head.scales.xy : head.scales.zw;
    int shift = int(group & 3u) * 8;
    format_group g;
    g.scale = head.d * vec2(bitfieldExtract(int(words.x), shift, 8), bitfieldExtract(int(words.y), shift, 8));
    return g;
}

format_piece format_read_piece(format_head head, uint unit, uint row, uint group, uint piece)
{
    format_piece p;
    p.low = read_piece(unit, row, QUANT_Q6_K_QL_PIECE + group);
    p.high_bits = read_piece(unit, row, QUANT_Q6_K_QH_PIECE + 2u * (group >> 2) + (group & 1u)) >> (group & 2u);
    return p;
}

// 0..63 less 32 in each byte: with the top bit set no byte borrows from its neighbour.
uint format_integers(format_piece p, uint plane, uint pack)
{
    uint low = (p.low[pack] >> (4u * plane)) & 0x0f0f0f0fu;
    uint high = (p.high_bits[pack] >> (4u * plane)) & 0x03030303u;
    return ((low | (high << 4) | 0x80808080u) - 0x20202020u) ^ 0x80808080u;
}

#if defined ACTIVATIONS_QUADS
int64_t format_quad(format_piece p, uint plane, uint half_piece, uint odd)
{
    uint64_t low = (eight_bytes(p.low, half_piece) >> (8u * odd + 4u * plane)) & 0x000f000f000f000ful;
    uint64_t high = (eight_bytes(p.high_bits, half_piece) >> (8u * odd + 4u * plane)) & 0x0003000300030003ul;
    return int64_t(low | high << 4) - 0x0020002000200020l;
}
#endif

vec4 format_weights(format_group g, format_piece p, uint plane, uint pack)
{
    return g.scale[plane] * signed_bytes(format_integers(p, plane, pack));
}

float format_join(format_group g, uint plane, vec2 x_scale, int sum, float total)
{
    return add_product(g.scale[plane] * x_scale.x, float(sum), total);
}
