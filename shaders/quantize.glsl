// Rounding of 32 neighbouring columns to 8 bits: step d = max|v| / 127, q = v / d to the nearest even integer. Whoever
// includes this has the arrays uint q[] (4 columns each) and vec2 scales[] (d, d * sum of q).

// From the largest of |v| in each component.
float block_step(vec4 largest)
{
    precise float d = max(max(largest.x, largest.y), max(largest.z, largest.w)) / 127.0;
    return d;
}

// Writes four columns and returns the sum of their integers.
int round_four(vec4 v, float d, uint four)
{
    ivec4 n = ivec4(clamp(roundEven(v / (d > 0.0 ? d : 1.0)), -127.0, 127.0));
    q[four] = (n.x & 255) | (n.y & 255) << 8 | (n.z & 255) << 16 | n.w << 24;
    return n.x + n.y + n.z + n.w;
}

void quantize_block(vec4 v[8], uint block)
{
    vec4 m = abs(v[0]);
    for (uint i = 1; i < 8; i++)
        m = max(m, abs(v[i]));
    float d = block_step(m);
    int sum = 0;
    for (uint i = 0; i < 8; i++)
        sum += round_four(v[i], d, block * 8u + i);
    scales[block] = vec2(d, d * float(sum));
}
