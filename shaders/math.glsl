// Elementary functions whose error does not depend on the driver: Vulkan lets exp be off by 3 + 2|x| units in the last
// place, log by 2^-21 and sin and cos by 2^-11, which is too much for decay rates and for positions of long documents.

// Keeps a value within one multiple of 2^-24 of e^x: reduction with a two-part ln 2 (the first has so few bits that
// n * ln2_high is exact) and the polynomial of Cephes' expf. x is clamped to what f32 can hold.
float exp_precise(float x)
{
    precise float n = roundEven(clamp(x, -87.0, 88.0) * 1.44269504);
    precise float r = clamp(x, -87.0, 88.0) - n * 0.693359375;
    r = r + n * 2.12194440e-4;
    precise float p = fma(r, 1.9875691500e-4, 1.3981999507e-3);
    p = fma(p, r, 8.3334519073e-3);
    p = fma(p, r, 4.1665795894e-2);
    p = fma(p, r, 1.6666665459e-1);
    p = fma(p, r, 5.0000001201e-1);
    p = fma(p * r, r, r) + 1.0;
    return p * intBitsToFloat((int(n) + 127) << 23);
}

float sigmoid(float x)
{
    precise float e = exp_precise(-abs(x));
    return (x >= 0.0 ? 1.0 : e) / (1.0 + e);
}

float silu(float x)
{
    return x * sigmoid(x);
}

// ln(1 + e^x) = max(x, 0) + ln(1 + u) with u = e^-|x| <= 1, and ln(1 + u) = 2 atanh(u / (2 + u)) as a series.
float softplus(float x)
{
    precise float u = exp_precise(-abs(x));
    precise float s = u / (2.0 + u);
    precise float s2 = s * s;
    precise float p = fma(s2, 1.0 / 15.0, 1.0 / 13.0);
    p = fma(p, s2, 1.0 / 11.0);
    p = fma(p, s2, 1.0 / 9.0);
    p = fma(p, s2, 1.0 / 7.0);
    p = fma(p, s2, 1.0 / 5.0);
    p = fma(p, s2, 1.0 / 3.0);
    p = fma(p, s2, 1.0);
    return max(x, 0.0) + 2.0 * s * p;
}

// (cos, sin) of an angle 0 <= angle < 2^24, absolute error below 2e-7. The angle's 24-bit mantissa is multiplied in
// integers with 64 bits of 1 / (2 pi), so that the fraction of a turn is exact however many turns there are.
vec2 cos_sin(float angle)
{
    uint bits = floatBitsToUint(angle);
    int shift = 150 - int(bits >> 23); // angle = mantissa / 2^shift
    uint mantissa = (bits & 0x7FFFFFu) | 0x800000u;
    uint low_high, low_low, high_high, high_low;
    umulExtended(mantissa, 0x9391054Au, low_high, low_low);
    umulExtended(mantissa, 0x28BE60DBu, high_high, high_low);
    uint sum = high_low + low_high; // the product's middle word; the lowest cannot matter
    high_high += sum < high_low ? 1u : 0u;
    uint turn = 0u; // in units of 2^-32
    if (shift == 0)
        turn = sum;
    else if (shift < 32)
        turn = sum >> shift | high_high << (32 - shift);
    else if (shift < 56)
        turn = high_high >> (shift - 32);
    uint quadrant = (turn + 0x20000000u) >> 30;
    precise float x = float(int(turn - (quadrant << 30))) * 1.46291807927e-9; // 2 pi / 2^32; |x| <= pi / 4
    precise float x2 = x * x;
    precise float s = fma(fma(-1.9515295891e-4, x2, 8.3321608736e-3), x2, -1.6666654611e-1);
    s = fma(s * x2, x, x);
    precise float c = fma(fma(2.443315711809948e-5, x2, -1.388731625493765e-3), x2, 4.166664568298827e-2);
    c = fma(c * x2, x2, 1.0 - 0.5 * x2);
    vec2 pair = (quadrant & 1u) == 0u ? vec2(c, s) : vec2(s, c);
    return vec2((quadrant + 1u & 2u) == 0u ? pair.x : -pair.x, (quadrant & 2u) == 0u ? pair.y : -pair.y);
}
