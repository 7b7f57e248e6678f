// K and V stored as signed bytes with one f32 scale per 32 neighbouring dimensions of one position: 1.125 bytes per
// value. d = max|x| / 127, q = round to nearest even of x / d. The interface is explained in kv.glsl.
#define KV_PIECE_FOURS 4u
#define KV_FOUR_WORDS 1u
#define KV_FOUR_BITS(bits) (bits).x
#define KV_BLOCK_WORDS(dim) (9u * (dim))
#define KV_SCALED 1u

vec4 kv_four(uint bits)
{
    int b = int(bits);
    return vec4(ivec4(b << 24, b << 16, b << 8, b) >> 24);
}

vec4 kv_piece_four(uvec4 bits, uint i)
{
    return kv_four(i < 2u ? (i == 0u ? bits.x : bits.y) : i == 2u ? bits.z : bits.w);
}

uvec4 kv_four_pack(vec4 values, float scale)
{
    float divisor = scale > 0.0 ? scale : 1.0;
    ivec4 v = ivec4(clamp(roundEven(values / divisor), -127.0, 127.0));
    return uvec4((v.x & 255) | (v.y & 255) << 8 | (v.z & 255) << 16 | v.w << 24, 0, 0, 0);
}
