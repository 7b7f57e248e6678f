#include "tests/kernel/matrix_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/tile.h"

static void expect_embed(enum quant_type type, enum weight_kind kind, uint32_t cols, bool parts)
{
    static const uint32_t ids[] = {0, 31, 32, 99, 64, 63, 32, 1, 65};
    enum { N = sizeof ids / sizeof *ids, ROWS = 100 };
    uint64_t seed = cols + (unsigned)type;
    struct matrix m;
    matrix_make(&m, &seed, type, kind, ROWS, cols);
    if (parts)
        matrix_split(&m, (const uint32_t[]){32, 32}, 3);
    struct gpu_range y = buffer_output(4ull * N * cols);
    struct gpu_command *cmd = command_open();
    op_embed_rows(mixer_ops, cmd, &m.tensor, buffer_bytes(ids, sizeof ids), N, y);
    command_run(cmd);
    float *want = malloc(cols * sizeof *want);
    for (size_t i = 0; i < N; i++) {
        quant_tile_decode_row(type, m.tiles, ROWS, cols, ids[i], want);
        for (size_t c = 0; c < cols; c++)
            if (!(buffer_data(y)[i * cols + c] == want[c]))
                fail_msg("%s: id %u, column %zu is %.9g, expected %.9g", quant_format_get(type)->name, ids[i], c,
                         (double)buffer_data(y)[i * cols + c], (double)want[c]);
    }
    free(want);
    matrix_free(&m);
    buffers_release();
}

static void embedded_rows_are_the_decoded_rows(void **state)
{
    // This is also the exact check of every format's decoder in the kernels: each weight, to the last bit.
    (void)state;
    for (int type = 0; type < QUANT_TYPE_COUNT; type++) {
        uint32_t step = quant_tile_step_cols((enum quant_type)type);
        for (int kind = 0; kind < WEIGHT_KIND_COUNT; kind++)
            expect_embed((enum quant_type)type, (enum weight_kind)kind, 3 * step, false);
        expect_embed((enum quant_type)type, WEIGHTS_RANDOM, 17 * step, true);
    }
}

static void expect_quantize(uint32_t n, uint32_t cols, float magnitude, float outlier)
{
    uint64_t seed = n + cols;
    struct activations x = activations_make(&seed, n, cols, outlier, true);
    size_t count = (size_t)n * cols;
    for (size_t i = 0; i < count; i++)
        buffer_data(x.f32)[i] *= magnitude;
    activations_quantize(&x);
    int8_t *q = malloc(count);
    double *scales = malloc(count / 16 * sizeof *scales);
    ref_quantize_q8(buffer_data(x.f32), count, q, scales);
    const int8_t *got = (const int8_t *)buffer_data(x.q8);
    for (size_t i = 0; i < count; i++) { // a quotient next to a half may fall to either side
        double quotient = scales[i / 32 * 2] > 0 ? (double)buffer_data(x.f32)[i] / scales[i / 32 * 2] : 0;
        assert_true(got[i] == q[i] || fabs(fabs(quotient - got[i]) - 0.5) < 1e-4);
    }
    for (size_t i = 0; i < count / 32; i++) {
        double d = (double)buffer_data(x.q8_scales)[2 * i], sum = 0;
        for (size_t j = 0; j < 32; j++)
            sum += got[32 * i + j];
        assert_true(fabs(d - scales[2 * i]) <= 1e-6 * d);
        assert_true(fabs((double)buffer_data(x.q8_scales)[2 * i + 1] - d * sum) <= 1e-6 * fabs(d * sum));
    }
    free(q);
    free(scales);
    buffers_release();
}

static void activations_are_rounded_to_nearest(void **state)
{
    // All integer kernels read this form: a wrong sum shifts every product with q4_k and q5_k weights.
    (void)state;
    expect_quantize(1, 32, 1, 0);
    expect_quantize(3, 2048, 1, 0);
    expect_quantize(2, 96, 1e20f, 1e10f);
    expect_quantize(2, 96, 1e-30f, 0);
    expect_quantize(2, 96, 0, 0);
    expect_quantize(33, 512, 1, -5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        mixer_unit_test(embedded_rows_are_the_decoded_rows),
        mixer_unit_test(activations_are_rounded_to_nearest),
    };
    return cmocka_run_group_tests(tests, mixer_group_setup, mixer_group_teardown);
}
