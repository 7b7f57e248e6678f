#include <float.h>

#include "quant_fixture.h"

enum { COLS = 1024, ROWS = 24, GAUSS_ROWS = 8 };

static double encode_nrmse(int type, const float *values, const float *importance, size_t cols, float *decoded)
{
    uint8_t blocks[4 * COLS];
    assert_true(cols <= COLS);
    assert_int_equal(quant_encode_row((enum quant_type)type, values, importance, cols, blocks), SLUICE_OK);
    quant_decode_row((enum quant_type)type, blocks, cols, decoded);
    return nrmse(values, decoded, cols);
}

// Converted models would be worse than those of llama.cpp, at the same size.
static void gaussian_rows_cost_less_than_with_ggml(void **state)
{
    (void)state;
    static const double ggml[QUANT_TYPE_COUNT] = {
        [QUANT_Q8_0] = 0.005387, [QUANT_Q4_K] = 0.070732, [QUANT_Q5_K] = 0.035850, [QUANT_Q6_K] = 0.017657};
    enum { COUNT = 256 };
    uint64_t seed = 1;
    float values[COLS], decoded[COLS];
    for (int type = 0; type < QUANT_TYPE_COUNT; type++) {
        double error = 0;
        for (int row = 0; row < COUNT; row++) {
            for (int i = 0; i < COLS; i++)
                values[i] = 0.02f * random_gauss(&seed);
            double e = encode_nrmse(type, values, NULL, COLS, decoded);
            error += e * e / COUNT;
        }
        error = sqrt(error);
        print_message("%-5s nrmse %.6f\n", format_name(type), error);
        assert_true(error <= (double)quant_format_get((enum quant_type)type)->nrmse);
        if (type >= QUANT_Q8_0)
            assert_true(error < 0.99 * ggml[type]);
    }
}

// Some kind of row (heavy tails, one sign, constant, tiny, outliers) would lose more than with ggml.
static void no_row_is_encoded_worse_than_by_ggml(void **state)
{
    (void)state;
    float *rows = vectors_read(NULL, "rows");
    for (int type = QUANT_Q8_0; type < QUANT_TYPE_COUNT; type++) {
        uint8_t *blocks = vectors_read(format_name(type), "blocks");
        for (size_t row = 0; row < ROWS; row++) {
            float ours[COLS], theirs[COLS];
            double error = encode_nrmse(type, rows + COLS * row, NULL, COLS, ours);
            quant_decode_row((enum quant_type)type, blocks + row * quant_row_bytes((enum quant_type)type, COLS), COLS,
                             theirs);
            double error_ggml = nrmse(rows + COLS * row, theirs, COLS);
            if (error > error_ggml * 1.0001 + 1e-9)
                fail_msg("%s row %zu: %.6f, ggml %.6f", format_name(type), row, error, error_ggml);
        }
        free(blocks);
    }
    free(rows);
}

// An importance matrix would be read and then have no effect, or make the important columns worse.
static void importance_moves_the_error_away(void **state)
{
    (void)state;
    uint64_t seed = 3;
    float values[COLS], importance[COLS], plain[COLS], weighted[COLS];
    for (int i = 0; i < COLS; i++) {
        values[i] = random_gauss(&seed);
        importance[i] = i % 4 == 0 ? 100.0f : 1.0f;
    }
    for (int type = QUANT_Q4_K; type < QUANT_TYPE_COUNT; type++) {
        encode_nrmse(type, values, NULL, COLS, plain);
        encode_nrmse(type, values, importance, COLS, weighted);
        double error_plain = 0, error_weighted = 0;
        for (int i = 0; i < COLS; i += 4) {
            error_plain += pow((double)(values[i] - plain[i]), 2);
            error_weighted += pow((double)(values[i] - weighted[i]), 2);
        }
        assert_true(error_weighted < 0.8 * error_plain);
    }
}

// An importance matrix of a layer that never fired, or of enormous numbers, would make NaN weights.
static void extreme_importance_is_harmless(void **state)
{
    (void)state;
    uint64_t seed = 4;
    float values[COLS], importance[COLS], plain[COLS], weighted[COLS];
    for (int i = 0; i < COLS; i++)
        values[i] = random_gauss(&seed);
    static const float levels[] = {0.0f, 1e-38f, 1.0f, 1e38f};
    for (int type = QUANT_Q4_K; type < QUANT_TYPE_COUNT; type++) {
        double error = encode_nrmse(type, values, NULL, COLS, plain);
        for (size_t k = 0; k < sizeof levels / sizeof levels[0]; k++) {
            for (int i = 0; i < COLS; i++)
                importance[i] = levels[k];
            assert_true(encode_nrmse(type, values, importance, COLS, weighted) < error * 1.001);
        }
        for (int i = 0; i < COLS; i++) // whole sub-blocks without importance still decode to something near
            importance[i] = i % 256 < 128 ? 1.0f : 0.0f;
        assert_true(encode_nrmse(type, values, importance, COLS, weighted) < 2 * error);
    }
    importance[17] = -1.0f;
    uint8_t blocks[COLS];
    assert_int_equal(quant_encode_row(QUANT_Q4_K, values, importance, COLS, blocks), SLUICE_ERR_ARGUMENT);
    importance[17] = NAN;
    assert_int_equal(quant_encode_row(QUANT_Q4_K, values, importance, COLS, blocks), SLUICE_ERR_ARGUMENT);
    assert_non_null(strstr(error_message(), "17"));
}

