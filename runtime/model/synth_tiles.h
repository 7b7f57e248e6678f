// Random weights straight in the tile layout of quant/tile.h: no encoder, as fast as memory can be written, for
// containers that serve measurements.
//
// A tile's bytes are numbers of splitmix64 (quant/synth.h), so every nibble is another; what must not be arbitrary is
// put over them: scales (from a small set, picked by the random bytes in their place) such that the weights have mean 0
// and the wanted standard deviation, and zeros in missing rows. Every weight is finite. The same on every machine.
#ifndef SLUICE_MODEL_SYNTH_TILES_H
#define SLUICE_MODEL_SYNTH_TILES_H

#include <stdint.h>

#include "quant/quant.h"

enum { SYNTH_TILES_SCALES = 64, SYNTH_TILES_HEADER_BYTES = 16 };

// What all tiles of one format and standard deviation share. A plain value.
struct synth_tiles {
    enum quant_type type;
    float magnitude;                                               // float formats: weights are within +-magnitude
    uint8_t headers[SYNTH_TILES_SCALES][SYNTH_TILES_HEADER_BYTES]; // of q4_k and q5_k
    uint16_t scales[SYNTH_TILES_SCALES];                           // f16 d of q8_0 and q6_k
};

// deviation: of the weights, 1e-3..1e3; exact to two digits, because small f16 scales are.
void synth_tiles_init(struct synth_tiles *s, enum quant_type type, double deviation);

// tile_bytes[quant_tile_bytes(type, QUANT_TILE_ROWS, cols)] = row tile `tile` of a matrix [rows, cols] whose weights
// are those of `state`; shape and tile are checked. Any number of threads may call it.
void synth_tiles_fill(const struct synth_tiles *s, uint64_t state, uint64_t rows, uint64_t cols, uint64_t tile,
                      uint8_t *tile_bytes);

#endif
