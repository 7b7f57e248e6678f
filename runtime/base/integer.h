// Arithmetic with unsigned sizes and counts that the language lacks.
#ifndef SLUICE_BASE_INTEGER_H
#define SLUICE_BASE_INTEGER_H

#include <stdint.h>

static inline uint32_t u32_min(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline uint32_t u32_max(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static inline uint64_t u64_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t u64_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

// a + b, or UINT64_MAX where that is too small for it.
static inline uint64_t u64_add(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

// a - b, or 0 where b is larger.
static inline uint64_t u64_subtract(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

// How many units of `unit` >= 1 hold `value`, and what these are together, which must not exceed the type.
static inline uint32_t u32_divide_up(uint32_t value, uint32_t unit)
{
    return value / unit + (value % unit != 0);
}

static inline uint32_t u32_round_up(uint32_t value, uint32_t unit)
{
    return u32_divide_up(value, unit) * unit;
}

static inline uint64_t u64_divide_up(uint64_t value, uint64_t unit)
{
    return value / unit + (value % unit != 0);
}

static inline uint64_t u64_round_up(uint64_t value, uint64_t unit)
{
    return u64_divide_up(value, unit) * unit;
}

#endif
