// K and V stored as f16. The interface of every KV format: four neighbouring dimensions of K are one KV_FOUR, two of V
// one KV_TWO; kv_four and kv_two decode, kv_four_pack and kv_two_pack encode.
#define KV_FOUR uvec2
#define KV_TWO uint
#define KV_LINE 8u // KV_FOURs in a cache line of 64 bytes

vec4 kv_four(uvec2 bits)
{
    return vec4(unpackHalf2x16(bits.x), unpackHalf2x16(bits.y));
}

vec2 kv_two(uint bits)
{
    return unpackHalf2x16(bits);
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

uint kv_two_pack(vec2 values)
{
    return f16_bits(values.x) | f16_bits(values.y) << 16;
}

uvec2 kv_four_pack(vec4 values)
{
    return uvec2(kv_two_pack(values.xy), kv_two_pack(values.zw));
}
