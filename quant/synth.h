// Synthetic weights: a pure function of (seed, tensor name, element index), so that any program makes the same
// checkpoint, bit for bit, without storing it. The definition is that of the golden files made with Transformers:
//
//   state = XXH64(name, seed)
//   x(i)  = random_at(state, i)                      runtime/base/random.h
//   u(i)  = (x(i) >> 11) * 2^-53                     f64 in [0, 1)
//   w(i)  = bf16(f32(lo + (hi - lo) * u(i)))         both roundings to nearest even
//
// (lo, hi) by the ending of the name: A_log -3..1.8, dt_bias -3..1, linear_attn.norm.weight 0.6..1.4, other norm.weight
// -0.4..0.4, conv1d.weight -0.9..0.9, embed_tokens.weight -1.7..1.7, mlp.gate.weight +-4/sqrt(hidden_size), every other
// weight +-sqrt(3 / last dimension).
#ifndef SLUICE_QUANT_SYNTH_H
#define SLUICE_QUANT_SYNTH_H

#include <stdint.h>

#include "runtime/base/status.h"

struct synth_bounds {
    double low, high;
};

// rank >= 1 and dimensions >= 1 (checked); hidden_size >= 1 is the model's, used by mlp.gate.weight only.
struct synth_bounds synth_bounds(const char *name, uint32_t rank, const uint64_t *shape, uint32_t hidden_size);

// out[count] = elements first_index .. first_index + count - 1 (in C order) of tensor `name`.
// Errors: SLUICE_ERR_ARGUMENT (range outside the shape, rank or a dimension 0). Threads: any.
enum sluice_status synth_fill_bf16(const char *name, uint32_t rank, const uint64_t *shape, uint32_t hidden_size,
                                   uint64_t seed, uint64_t first_index, uint64_t count, uint16_t *out);

#endif
