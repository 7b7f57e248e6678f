#include "quant/tile.h"
#include "quant_fixture.h"

static void *allocate(size_t bytes)
{
    void *pointer = malloc(bytes ? bytes : 1);
    assert_non_null(pointer);
    return pointer;
}

static uint32_t cols_for(int type, int multiple)
{
    static const uint32_t odd[] = {1, 3, 4, 5, 8, 13, 260};
    uint32_t block = quant_format_get((enum quant_type)type)->block_cols;
    return block > 1 ? block * (uint32_t)(1 + multiple % 4) : odd[multiple];
}

static const uint32_t awkward_rows[] = {1, 2, 31, 32, 33, 63, 64, 65, 97};
enum { ROW_SHAPES = sizeof awkward_rows / sizeof awkward_rows[0], COL_SHAPES = 7 };

// Calls `check` with random row blocks of every format over awkward shapes.
static void over_shapes(void (*check)(enum quant_type, const uint8_t *, uint32_t, uint32_t))
{
    uint64_t seed = 11;
    for (int type = 0; type < QUANT_TYPE_COUNT; type++) {
        for (int r = 0; r < ROW_SHAPES; r++) {
            for (int c = 0; c < COL_SHAPES; c++) {
                uint32_t rows = awkward_rows[r], cols = cols_for(type, c);
                size_t bytes = rows * quant_row_bytes((enum quant_type)type, cols);
                uint8_t *blocks = allocate(bytes);
                random_bytes(&seed, blocks, bytes);
                check((enum quant_type)type, blocks, rows, cols);
                free(blocks);
            }
        }
    }
}

static void check_inverse(enum quant_type type, const uint8_t *blocks, uint32_t rows, uint32_t cols)
{
    size_t bytes = rows * quant_row_bytes(type, cols), tile_bytes = quant_tile_bytes(type, rows, cols);
    uint8_t *tiles = allocate(tile_bytes), *back = allocate(bytes), *again = allocate(tile_bytes);
    memset(tiles, 0xA5, tile_bytes);
    memset(again, 0x5A, tile_bytes);
    assert_int_equal(quant_tile_pack(type, blocks, rows, cols, tiles), SLUICE_OK);
    assert_int_equal(quant_tile_pack(type, blocks, rows, cols, again), SLUICE_OK);
    assert_memory_equal(tiles, again, tile_bytes); // every byte is written
    assert_int_equal(quant_tile_unpack(type, tiles, rows, cols, back), SLUICE_OK);
    assert_memory_equal(back, blocks, bytes);
    free(again);
    free(back);
    free(tiles);
}

// Converted weights would be scrambled, for just some shapes.
static void unpacking_inverts_packing(void **state)
{
    (void)state;
    over_shapes(check_inverse);
}

// Byte `byte` of row `row`, found by the layout's words, in the tiles: the specification once more, byte by byte.
static uint8_t tile_byte(enum quant_type type, const uint8_t *tiles, uint32_t cols, uint32_t row, uint32_t byte)
{
    uint32_t step_cols = quant_tile_step_cols(type), steps = (cols + step_cols - 1) / step_cols;
    uint32_t row_step_bytes = quant_tile_step_bytes(type) / 32, step = byte / row_step_bytes,
             rest = byte % row_step_bytes;
    const uint8_t *start = tiles + ((uint64_t)(row / 32) * steps + step) * quant_tile_step_bytes(type);
    if (type == QUANT_Q8_0)
        return rest < 2 ? start[1024 + 2 * (row % 32) + rest]
                        : start[(rest - 2) / 16 * 512 + row % 32 * 16 + (rest - 2) % 16];
    if (type == QUANT_Q6_K && rest >= 208)
        return start[6656 + 2 * (row % 32) + rest - 208];
    return start[rest / 16 * 512 + row % 32 * 16 + rest % 16];
}

static void check_places(enum quant_type type, const uint8_t *blocks, uint32_t rows, uint32_t cols)
{
    uint32_t row_bytes = (uint32_t)quant_row_bytes(type, cols);
    uint8_t *tiles = allocate(quant_tile_bytes(type, rows, cols));
    assert_int_equal(quant_tile_pack(type, blocks, rows, cols, tiles), SLUICE_OK);
    for (uint32_t row = 0; row < rows; row++)
        for (uint32_t byte = 0; byte < row_bytes; byte++)
            if (tile_byte(type, tiles, cols, row, byte) != blocks[row * row_bytes + byte])
                fail_msg("%s %ux%u: row %u byte %u", format_name((int)type), rows, cols, row, byte);
    free(tiles);
}

// Kernels and files written by earlier versions would read other bytes than were meant.
static void bytes_lie_where_the_layout_says(void **state)
{
    (void)state;
    over_shapes(check_places);
}

