// The constants of the tile layout, for C and GLSL alike (plain macros only). quant/tile.h explains the layout.
//
// A step of a row tile is STEP_PIECES pieces of 32 rows x 16 bytes; q8_0 and q6_k have 32 f16 scales behind them.
// x_PIECE is the first piece of part x of a block.
#ifndef SLUICE_QUANT_TILE_LAYOUT_H
#define SLUICE_QUANT_TILE_LAYOUT_H

#define QUANT_TILE_ROWS 32
#define QUANT_PIECE_ROW_BYTES 16
#define QUANT_PIECE_BYTES 512      // 32 rows x 16 bytes
#define QUANT_TILE_SCALES_BYTES 64 // 32 rows x f16, where a format has them

#define QUANT_F32_STEP_COLS 4
#define QUANT_F32_STEP_PIECES 1
#define QUANT_F32_STEP_BYTES 512

#define QUANT_F16_STEP_COLS 8
#define QUANT_F16_STEP_PIECES 1
#define QUANT_F16_STEP_BYTES 512

#define QUANT_BF16_STEP_COLS 8
#define QUANT_BF16_STEP_PIECES 1
#define QUANT_BF16_STEP_BYTES 512

#define QUANT_Q8_0_STEP_COLS 32
#define QUANT_Q8_0_STEP_PIECES 2
#define QUANT_Q8_0_STEP_BYTES 1088
#define QUANT_Q8_0_QS_PIECE 0         // 2 pieces: i8 q[32]
#define QUANT_Q8_0_SCALES_OFFSET 1024 // bytes from the start of the step: f16 d[row]

#define QUANT_Q4_K_STEP_COLS 256
#define QUANT_Q4_K_STEP_PIECES 9
#define QUANT_Q4_K_STEP_BYTES 4608
#define QUANT_Q4_K_HEADER_PIECE 0 // f16 d, f16 dmin, scales[12]
#define QUANT_Q4_K_QS_PIECE 1     // 8 pieces: qs[128]

#define QUANT_Q5_K_STEP_COLS 256
#define QUANT_Q5_K_STEP_PIECES 11
#define QUANT_Q5_K_STEP_BYTES 5632
#define QUANT_Q5_K_HEADER_PIECE 0 // f16 d, f16 dmin, scales[12]
#define QUANT_Q5_K_QH_PIECE 1     // 2 pieces: qh[32]
#define QUANT_Q5_K_QS_PIECE 3     // 8 pieces: qs[128]

#define QUANT_Q6_K_STEP_COLS 256
#define QUANT_Q6_K_STEP_PIECES 13
#define QUANT_Q6_K_STEP_BYTES 6720
#define QUANT_Q6_K_QL_PIECE 0         // 8 pieces: ql[128]
#define QUANT_Q6_K_QH_PIECE 8         // 4 pieces: qh[64]
#define QUANT_Q6_K_SC_PIECE 12        // i8 sc[16]
#define QUANT_Q6_K_SCALES_OFFSET 6656 // bytes from the start of the step: f16 d[row]

#endif
