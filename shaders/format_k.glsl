// Scales of q4_k and q5_k: d, dmin and, for each of 8 sub-blocks of 32 columns, a 6-bit scale and a 6-bit minimum in 12
// bytes. A group of the kernels is two sub-blocks: their values share bytes, low and high nibbles.
struct k_scales {
    float d, dmin;
    uint scale_low, scale_high; // byte j & 3 of the word for j < 4 or j >= 4
    uint min_low, min_high;
};

struct format_group {
    vec2 scale, minimum; // d * scale and dmin * minimum of the two planes
};

// Bytes 0..3 hold scales 0..3 in their low 6 bits, bytes 4..7 the minima 0..3, bytes 8..11 the low nibbles of scales and
// minima 4..7, whose upper 2 bits are the top bits of bytes 0..3 and 4..7.
k_scales k_decode_scales(uvec4 header)
{
    k_scales s;
    s.d = decode_f16(header.x & 0xffffu);
    s.dmin = decode_f16(header.x >> 16);
    s.scale_low = header.y & 0x3f3f3f3fu;
    s.min_low = header.z & 0x3f3f3f3fu;
    s.scale_high = (header.w & 0x0f0f0f0fu) | ((header.y >> 2) & 0x30303030u);
    s.min_high = ((header.w >> 4) & 0x0f0f0f0fu) | ((header.z >> 2) & 0x30303030u);
    return s;
}

format_group k_group(k_scales s, uint group)
{
    uint shift = (group & 1u) * 16u;
    uint scales = (group < 2u ? s.scale_low : s.scale_high) >> shift;
    uint minima = (group < 2u ? s.min_low : s.min_high) >> shift;
    format_group g;
    g.scale = s.d * vec2(scales & 255u, (scales >> 8) & 255u);
    g.minimum = s.dmin * vec2(minima & 255u, (minima >> 8) & 255u);
    return g;
}

uint format_column(uint group, uint piece, uint plane)
{
    return 64u * group + 32u * plane + 16u * piece;
}

uint format_tile_units(uint cols)
{
    return cols / FORMAT_STEP_COLS * FORMAT_STEP_UNITS;
}

uint format_pieces(uint cols_left)
{
    return 2u;
}

// The product of scale and integer is exact (at most 22 bits), so fused or not makes no difference.
vec4 k_weights(format_group g, uint plane, uint integers)
{
    return fma(vec4(g.scale[plane]), unsigned_bytes(integers), vec4(-g.minimum[plane]));
}

// The minimum times the sum of all 32 activations of the sub-block is in x_scale.y; both pieces are in `sum`.
float format_join(format_group g, uint plane, vec2 x_scale, int sum, float total)
{
    return add_product(g.scale[plane] * x_scale.x, float(sum), add_product(-g.minimum[plane], x_scale.y, total));
}
