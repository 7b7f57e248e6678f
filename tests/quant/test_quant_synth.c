#include "quant/synth.h"
#include "quant_fixture.h"

enum { HIDDEN = 2048 };

struct known {
    const char *name;
    uint64_t seed;
    uint32_t rank;
    uint64_t shape[3];
    uint16_t bits[4]; // elements 0, 1, n/2, n-1, computed with the Python definition
};

static const struct known known_values[] = {
    {"model.layers.0.linear_attn.A_log", 1, 1, {32}, {0xC032, 0xBFCF, 0x3F99, 0x3F76}},
    {"model.layers.0.linear_attn.dt_bias", 1, 1, {32}, {0x3F3B, 0xBFF5, 0xBFF4, 0xC030}},
    {"model.layers.1.linear_attn.norm.weight", 1, 1, {128}, {0x3F47, 0x3F74, 0x3FA5, 0x3F1D}},
    {"model.layers.3.self_attn.q_norm.weight", 1, 1, {256}, {0xBDE8, 0xBE1C, 0xBDB1, 0xBEA5}},
    {"model.norm.weight", 1, 1, {2048}, {0x3D71, 0x3E15, 0x3D03, 0xBD15}},
    {"model.layers.2.linear_attn.conv1d.weight", 1, 3, {8192, 1, 4}, {0x3EE2, 0x3EB6, 0xBEA6, 0xBF1D}},
    {"model.embed_tokens.weight", 1, 2, {151936, 2048}, {0xBF0B, 0x3FBD, 0x3F91, 0x3F6D}},
    {"model.layers.47.mlp.gate.weight", 1, 2, {512, 2048}, {0xBDA2, 0x3D13, 0x3CD8, 0x3CD5}},
    {"model.layers.5.mlp.experts.511.down_proj.weight", 1, 2, {2048, 512}, {0xBD39, 0x3B98, 0x3D77, 0x3D9A}},
    {"lm_head.weight", 1, 2, {151936, 2048}, {0x3CC7, 0xBBBF, 0xBC0D, 0x3C33}},
    {"x", 0x8000000000000005u, 1, {3}, {0x3E0C, 0xBD63, 0xBD63, 0xBE1D}},
};

// Synthetic checkpoints would not be those whose results Transformers computed, so no golden test could pass.
static void values_are_those_of_the_python_definition(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof known_values / sizeof known_values[0]; k++) {
        const struct known *known = &known_values[k];
        uint64_t elements = 1;
        for (uint32_t i = 0; i < known->rank; i++)
            elements *= known->shape[i];
        const uint64_t index[4] = {0, 1, elements / 2, elements - 1};
        for (int i = 0; i < 4; i++) {
            uint16_t bits = 0;
            assert_int_equal(
                synth_fill_bf16(known->name, known->rank, known->shape, HIDDEN, known->seed, index[i], 1, &bits),
                SLUICE_OK);
            if (bits != known->bits[i])
                fail_msg("%s[%llu] is 0x%04X, not 0x%04X", known->name, (unsigned long long)index[i], bits,
                         known->bits[i]);
        }
    }
}

// A checkpoint written in pieces would differ from one written at once.
static void pieces_equal_the_whole(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    static const uint64_t shape[2] = {10, 100};
    uint16_t whole[COUNT], pieces[COUNT];
    assert_int_equal(synth_fill_bf16("a.weight", 2, shape, 64, 9, 0, COUNT, whole), SLUICE_OK);
    for (uint64_t first = 0, count = 1; first < COUNT; first += count, count = count * 2 + 1) {
        uint64_t now = count < COUNT - first ? count : COUNT - first;
        assert_int_equal(synth_fill_bf16("a.weight", 2, shape, 64, 9, first, now, pieces + first), SLUICE_OK);
    }
    assert_memory_equal(whole, pieces, sizeof whole);
}

// A wrong index computation elsewhere would write beyond a buffer or make values that belong to no tensor.
static void ranges_outside_the_shape_are_refused(void **state)
{
    (void)state;
    static const uint64_t shape[2] = {2, 3}, zero[2] = {2, 0}, huge[2] = {UINT64_MAX, 2};
    uint16_t out[8];
    assert_int_equal(synth_fill_bf16("a", 2, shape, 8, 1, 5, 2, out), SLUICE_ERR_ARGUMENT);
    assert_int_equal(synth_fill_bf16("a", 2, shape, 8, 1, 7, 0, out), SLUICE_ERR_ARGUMENT);
    assert_int_equal(synth_fill_bf16("a", 2, shape, 8, 1, UINT64_MAX, 2, out), SLUICE_ERR_ARGUMENT);
    assert_int_equal(synth_fill_bf16("a", 2, zero, 8, 1, 0, 0, out), SLUICE_ERR_ARGUMENT);
    assert_int_equal(synth_fill_bf16("a", 2, huge, 8, 1, 0, 1, out), SLUICE_ERR_ARGUMENT);
    assert_int_equal(synth_fill_bf16("a", 0, shape, 8, 1, 0, 1, out), SLUICE_ERR_ARGUMENT);
    assert_int_equal(synth_fill_bf16("a", 2, shape, 0, 1, 0, 1, out), SLUICE_ERR_ARGUMENT);
    assert_int_equal(synth_fill_bf16("a", 2, shape, 8, 1, 6, 0, out), SLUICE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_those_of_the_python_definition),
        cmocka_unit_test(pieces_equal_the_whole),
        cmocka_unit_test(ranges_outside_the_shape_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
