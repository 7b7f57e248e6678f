// The integer kernels give the same bits on every driver: digests of their results, written down once.
#include "tests/kernel/matrix_fixture.h"

#include <string.h>
#include <xxhash.h>

#include "runtime/ops/ops_internal.h"

enum { ROWS = 97, COLS = 2048, COLUMNS = 11 };

// Of y = W x [COLUMNS, ROWS] with x rounded to 8 bits, and of that x. They change only if the arithmetic is changed on
// purpose: then take the new ones from the message, after comparing drivers.
struct expected {
    enum quant_type type;
    uint64_t product, rounded;
};

static uint64_t digest(struct gpu_range range, size_t bytes)
{
    return XXH3_64bits(buffer_data(range), bytes);
}

static void expect_digest(const char *what, enum quant_type type, uint64_t got, uint64_t wanted)
{
    if (got != wanted)
        fail_msg("%s, %s: the digest is 0x%016llx instead of 0x%016llx", quant_format_get(type)->name, what,
                 (unsigned long long)got, (unsigned long long)wanted);
}

static void check_digest(struct ops *ops, const struct expected *e)
{
    uint64_t seed = 100u + (unsigned)e->type;
    struct matrix m;
    matrix_make(&m, &seed, e->type, WEIGHTS_RANDOM, ROWS, COLS);
    struct activations x = activations_make(&seed, COLUMNS, COLS, 3, true);
    activations_quantize(&x);
    uint64_t rounded = digest(x.q8, (size_t)COLUMNS * COLS) ^ digest(x.q8_scales, (size_t)COLUMNS * COLS / 32 * 8);
    struct gpu_range y = matmul_run(ops, &m.tensor, &x);
    expect_digest("rounded activations", e->type, rounded, e->rounded);
    expect_digest("product", e->type, digest(y, 4ull * COLUMNS * ROWS), e->product);
    matrix_free(&m);
    buffers_release();
}

static const struct expected expected[] = {
    {QUANT_Q8_0, 0x2438d02a5594c124, 0xa0cc7404a1ed98e1},
    {QUANT_Q4_K, 0x51fe2d555c8b955a, 0xb50824bd0edd54f3},
    {QUANT_Q5_K, 0x71b922df9f6a4c55, 0x5ea7d281e753f88e},
    {QUANT_Q6_K, 0x8aa86d4d237c5e5f, 0x8b70d04412c38dc3},
};

static void integer_kernels_give_the_same_bits_on_every_driver(void **state)
{
    // The same model and question would get other answers after an update of the graphics driver.
    (void)state;
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        check_digest(mixer_ops, &expected[i]);
}

static void integer_kernels_give_the_same_bits_in_a_gpus_variant(void **state)
{
    // What a GPU runs is specialised otherwise than what a software driver runs.
    (void)state;
    struct ops ops = *mixer_ops;
    ops.tuning.matmul = (struct matmul_tuning){
        .lanes = 64, .rows_per_lane = 1, .columns = {{{4}}, {{8}}}, .integer_dot = true, .unrolled = true};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        check_digest(&ops, &expected[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        mixer_unit_test(integer_kernels_give_the_same_bits_on_every_driver),
        mixer_unit_test(integer_kernels_give_the_same_bits_in_a_gpus_variant),
    };
    return cmocka_run_group_tests(tests, mixer_group_setup, mixer_group_teardown);
}