static void check_padding(enum quant_type type, const uint8_t *blocks, uint32_t rows, uint32_t cols)
{
    uint32_t step_cols = quant_tile_step_cols(type);
    uint64_t padded_rows = (rows + 31) / 32 * 32, padded_cols = (cols + step_cols - 1) / step_cols * step_cols;
    uint8_t *tiles = allocate(quant_tile_bytes(type, rows, cols));
    float *values = allocate(padded_cols * sizeof *values);
    assert_int_equal(quant_tile_pack(type, blocks, rows, cols, tiles), SLUICE_OK);
    for (uint64_t row = 0; row < padded_rows; row++) {
        quant_tile_decode_row(type, tiles, padded_rows, padded_cols, row, values);
        for (uint64_t col = row < rows ? cols : 0; col < padded_cols; col++)
            if (values[col] != 0)
                fail_msg("%s %ux%u: padding at %llu, %llu", format_name((int)type), rows, cols, (unsigned long long)row,
                         (unsigned long long)col);
    }
    free(values);
    free(tiles);
}

// Kernels compute padding rows and columns too: rubbish there could be NaN and spoil real results.
static void padding_decodes_to_zeros(void **state)
{
    (void)state;
    over_shapes(check_padding);
}

static void check_rows(enum quant_type type, const uint8_t *blocks, uint32_t rows, uint32_t cols)
{
    size_t row_bytes = quant_row_bytes(type, cols), value_bytes = cols * sizeof(float);
    uint8_t *tiles = allocate(quant_tile_bytes(type, rows, cols)), *row_blocks = allocate(row_bytes);
    float *values = allocate(value_bytes), *wanted = allocate(value_bytes);
    assert_int_equal(quant_tile_pack(type, blocks, rows, cols, tiles), SLUICE_OK);
    for (uint32_t row = 0; row < rows; row++) {
        quant_tile_unpack_row(type, tiles, rows, cols, row, row_blocks);
        assert_memory_equal(row_blocks, blocks + row * row_bytes, row_bytes);
        quant_tile_decode_row(type, tiles, rows, cols, row, values);
        quant_decode_row(type, row_blocks, cols, wanted);
        assert_memory_equal(values, wanted, value_bytes);
    }
    free(wanted);
    free(values);
    free(row_blocks);
    free(tiles);
}

// The reference that kernels are tested with, and embedding look-ups, would use the wrong row.
static void single_rows_equal_the_row_blocks(void **state)
{
    (void)state;
    over_shapes(check_rows);
}

// Offsets in the container and buffer sizes follow from these numbers; a changed one makes old files unreadable.
static void sizes_are_those_of_the_layout(void **state)
{
    (void)state;
    static const uint32_t cols[QUANT_TYPE_COUNT] = {4, 8, 8, 32, 256, 256, 256};
    static const uint32_t bytes[QUANT_TYPE_COUNT] = {512, 512, 512, 1088, 4608, 5632, 6720};
    for (int type = 0; type < QUANT_TYPE_COUNT; type++) {
        enum quant_type t = (enum quant_type)type;
        assert_int_equal(quant_tile_step_cols(t), cols[type]);
        assert_int_equal(quant_tile_step_bytes(t), bytes[type]);
        assert_int_equal(bytes[type], 32 * quant_row_bytes(t, cols[type]));
        assert_int_equal(quant_tile_bytes(t, 64, 512), 2 * (512 / cols[type]) * bytes[type]);
    }
    // one expert of the 80B model: gate and up 512 x 2048, down 2048 x 512
    assert_int_equal(2 * quant_tile_bytes(QUANT_Q4_K, 512, 2048) + quant_tile_bytes(QUANT_Q4_K, 2048, 512), 1769472);
}

// A shape from a hostile file would make a buffer too small.
static void impossible_shapes_are_refused(void **state)
{
    (void)state;
    uint8_t nothing[1];
    assert_int_equal(quant_tile_bytes(QUANT_Q4_K, 32, 255), 0);
    assert_int_equal(quant_tile_bytes(QUANT_Q8_0, 32, 16), 0);
    assert_int_equal(quant_tile_bytes(QUANT_F32, 0, 16), 0);
    assert_int_equal(quant_tile_bytes(QUANT_F32, 16, 0), 0);
    assert_int_equal(quant_tile_bytes(QUANT_F32, UINT64_MAX, 4), 0);
    assert_int_equal(quant_tile_bytes(QUANT_F32, 4, UINT64_MAX / 4), 0);
    assert_int_equal(quant_tile_bytes(QUANT_Q6_K, UINT64_MAX / 8, 256), 0);
    assert_int_equal(quant_tile_bytes((enum quant_type)42, 32, 256), 0);
    assert_int_equal(quant_tile_pack(QUANT_Q4_K, nothing, 1, 100, nothing), SLUICE_ERR_ARGUMENT);
    assert_non_null(strstr(error_message(), "q4_k"));
    assert_int_equal(quant_tile_unpack(QUANT_Q8_0, nothing, 1, 31, nothing), SLUICE_ERR_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unpacking_inverts_packing),     cmocka_unit_test(bytes_lie_where_the_layout_says),
        cmocka_unit_test(padding_decodes_to_zeros),      cmocka_unit_test(single_rows_equal_the_row_blocks),
        cmocka_unit_test(sizes_are_those_of_the_layout), cmocka_unit_test(impossible_shapes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
