#include "quant/tile.h"

#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/integer.h"

enum { NO_SCALE = -1, SCALE_BYTES = 2 };

// A row's bytes of one step are its pieces, which are contiguous, and in some formats a scale before or behind them.
struct layout {
    uint32_t step_cols, step_bytes;
    uint32_t row_bytes;     // of one row in one step
    uint32_t pieces;        // 16-byte pieces of one row in one step
    uint32_t pieces_offset; // of the first piece from the row's first byte
    int32_t scale_offset;   // of the f16 scale, or NO_SCALE
};

#define LAYOUT(name, row_bytes, pieces_offset, scale_offset)                                                       \
    {                                                                                                              \
        QUANT_##name##_STEP_COLS, QUANT_##name##_STEP_BYTES, row_bytes, QUANT_##name##_STEP_PIECES, pieces_offset, \
            scale_offset                                                                                           \
    }

static const struct layout layouts[QUANT_TYPE_COUNT] = {
    [QUANT_F32] = LAYOUT(F32, 16, 0, NO_SCALE),    [QUANT_F16] = LAYOUT(F16, 16, 0, NO_SCALE),
    [QUANT_BF16] = LAYOUT(BF16, 16, 0, NO_SCALE),  [QUANT_Q8_0] = LAYOUT(Q8_0, 34, 2, 0),
    [QUANT_Q4_K] = LAYOUT(Q4_K, 144, 0, NO_SCALE), [QUANT_Q5_K] = LAYOUT(Q5_K, 176, 0, NO_SCALE),
    [QUANT_Q6_K] = LAYOUT(Q6_K, 210, 0, 208),
};

_Static_assert(QUANT_PIECE_BYTES == QUANT_TILE_ROWS * QUANT_PIECE_ROW_BYTES, "a piece is 16 bytes of each row");
_Static_assert(QUANT_Q8_0_SCALES_OFFSET == QUANT_Q8_0_STEP_PIECES * QUANT_PIECE_BYTES,
               "scales stand behind the pieces");
_Static_assert(QUANT_Q6_K_SCALES_OFFSET == QUANT_Q6_K_STEP_PIECES * QUANT_PIECE_BYTES,
               "scales stand behind the pieces");
_Static_assert(QUANT_Q4_K_QS_PIECE + 8 == QUANT_Q4_K_STEP_PIECES, "q4_k: header, qs");
_Static_assert(QUANT_Q5_K_QS_PIECE + 8 == QUANT_Q5_K_STEP_PIECES, "q5_k: header, qh, qs");
_Static_assert(QUANT_Q6_K_SC_PIECE + 1 == QUANT_Q6_K_STEP_PIECES, "q6_k: ql, qh, sc");

// Matrix of one call, its shape checked.
struct matrix {
    const struct layout *layout;
    uint64_t rows, row_bytes; // row_bytes: of the row blocks, without padding
    uint64_t steps;           // per row tile
    uint64_t tile_bytes;      // of one row tile
    uint64_t tile_count;
};

uint32_t quant_tile_step_cols(enum quant_type type)
{
    CHECK(quant_format_get(type));
    return layouts[type].step_cols;
}

uint32_t quant_tile_step_bytes(enum quant_type type)
{
    CHECK(quant_format_get(type));
    return layouts[type].step_bytes;
}

// False if the shape is not allowed or a size overflows.
static bool matrix_init(struct matrix *matrix, enum quant_type type, uint64_t rows, uint64_t cols)
{
    uint64_t row_bytes = quant_row_bytes(type, cols), bytes;
    if (row_bytes == 0 || rows == 0)
        return false;
    const struct layout *layout = &layouts[type];
    *matrix = (struct matrix){.layout = layout, .rows = rows, .row_bytes = row_bytes};
    matrix->steps = u64_divide_up(cols, layout->step_cols);
    matrix->tile_count = u64_divide_up(rows, QUANT_TILE_ROWS);
    return !__builtin_mul_overflow(matrix->steps, (uint64_t)layout->step_bytes, &matrix->tile_bytes) &&
           !__builtin_mul_overflow(matrix->tile_bytes, matrix->tile_count, &bytes);
}

