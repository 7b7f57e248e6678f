// Push constants of the matrix kernels; valid C and valid GLSL, see shader_params.h.
#ifndef SLUICE_SHADERS_MATRIX_PARAMS_H
#define SLUICE_SHADERS_MATRIX_PARAMS_H

#ifdef __STDC__
#include <stdint.h>
typedef uint32_t uint;
#endif

// matmul.comp: which rows of x meet which weights
#define MATMUL_DENSE 0    // all rows, one matrix
#define MATMUL_GROUPED 1  // a list of tiles: row r of the batch is row r of x
#define MATMUL_INDIRECT 2 // a list of tiles: row r of the batch is row row_token[r] of x

// What happens to y
#define MATMUL_STORE 0
#define MATMUL_ADD 1       // y += result
#define MATMUL_ADD_GATED 2 // dense: y[i] += sigmoid(gate[i]) * result[i]

#define MATMUL_TILE_ROWS 8 // of a tile of the list at most
#define MATMUL_SLABS 16    // buffers with weights that one dispatch can be bound to: kernels with WEIGHT_SLABS

struct matmul_push {
    uint rows;       // rows of y that this dispatch makes
    uint cols;       // columns of the weights
    uint slices;     // into which the columns are cut
    uint row0;       // where they begin in a row of y
    uint y_stride;   // floats from row to row of y
    uint x_count;    // dense: rows of x; grouped, on matrix cores: tiles of the list
    uint block0;     // the first column block (dense) or the first tile of the list (grouped)
    uint accumulate; // MATMUL_STORE ...
    uint slot_units; // grouped: 16-byte units from slot to slot
    uint slot_unit0; // grouped: units from a slot's start to the weights
    uint stage_slices; // slices whose part of x is in shared memory at a time (only kernels that stage)
};

// quantize_q8.comp
struct quantize_q8_push {
    uint block_count; // blocks of 32 columns, over all rows
};

// embed_rows.comp
struct embed_rows_push {
    uint n;          // ids
    uint cols;       // columns of the table
    uint row0, rows; // the rows that lie in this part of the table
};

#endif
