// Random numbers that are the same on every machine: splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom
// number generators, 2014). Number i is a function of the state at the start and of i, so a sequence can be read on or
// looked up anywhere. Any state is as good as another. Not for secrets.
#ifndef SLUICE_BASE_RANDOM_H
#define SLUICE_BASE_RANDOM_H

#include <stdint.h>

static const uint64_t RANDOM_STEP = 0x9E3779B97F4A7C15u; // 2^64 / golden ratio

// The next number; the state moves on.
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += RANDOM_STEP;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

// What the call number i, from 0, of random_next returns after `state`.
static inline uint64_t random_at(uint64_t state, uint64_t i)
{
    state += i * RANDOM_STEP;
    return random_next(&state);
}

// 0 <= result < 1, in steps of 2^-53.
static inline double random_fraction(uint64_t *state)
{
    return (double)(int64_t)(random_next(state) >> 11) * 0x1p-53; // signed conversions are the fast ones
}

#endif