static enum sluice_status matrix_check(struct matrix *matrix, enum quant_type type, uint64_t rows, uint64_t cols)
{
    CHECK(quant_format_get(type));
    if (matrix_init(matrix, type, rows, cols))
        return SLUICE_OK;
    error_set(SLUICE_ERR_ARGUMENT, "a %llu x %llu matrix cannot be %s tiles: columns must be a multiple of %u",
              (unsigned long long)rows, (unsigned long long)cols, quant_format_get(type)->name,
              quant_format_get(type)->block_cols);
    return SLUICE_ERR_ARGUMENT; // a constant: gcc sees that `matrix` is not used after a failure
}

uint64_t quant_tile_bytes(enum quant_type type, uint64_t rows, uint64_t cols)
{
    struct matrix matrix;
    return matrix_init(&matrix, type, rows, cols) ? matrix.tile_bytes * matrix.tile_count : 0;
}

// Bytes that a row really has in `step`: less than layout->row_bytes in the last step of a padded float row.
static uint32_t row_step_bytes(const struct matrix *matrix, uint64_t step)
{
    uint64_t left = matrix->row_bytes - step * matrix->layout->row_bytes;
    return left < matrix->layout->row_bytes ? (uint32_t)left : matrix->layout->row_bytes;
}

// Row `lane` of one step, from its `bytes` bytes.
static void row_step_pack(const struct layout *layout, const uint8_t *row, uint32_t bytes, uint32_t lane, uint8_t *step)
{
    if (bytes < layout->row_bytes) { // one piece, padded
        memcpy(step + QUANT_PIECE_ROW_BYTES * lane, row, bytes);
        return;
    }
    for (uint32_t piece = 0; piece < layout->pieces; piece++)
        memcpy(step + QUANT_PIECE_BYTES * piece + QUANT_PIECE_ROW_BYTES * lane,
               row + layout->pieces_offset + QUANT_PIECE_ROW_BYTES * piece, QUANT_PIECE_ROW_BYTES);
    if (layout->scale_offset != NO_SCALE)
        memcpy(step + QUANT_PIECE_BYTES * layout->pieces + SCALE_BYTES * lane, row + layout->scale_offset, SCALE_BYTES);
}

static void row_step_unpack(const struct layout *layout, const uint8_t *step, uint32_t lane, uint32_t bytes,
                            uint8_t *row)
{
    if (bytes < layout->row_bytes) {
        memcpy(row, step + QUANT_PIECE_ROW_BYTES * lane, bytes);
        return;
    }
    for (uint32_t piece = 0; piece < layout->pieces; piece++)
        memcpy(row + layout->pieces_offset + QUANT_PIECE_ROW_BYTES * piece,
               step + QUANT_PIECE_BYTES * piece + QUANT_PIECE_ROW_BYTES * lane, QUANT_PIECE_ROW_BYTES);
    if (layout->scale_offset != NO_SCALE)
        memcpy(row + layout->scale_offset, step + QUANT_PIECE_BYTES * layout->pieces + SCALE_BYTES * lane, SCALE_BYTES);
}

static uint32_t tile_rows(const struct matrix *matrix, uint64_t tile)
{
    uint64_t left = matrix->rows - QUANT_TILE_ROWS * tile;
    return left < QUANT_TILE_ROWS ? (uint32_t)left : QUANT_TILE_ROWS;
}

