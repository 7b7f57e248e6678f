// K and V stored as f16: 2 bytes per value. The interface of every KV format, explained in kv.glsl.
#define KV_PIECE_FOURS 2u
#define KV_FOUR_WORDS 2u
#define KV_FOUR_BITS(bits) (bits).xy
#define KV_BLOCK_WORDS(dim) (16u * (dim))
#define KV_SCALED 0u

vec4 kv_piece_four(uvec4 bits, uint i)
{
    uvec2 two = i == 0u ? bits.xy : bits.zw;
    return vec4(unpackHalf2x16(two.x), unpackHalf2x16(two.y));
}

vec4 kv_four(uvec2 bits)
{
    return vec4(unpackHalf2x16(bits.x), unpackHalf2x16(bits.y));
}

// Rounds to nearest, ties to even (packHalf2x16 may round either way), and to infinity from 65520 on.
uint f16_bits(float value)
{
    uint bits = floatBitsToUint(value);
    uint sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
    uint result;
    if (magnitude > 0x7F800000u)
        result = 0x7E00u;
    else if (magnitude >= 0x477FF000u)
        result = 0x7C00u;
    else if (magnitude < 0x38800000u) // below 2^-14: adding 0.5 rounds at the last subnormal bit, 2^-24
        result = floatBitsToUint(uintBitsToFloat(magnitude) + 0.5) - 0x3F000000u;
    else
        result = magnitude - 0x38000000u + 0xFFFu + (magnitude >> 13 & 1u) >> 13;
    return sign | result;
}

uvec4 kv_four_pack(vec4 values, float scale)
{
    return uvec4(f16_bits(values.x) | f16_bits(values.y) << 16, f16_bits(values.z) | f16_bits(values.w) << 16, 0u, 0u);
}
