#include <float.h>

#include "quant/halffloat.h"
#include "quant_fixture.h"

enum { VECTOR_COLS = 1024, VECTOR_ROWS = 24, DECODED_ROWS = 4, RANDOM_ROWS = 6 };

static void assert_bits_equal(const float *a, const float *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (isnan(a[i]) && isnan(b[i]))
            continue;
        if (f32_bits(a[i]) != f32_bits(b[i]))
            fail_msg("value %zu is %a, ggml has %a", i, (double)a[i], (double)b[i]);
    }
}

static void check_decoding(int type, const char *blocks_name, const char *decoded_name, size_t rows)
{
    uint8_t *blocks = vectors_read(format_name(type), blocks_name);
    float *wanted = vectors_read(format_name(type), decoded_name);
    float values[VECTOR_COLS];
    size_t row_bytes = quant_row_bytes((enum quant_type)type, VECTOR_COLS);
    for (size_t row = 0; row < rows; row++) {
        quant_decode_row((enum quant_type)type, blocks + row * row_bytes, VECTOR_COLS, values);
        assert_bits_equal(values, wanted + row * VECTOR_COLS, VECTOR_COLS);
    }
    free(wanted);
    free(blocks);
}

// Weights taken over from a GGUF file would have other values than in every other program.
static void decoding_is_bit_equal_to_ggml(void **state)
{
    (void)state;
    for (int type = QUANT_Q8_0; type < QUANT_TYPE_COUNT; type++) {
        check_decoding(type, "blocks", "decoded", DECODED_ROWS);
        check_decoding(type, "random_blocks", "random_decoded", RANDOM_ROWS);
    }
}

// File sizes computed from the table would be wrong, and with them every offset in a container.
static void row_bytes_follow_the_table(void **state)
{
    (void)state;
    static const uint64_t bytes_of_256[QUANT_TYPE_COUNT] = {1024, 512, 512, 272, 144, 176, 210};
    for (int type = 0; type < QUANT_TYPE_COUNT; type++) {
        enum quant_type t = (enum quant_type)type;
        assert_int_equal(quant_row_bytes(t, 256), bytes_of_256[type]);
        assert_int_equal(quant_row_bytes(t, 0), 0);
        assert_int_equal(quant_row_bytes(t, 256 * 7), 7 * bytes_of_256[type]);
        assert_int_equal(quant_row_bytes(t, 255), t <= QUANT_BF16 ? 255 * bytes_of_256[type] / 256 : 0);
    }
    assert_int_equal(quant_row_bytes(QUANT_F32, UINT64_MAX - 3), 0);
    assert_int_equal(quant_row_bytes((enum quant_type)99, 256), 0);
    assert_null(quant_format_get((enum quant_type)99));
    assert_null(quant_format_get((enum quant_type) - 1));
}

// A mistyped --type would be taken for another one, or refused without saying what is possible.
static void names_are_found_exactly(void **state)
{
    (void)state;
    enum quant_type type;
    for (int i = 0; i < QUANT_TYPE_COUNT; i++) {
        assert_int_equal(quant_type_from_name(format_name(i), &type), SLUICE_OK);
        assert_int_equal(type, i);
    }
    assert_int_equal(quant_type_from_name("q4_K", &type), SLUICE_ERR_ARGUMENT);
    assert_non_null(strstr(error_message(), "f32, f16, bf16, q8_0, q4_k, q5_k, q6_k"));
}

// Every checkpoint is bf16 and every scale f16: a conversion that is off by one rounds all weights wrongly.
static void halves_convert_exactly_and_round_to_even(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits <= 0xFFFF; bits++) {
        float f16 = f32_from_f16((uint16_t)bits), bf16 = f32_from_bf16((uint16_t)bits);
        if (isnan(f16))
            assert_true(isnan(f32_from_f16(f16_from_f32(f16))));
        else
            assert_int_equal(f16_from_f32(f16), bits);
        if (isnan(bf16))
            assert_true(isnan(f32_from_bf16(bf16_from_f32(bf16))));
        else
            assert_int_equal(bf16_from_f32(bf16), bits);
    }
    for (uint32_t bits = 0; bits < 0x7BFF; bits++) { // halfway points go to the even neighbour, others to the nearer
        float low = f32_from_f16((uint16_t)bits), high = f32_from_f16((uint16_t)(bits + 1));
        float middle = low + (high - low) / 2;
        assert_int_equal(f16_from_f32(middle), bits + (bits & 1));
        assert_int_equal(f16_from_f32(nextafterf(middle, 0)), bits);
        assert_int_equal(f16_from_f32(nextafterf(middle, INFINITY)), bits + 1);
        assert_int_equal(f16_from_f32(-middle), 0x8000 | (bits + (bits & 1)));
    }
    assert_int_equal(f16_from_f32(65519.996f), 0x7BFF);
    assert_int_equal(f16_from_f32(65520.0f), 0x7C00);
    assert_int_equal(f16_from_f32(0x1p-25f), 0);
    assert_int_equal(f16_from_f32(0x1.000002p-25f), 1);
    assert_int_equal(bf16_from_f32(0x1.01p0f), 0x3F80);
    assert_int_equal(bf16_from_f32(0x1.03p0f), 0x3F82);
    assert_int_equal(bf16_from_f32(FLT_MAX), 0x7F80);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_is_bit_equal_to_ggml),
        cmocka_unit_test(row_bytes_follow_the_table),
        cmocka_unit_test(names_are_found_exactly),
        cmocka_unit_test(halves_convert_exactly_and_round_to_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
