#include "quant/synth.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "quant/halffloat.h"
#include "runtime/base/check.h"
#include "runtime/base/random.h"

#include <xxhash.h>

static bool ends_with(const char *text, const char *ending)
{
    size_t length = strlen(text), ending_length = strlen(ending);
    return length >= ending_length && strcmp(text + length - ending_length, ending) == 0;
}

static struct synth_bounds symmetric(double magnitude)
{
    return (struct synth_bounds){-magnitude, magnitude};
}

struct synth_bounds synth_bounds(const char *name, uint32_t rank, const uint64_t *shape, uint32_t hidden_size)
{
    CHECK(rank >= 1 && shape[rank - 1] >= 1 && hidden_size >= 1);
    if (ends_with(name, "A_log"))
        return (struct synth_bounds){-3.0, 1.8};
    if (ends_with(name, "dt_bias"))
        return (struct synth_bounds){-3.0, 1.0};
    if (ends_with(name, "linear_attn.norm.weight"))
        return (struct synth_bounds){0.6, 1.4};
    if (ends_with(name, "norm.weight"))
        return symmetric(0.4);
    if (ends_with(name, "conv1d.weight"))
        return symmetric(0.9);
    if (ends_with(name, "embed_tokens.weight"))
        return symmetric(1.7);
    if (ends_with(name, "mlp.gate.weight"))
        return symmetric(4.0 / sqrt((double)hidden_size));
    return symmetric(sqrt(3.0 / (double)shape[rank - 1]));
}

// Product of the shape; false if a dimension is 0 or it overflows.
static bool shape_elements(uint32_t rank, const uint64_t *shape, uint64_t *elements)
{
    *elements = 1;
    for (uint32_t i = 0; i < rank; i++)
        if (shape[i] == 0 || __builtin_mul_overflow(*elements, shape[i], elements))
            return false;
    return rank > 0;
}

enum sluice_status synth_fill_bf16(const char *name, uint32_t rank, const uint64_t *shape, uint32_t hidden_size,
                                   uint64_t seed, uint64_t first_index, uint64_t count, uint16_t *out)
{
    uint64_t elements;
    if (!shape_elements(rank, shape, &elements) || hidden_size == 0 || first_index > elements ||
        count > elements - first_index)
        return error_set(SLUICE_ERR_ARGUMENT, "synthetic tensor %s: %llu values from %llu on are not within its shape",
                         name, (unsigned long long)count, (unsigned long long)first_index);
    struct synth_bounds bounds = synth_bounds(name, rank, shape, hidden_size);
    double low = bounds.low, range = bounds.high - bounds.low;
    uint64_t state = XXH64(name, strlen(name), seed) + first_index * RANDOM_STEP;
    for (uint64_t i = 0; i < count; i++)
        out[i] = bf16_from_f32((float)(low + range * random_fraction(&state)));
    return SLUICE_OK;
}
