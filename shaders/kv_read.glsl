// Words of K and V as attend.comp reads them: 32 bits at a time.
layout(binding = 1, std430) readonly buffer k_buffer { uvec4 k[]; };
layout(binding = 2, std430) readonly buffer v_buffer { uint v[]; };

const uint V_READ_WORDS = 1u; // what v_read reads at a time

uvec4 k_piece(uint piece)
{
    return k[piece];
}

uint k_word(uint word)
{
    return k[word / 4u][word % 4u];
}

uvec2 v_read(uint word)
{
    return uvec2(v[word], 0u);
}

uint v_word(uint word)
{
    return v[word];
}

// Something of K and of V at a word and a number of words behind it, both multiples of 4.
uint kv_touch(uint word, uint behind)
{
    return k[word / 4u + behind / 4u].x | v[word + behind];
}