// Row tile number `tile` of the row blocks at `blocks` to `out`.
static void tile_pack(const struct matrix *matrix, const uint8_t *blocks, uint64_t tile, uint8_t *out)
{
    const uint8_t *first_row = blocks + QUANT_TILE_ROWS * tile * matrix->row_bytes;
    uint32_t lanes = tile_rows(matrix, tile);
    for (uint64_t step = 0; step < matrix->steps; step++) {
        uint8_t *step_out = out + step * matrix->layout->step_bytes;
        uint32_t bytes = row_step_bytes(matrix, step);
        if (lanes < QUANT_TILE_ROWS || bytes < matrix->layout->row_bytes)
            memset(step_out, 0, matrix->layout->step_bytes);
        for (uint32_t lane = 0; lane < lanes; lane++)
            row_step_pack(matrix->layout, first_row + lane * matrix->row_bytes + step * matrix->layout->row_bytes,
                          bytes, lane, step_out);
    }
}

static void tile_unpack_lane(const struct matrix *matrix, const uint8_t *in, uint32_t lane, uint8_t *row)
{
    for (uint64_t step = 0; step < matrix->steps; step++)
        row_step_unpack(matrix->layout, in + step * matrix->layout->step_bytes, lane, row_step_bytes(matrix, step),
                        row + step * matrix->layout->row_bytes);
}

static void tile_unpack(const struct matrix *matrix, const uint8_t *in, uint64_t tile, uint8_t *blocks)
{
    uint32_t lanes = tile_rows(matrix, tile);
    for (uint32_t lane = 0; lane < lanes; lane++)
        tile_unpack_lane(matrix, in, lane, blocks + (QUANT_TILE_ROWS * tile + lane) * matrix->row_bytes);
}

enum sluice_status quant_tile_pack(enum quant_type type, const void *row_blocks, uint64_t rows, uint64_t cols,
                                   void *tiles)
{
    struct matrix matrix;
    enum sluice_status status = matrix_check(&matrix, type, rows, cols);
    for (uint64_t tile = 0; status == SLUICE_OK && tile < matrix.tile_count; tile++)
        tile_pack(&matrix, row_blocks, tile, (uint8_t *)tiles + tile * matrix.tile_bytes);
    return status;
}

enum sluice_status quant_tile_unpack(enum quant_type type, const void *tiles, uint64_t rows, uint64_t cols,
                                     void *row_blocks)
{
    struct matrix matrix;
    enum sluice_status status = matrix_check(&matrix, type, rows, cols);
    for (uint64_t tile = 0; status == SLUICE_OK && tile < matrix.tile_count; tile++)
        tile_unpack(&matrix, (const uint8_t *)tiles + tile * matrix.tile_bytes, tile, row_blocks);
    return status;
}

void quant_tile_unpack_row(enum quant_type type, const void *tiles, uint64_t rows, uint64_t cols, uint64_t row,
                           void *row_blocks)
{
    struct matrix matrix;
    CHECK(matrix_init(&matrix, type, rows, cols) && row < rows);
    const uint8_t *tile = (const uint8_t *)tiles + row / QUANT_TILE_ROWS * matrix.tile_bytes;
    tile_unpack_lane(&matrix, tile, (uint32_t)(row % QUANT_TILE_ROWS), row_blocks);
}

void quant_tile_decode_row(enum quant_type type, const void *tiles, uint64_t rows, uint64_t cols, uint64_t row,
                           float *values)
{
    struct matrix matrix;
    CHECK(matrix_init(&matrix, type, rows, cols) && row < rows);
    const struct layout *layout = matrix.layout;
    const struct quant_format *format = quant_format_get(type);
    const uint8_t *tile = (const uint8_t *)tiles + row / QUANT_TILE_ROWS * matrix.tile_bytes;
    uint8_t blocks[256]; // one row's bytes of one step: at most 210
    for (uint64_t step = 0; step < matrix.steps; step++) {
        uint32_t bytes = row_step_bytes(&matrix, step);
        row_step_unpack(layout, tile + step * layout->step_bytes, (uint32_t)(row % QUANT_TILE_ROWS), bytes, blocks);
        format->decode(blocks, bytes / format->block_bytes, values + step * layout->step_cols);
    }
}