// A damaged checkpoint would be converted without a word and the model would say nonsense.
static void numbers_that_are_none_are_refused(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    float values[256] = {0};
    uint8_t blocks[1024];
    for (int type = 0; type < QUANT_TYPE_COUNT; type++) {
        for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
            values[200] = bad[k];
            assert_int_equal(quant_encode_row((enum quant_type)type, values, NULL, 256, blocks), SLUICE_ERR_FORMAT);
            assert_non_null(strstr(error_message(), "element 200"));
        }
        values[200] = 0;
        assert_int_equal(quant_encode_row((enum quant_type)type, values, NULL, 0, blocks), SLUICE_ERR_ARGUMENT);
        if (type >= QUANT_Q8_0)
            assert_int_equal(quant_encode_row((enum quant_type)type, values, NULL, 255, blocks), SLUICE_ERR_ARGUMENT);
    }
}

// The largest allowed value would overflow a scale to infinity; a larger one would be clipped silently.
static void values_up_to_the_limit_encode_and_larger_ones_are_refused(void **state)
{
    (void)state;
    float values[256] = {0}, decoded[256];
    uint8_t blocks[1024];
    for (int type = 0; type < QUANT_TYPE_COUNT; type++) {
        float limit = quant_format_get((enum quant_type)type)->value_max;
        for (int sign = -1; sign <= 1; sign += 2) {
            values[3] = (float)sign * limit;
            values[100] = 0.5f * limit;
            double error = encode_nrmse(type, values, NULL, 256, decoded);
            if (error > 0.01)
                fail_msg("%s: error %g at %g", format_name(type), error, (double)values[3]);
        }
        values[3] = nextafterf(limit, INFINITY);
        assert_int_equal(quant_encode_row((enum quant_type)type, values, NULL, 256, blocks), SLUICE_ERR_FORMAT);
        values[3] = 0;
    }
}

// Rows of zeros (padding, dead experts) or of one number would decode to noise or NaN.
static void constant_rows_stay_constant(void **state)
{
    (void)state;
    static const float constants[] = {0.0f, -0.0f, 0.01f, -0.01f, 1.0f, -3.0f, 1000.0f, -1000.0f};
    float values[256], decoded[256];
    for (int type = 0; type < QUANT_TYPE_COUNT; type++) {
        for (size_t k = 0; k < sizeof constants / sizeof constants[0]; k++) {
            for (int i = 0; i < 256; i++)
                values[i] = constants[k];
            double error = encode_nrmse(type, values, NULL, 256, decoded);
            if (constants[k] == 0.0f ? error != 0 : error > 0.004)
                fail_msg("%s: constant %g has error %g", format_name(type), (double)constants[k], error);
        }
    }
}

// Values near or below the smallest f16 would become NaN, infinite or far too large.
static void tiny_values_round_to_the_nearest_step(void **state)
{
    (void)state;
    uint64_t seed = 5;
    float values[256], decoded[256];
    for (int type = QUANT_Q8_0; type < QUANT_TYPE_COUNT; type++) {
        for (int exponent = -149; exponent < -8; exponent++) {
            for (int i = 0; i < 256; i++)
                values[i] = ldexpf(random_gauss(&seed), exponent);
            encode_nrmse(type, values, NULL, 256, decoded);
            for (int i = 0; i < 256; i++) { // at most a quarter of the magnitude, or one f16 step where that is coarser
                float allowed = ldexpf(1.0f, exponent) * 0.5f + 0x1p-24f;
                if (!(fabsf(values[i] - decoded[i]) <= allowed))
                    fail_msg("%s: %a became %a", format_name(type), (double)values[i], (double)decoded[i]);
            }
        }
    }
}

// Two conversions of the same checkpoint would differ, so checksums could not be compared.
static void blocks_depend_on_their_own_values_only(void **state)
{
    (void)state;
    uint64_t seed = 6;
    float values[COLS];
    uint8_t together[4 * COLS], alone[4 * COLS];
    for (int i = 0; i < COLS; i++)
        values[i] = random_gauss(&seed);
    for (int type = 0; type < QUANT_TYPE_COUNT; type++) {
        enum quant_type t = (enum quant_type)type;
        assert_int_equal(quant_encode_row(t, values, NULL, COLS, together), SLUICE_OK);
        for (size_t first = 0; first < COLS; first += 256)
            assert_int_equal(
                quant_encode_row(t, values + first, NULL, 256, alone + first / 256 * quant_row_bytes(t, 256)),
                SLUICE_OK);
        assert_memory_equal(together, alone, quant_row_bytes(t, COLS));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gaussian_rows_cost_less_than_with_ggml),
        cmocka_unit_test(no_row_is_encoded_worse_than_by_ggml),
        cmocka_unit_test(importance_moves_the_error_away),
        cmocka_unit_test(extreme_importance_is_harmless),
        cmocka_unit_test(numbers_that_are_none_are_refused),
        cmocka_unit_test(values_up_to_the_limit_encode_and_larger_ones_are_refused),
        cmocka_unit_test(constant_rows_stay_constant),
        cmocka_unit_test(tiny_values_round_to_the_nearest_step),
        cmocka_unit_test(blocks_depend_on_their_own_values_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
