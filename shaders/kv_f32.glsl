// K and V stored as f32; the interface is explained in kv.glsl.
#define KV_PIECE_FOURS 1u
#define KV_FOUR_WORDS 4u
#define KV_FOUR_BITS(bits) (bits)
#define KV_BLOCK_WORDS(dim) (32u * (dim))
#define KV_SCALED 0u

vec4 kv_piece_four(uvec4 bits, uint i)
{
    return uintBitsToFloat(bits);
}

vec4 kv_four(uvec4 bits)
{
    return uintBitsToFloat(bits);
}

uvec4 kv_four_pack(vec4 values, float scale)
{
    return floatBitsToUint(values);
}
