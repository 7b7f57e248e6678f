// How fast a model will be, from what was measured of drive and device. Only arithmetic.
//
//   prefill   max(read, compute): every expert that the prompt uses is read once while the device computes
//             read = experts used * bytes / drive, compute = the device's time + a copy of each expert (none in one
//             pool that device and host share: copy_seconds is 0)
//   decode    layers * (rest + max(experts at hand, read of the misses) + experts read + copies) + output matrix,
//             where experts at hand run while the others are read, which end together and are computed after that
//
// Uniform routing: a token's experts of one layer are all alike, so an LRU cache of a share s of the experts hits s.
#ifndef SLUICE_TOOLS_PREDICT_H
#define SLUICE_TOOLS_PREDICT_H

#include "runtime/sluice.h"

struct predict_input {
    const struct sluice_plan *plan;
    const struct sluice_speed *speed;
    double sequential_bytes_s, burst_bytes_s; // of the drive: in file order; the misses of one layer at random
    double hit_device, hit_host;              // share of uses, 0..1, sum <= 1
};

struct prediction {
    double read_seconds, compute_seconds, prefill_seconds; // of speed->prompt_tokens
    double decode_seconds, decode_deep_seconds;            // of a token
    double decode_read_seconds;                            // of it, reading without the rest
    double misses_per_layer;
    double prompt_bytes, token_bytes; // read from the drive
};

// Hit rates of LRU caches for uniform routing.
void predict_hits(const struct sluice_plan *plan, double *hit_device, double *hit_host);

struct prediction predict(const struct predict_input *input);

#endif
