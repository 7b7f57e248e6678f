// Weights and activations as the operations see them.
#ifndef SLUICE_OPS_TENSOR_H
#define SLUICE_OPS_TENSOR_H

#include "quant/quant.h"
#include "runtime/gpu/buffer.h"

// Rows [row0, row0 + rows) of a weight matrix, in the tile layout of quant/tile.h.
struct tensor_part {
    struct gpu_range range;
    uint32_t row0; // a multiple of QUANT_TILE_ROWS
    uint32_t rows;
};

// W[rows, cols] in tiles. A matrix larger than one binding lies in several parts, in row order.
struct tensor {
    enum quant_type type;
    uint32_t rows, cols;
    uint32_t part_count;
    struct tensor_part *parts; // owned by whoever made the tensor
    bool exact;                // small and decisive, as a router's: never on matrix cores, which round to f16
};

// Activations x[n, cols]: as f32, and for the integer kernels also rounded to 8 bits in blocks of 32 columns.
struct activations {
    uint32_t n, cols;
    struct gpu_range f32;       // f32 [n][cols]; bytes == 0: absent, only matrices with integer kernels can read x
    struct gpu_range q8;        // int8 [n][cols]; bytes == 0: absent, the f32 kernels are used
    struct gpu_range q8_scales; // vec2 [n][cols / 32]: step d, d * sum of the 32 integers
};

#endif
