// Random weights in the tile layout.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "quant/tile.h"
#include "runtime/base/mem.h"
#include "runtime/model/synth_tiles.h"

enum { ROWS = 75, COLS = 512, TILES = 3 }; // the last tile has 11 rows

static uint8_t *make(enum quant_type type, double deviation, uint64_t state)
{
    struct synth_tiles format;
    uint8_t *tiles = mem_alloc(quant_tile_bytes(type, ROWS, COLS), 1);
    synth_tiles_init(&format, type, deviation);
    for (uint64_t tile = 0; tile < TILES; tile++)
        synth_tiles_fill(&format, state, ROWS, COLS, tile,
                         tiles + tile * quant_tile_bytes(type, QUANT_TILE_ROWS, COLS));
    return tiles;
}

// A NaN would spread through the whole network; weights of another size would overflow it or let it die out, and the
// router would then choose the same experts for every token.
static void test_values(void **state)
{
    (void)state;
    static const double deviations[] = {0.00553, 0.0221, 0.98, 50};
    float values[COLS];
    for (enum quant_type type = 0; type < QUANT_TYPE_COUNT; type++) {
        for (size_t d = 0; d < sizeof deviations / sizeof *deviations; d++) {
            double sum = 0, square_sum = 0;
            uint8_t *tiles = make(type, deviations[d], 99);
            for (uint64_t row = 0; row < ROWS; row++) {
                quant_tile_decode_row(type, tiles, ROWS, COLS, row, values);
                for (uint32_t i = 0; i < COLS; i++) {
                    assert_true(isfinite(values[i]));
                    sum += (double)values[i] / deviations[d];
                    square_sum += pow((double)values[i] / deviations[d], 2);
                }
            }
            assert_true(fabs(sum / (ROWS * COLS)) < 0.02);
            assert_true(fabs(sqrt(square_sum / (ROWS * COLS)) - 1) < 0.06);
            mem_free(tiles);
        }
    }
}

// Kernels compute rows that do not exist along with the others; what they read there must be zeros.
static void test_missing_rows(void **state)
{
    (void)state;
    for (enum quant_type type = 0; type < QUANT_TYPE_COUNT; type++) {
        uint64_t bytes = quant_tile_bytes(type, ROWS, COLS), row_bytes = quant_row_bytes(type, COLS);
        uint8_t *tiles = make(type, 0.1, 7), *again = mem_alloc(bytes, 1), *rows = mem_alloc(ROWS, row_bytes);
        assert_int_equal(quant_tile_unpack(type, tiles, ROWS, COLS, rows), SLUICE_OK);
        assert_int_equal(quant_tile_pack(type, rows, ROWS, COLS, again), SLUICE_OK);
        assert_memory_equal(tiles, again, bytes);
        mem_free(tiles);
        mem_free(again);
        mem_free(rows);
    }
}

// Experts that are equal would be found in each other's place, and a mix-up of slots would go unnoticed.
static void test_states_differ(void **state)
{
    (void)state;
    for (enum quant_type type = 0; type < QUANT_TYPE_COUNT; type++) {
        uint64_t tile_bytes = quant_tile_bytes(type, QUANT_TILE_ROWS, COLS);
        uint8_t *a = make(type, 0.1, 7), *same = make(type, 0.1, 7), *other = make(type, 0.1, 8);
        assert_memory_equal(a, same, TILES * tile_bytes);
        assert_memory_not_equal(a, other, tile_bytes);
        assert_memory_not_equal(a, a + tile_bytes, tile_bytes);
        mem_free(a);
        mem_free(same);
        mem_free(other);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_missing_rows),
        cmocka_unit_test(test_states_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
