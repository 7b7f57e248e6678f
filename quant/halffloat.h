// 16-bit floats as bits: IEEE half (f16: 5 exponent, 10 mantissa bits) and bfloat16 (the top half of an f32).
//
// To 16 bits rounds to nearest, ties to even; f16 overflows to infinity from 65520 on. NaN stays NaN (quiet), zeros
// keep their sign, subnormals are exact. Back to f32 is exact.
#ifndef SLUICE_QUANT_HALFFLOAT_H
#define SLUICE_QUANT_HALFFLOAT_H

#include <stdint.h>
#include <string.h>

static inline uint32_t f32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float f32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float f32_from_bf16(uint16_t bits)
{
    return f32_from_bits((uint32_t)bits << 16);
}

static inline uint16_t bf16_from_f32(float value)
{
    uint32_t bits = f32_bits(value);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
        return (uint16_t)((bits >> 16) | 0x40u); // NaN: the carry of rounding must not make it infinite
    return (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

static inline float f32_from_f16(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    uint32_t exponent = (bits >> 10) & 31u;
    uint32_t mantissa = bits & 1023u;
    if (exponent == 31)
        return f32_from_bits(sign | 0x7F800000u | mantissa << 13);
    if (exponent == 0) { // zero or subnormal: mantissa * 2^-24 is exact in f32
        float magnitude = (float)mantissa * 0x1p-24f;
        return f32_from_bits(sign | f32_bits(magnitude));
    }
    return f32_from_bits(sign | (exponent + 112u) << 23 | mantissa << 13);
}

static inline uint16_t f16_from_f32(float value)
{
    uint32_t bits = f32_bits(value);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u)
        return (uint16_t)(sign | 0x7E00u | ((magnitude >> 13) & 0x1FFu));
    if (magnitude >= 0x477FF000u) // 65520: rounds to infinity
        return (uint16_t)(sign | 0x7C00u);
    if (magnitude < 0x38800000u) { // below 2^-14: adding 0.5 makes the FPU round at the last subnormal bit, 2^-24
        uint32_t rounded = f32_bits(f32_from_bits(magnitude) + 0.5f);
        return (uint16_t)(sign | (rounded - 0x3F000000u));
    }
    uint32_t rounded = magnitude - 0x38000000u + 0xFFFu + ((magnitude >> 13) & 1u);
    return (uint16_t)(sign | rounded >> 13);
}

// The smallest f16 number that is at least `value` (>= 0), and the nearest one, both at most 65504, as f32.
static inline float f16_at_least(float value)
{
    uint16_t bits = value < 65504.0f ? f16_from_f32(value) : 0x7BFF;
    if (f32_from_f16(bits) < value && bits < 0x7BFF)
        bits++;
    return f32_from_f16(bits);
}

static inline float f16_nearest(float value)
{
    return value < 65504.0f ? f32_from_f16(f16_from_f32(value)) : 65504.0f;
}

#endif
