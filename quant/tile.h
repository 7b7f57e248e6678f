// Weights in the order in which a kernel reads them: one lane owns one row.
//
// 32 rows make a row tile; along the columns a tile is cut into steps (4 columns of f32, 8 of f16 and bf16, 32 of
// q8_0, 256 of the K formats). The blocks of a step are cut into 16-byte pieces, and the pieces of the 32 rows lie side
// by side, so lane r reads its own 16 bytes and 32 lanes read 512 contiguous bytes:
//
//   matrix  [row tile][column step]               tile t holds rows 32 t .. 32 t + 31
//   step    [piece 0][piece 1]...[d f16 x 32]     the 64 bytes of d only in q8_0 and q6_k
//   piece   [row 0: 16 bytes][row 1: 16 bytes]...[row 31: 16 bytes]
//
// Which part of a block is which piece: quant/tile_layout.h. The values are those of the row blocks, only their order
// differs, so packing and unpacking lose nothing. Missing rows of the last tile, and for the float formats missing
// columns of the last step, are zero bytes (which decode to zeros). In the other formats cols must be a multiple of
// block_cols.
//
// A row tile is contiguous and starts at quant_tile_bytes(type, 32 * tile, cols), so a large matrix may be packed,
// written and read in groups of 32 rows.
//
// Threads: every function is pure; any number of threads may call them.
#ifndef SLUICE_QUANT_TILE_H
#define SLUICE_QUANT_TILE_H

#include <stdint.h>

#include "quant/quant.h"
#include "quant/tile_layout.h"
#include "runtime/base/status.h"

// Columns and bytes of one step of one row tile. Bytes = 32 * the row's bytes of the step: f32, f16, bf16 512,
// q8_0 1088, q4_k 4608, q5_k 5632, q6_k 6720. `type` is a format (checked).
uint32_t quant_tile_step_cols(enum quant_type type);
uint32_t quant_tile_step_bytes(enum quant_type type);

// Bytes of a packed matrix. 0 if rows or cols is 0, cols is not allowed for `type`, or the size overflows: so a shape
// from a file is checked with this one call.
uint64_t quant_tile_bytes(enum quant_type type, uint64_t rows, uint64_t cols);

// tiles[quant_tile_bytes(type, rows, cols)] = the matrix row_blocks[rows][quant_row_bytes(type, cols)]; no overlap.
// Errors: SLUICE_ERR_ARGUMENT (shape not allowed; nothing is written).
enum sluice_status quant_tile_pack(enum quant_type type, const void *row_blocks, uint64_t rows, uint64_t cols,
                                   void *tiles);

// The exact inverse: writes rows * quant_row_bytes(type, cols) bytes; padding is not looked at.
enum sluice_status quant_tile_unpack(enum quant_type type, const void *tiles, uint64_t rows, uint64_t cols,
                                     void *row_blocks);

// One row (row < rows, checked; the shape too) as blocks and as values[cols].
void quant_tile_unpack_row(enum quant_type type, const void *tiles, uint64_t rows, uint64_t cols, uint64_t row,
                           void *row_blocks);
void quant_tile_decode_row(enum quant_type type, const void *tiles, uint64_t rows, uint64_t cols, uint64_t row,
                           float *values);

#endif
