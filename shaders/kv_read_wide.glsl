// As kv_read.glsl, 64 bits at a time: a software driver fetches lane by lane, and pays by the fetch and not by the byte.
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
layout(binding = 1, std430) readonly buffer k_buffer { u64vec2 k[]; };
layout(binding = 2, std430) readonly buffer v_buffer { uint64_t v[]; };

const uint V_READ_WORDS = 2u;

uvec4 k_piece(uint piece)
{
    u64vec2 bits = k[piece];
    return uvec4(unpack32(bits.x), unpack32(bits.y));
}

uint k_word(uint word)
{
    uvec2 two = unpack32(k[word / 4u][word / 2u % 2u]);
    return two[word % 2u];
}

uvec2 v_read(uint word)
{
    return unpack32(v[word / 2u]);
}

uint v_word(uint word)
{
    uvec2 two = unpack32(v[word / 2u]);
    return two[word % 2u];
}

uint kv_touch(uint word, uint behind)
{
    return uint(k[word / 4u + behind / 4u].x | v[word / 2u + behind / 2u]);
}
