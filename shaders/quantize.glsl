// Rounding of 32 neighbouring columns to 8 bits: step d = max|v| / 127, q = v / d to the nearest even integer. Whoever
// includes this has the arrays uint q[] (4 columns each) and vec2 scales[] (d, d * sum of q).
void quantize_block(vec4 v[8], uint block)
{
    vec4 m = abs(v[0]);
    for (uint i = 1; i < 8; i++)
        m = max(m, abs(v[i]));
    precise float d = max(max(m.x, m.y), max(m.z, m.w)) / 127.0;
    float divisor = d > 0.0 ? d : 1.0;
    int sum = 0;
    for (uint i = 0; i < 8; i++) {
        ivec4 n = ivec4(clamp(roundEven(v[i] / divisor), -127.0, 127.0));
        sum += n.x + n.y + n.z + n.w;
        q[block * 8u + i] = (n.x & 255) | (n.y & 255) << 8 | (n.z & 255) << 16 | n.w << 24;
    }
    scales[block] = vec2(d, d * float(sum));
}
