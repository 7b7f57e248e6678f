// The inventory of tensors and the number formats that a recipe gives them.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "quant/tile.h"
#include "runtime/base/mem.h"
#include "runtime/model/layout.h"
#include "tests/model/config_case.h"

// The published checkpoint has 74,391 tensors and 79,674,391,296 parameters; another count means that something is
// left out, or that complete downloads are refused.
static void test_published_counts(void **state)
{
    (void)state;
    struct model_layout *layout = config_case_layout("published-80b");
    uint64_t parameters = 0, experts = 0;
    struct model_source source;
    assert_int_equal(layout->source_count, 74391);
    for (size_t i = 0; i < layout->source_count; i++) {
        model_layout_source(layout, i, &source);
        parameters += model_source_elements(&source);
        if (i >= layout->trunk_source_count)
            experts += model_source_elements(&source);
    }
    assert_true(parameters == UINT64_C(79674391296));
    assert_true(experts == UINT64_C(48) * 512 * 3 * 2048 * 512);
    model_layout_destroy(layout);
}

struct shape_case {
    const char *name;
    uint32_t rank;
    uint64_t shape[3];
};

static const struct shape_case shapes[] = {
    {"model.embed_tokens.weight", 2, {151936, 2048}},
    {"lm_head.weight", 2, {151936, 2048}},
    {"model.norm.weight", 1, {2048}},
    {"model.layers.0.linear_attn.in_proj_qkvz.weight", 2, {12288, 2048}},
    {"model.layers.0.linear_attn.in_proj_ba.weight", 2, {64, 2048}},
    {"model.layers.0.linear_attn.conv1d.weight", 3, {8192, 1, 4}},
    {"model.layers.0.linear_attn.A_log", 1, {32}},
    {"model.layers.0.linear_attn.dt_bias", 1, {32}},
    {"model.layers.0.linear_attn.norm.weight", 1, {128}},
    {"model.layers.0.linear_attn.out_proj.weight", 2, {2048, 4096}},
    {"model.layers.47.self_attn.q_proj.weight", 2, {8192, 2048}},
    {"model.layers.47.self_attn.k_proj.weight", 2, {512, 2048}},
    {"model.layers.47.self_attn.o_proj.weight", 2, {2048, 4096}},
    {"model.layers.47.self_attn.k_norm.weight", 1, {256}},
    {"model.layers.47.mlp.gate.weight", 2, {512, 2048}},
    {"model.layers.47.mlp.shared_expert_gate.weight", 2, {1, 2048}},
    {"model.layers.47.mlp.shared_expert.down_proj.weight", 2, {2048, 512}},
    {"model.layers.47.mlp.shared_expert.up_proj.weight", 2, {512, 2048}},
    {"model.layers.47.mlp.experts.511.gate_proj.weight", 2, {512, 2048}},
    {"model.layers.47.mlp.experts.511.down_proj.weight", 2, {2048, 512}},
};

// A complete checkpoint would be refused for a shape that is right.
static void test_published_shapes(void **state)
{
    (void)state;
    struct model_layout *layout = config_case_layout("published-80b");
    struct model_source source;
    size_t found = 0;
    for (size_t i = 0; i < layout->source_count; i++) {
        model_layout_source(layout, i, &source);
        for (size_t j = 0; j < sizeof shapes / sizeof *shapes; j++) {
            if (strcmp(source.name, shapes[j].name) != 0)
                continue;
            assert_int_equal(source.rank, shapes[j].rank);
            assert_memory_equal(source.shape, shapes[j].shape, sizeof source.shape);
            found++;
        }
    }
    assert_int_equal(found, sizeof shapes / sizeof *shapes);
    model_layout_destroy(layout);
}

// Budgets and the prediction of speed rest on the size of an expert: 432 pages at 4.5 bits per weight.
static void test_expert_record(void **state)
{
    (void)state;
    struct model_layout *layout = config_case_layout("published-80b");
    struct model_recipe recipe = model_recipe_default(QUANT_Q4_K);
    struct model_expert_layout e = model_expert_layout(&layout->config, &recipe);
    assert_int_equal(recipe.trunk, QUANT_Q8_0);
    assert_int_equal(e.gate_up_bytes, 1179648);
    assert_int_equal(e.down_offset, 1179648);
    assert_int_equal(e.record_bytes, 1769472);
    recipe = model_recipe_default(QUANT_BF16);
    assert_int_equal(recipe.trunk, QUANT_BF16);
    assert_int_equal(model_expert_layout(&layout->config, &recipe).record_bytes, 3 * 512 * 2048 * 2);
    model_layout_destroy(layout);
}

static uint64_t trunk_bytes(const struct model_layout *layout, const struct model_recipe *recipe)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < layout->tensor_count; i++) {
        const struct model_tensor *t = &layout->tensors[i];
        bytes += model_tensor_bytes(t, model_tensor_type(t, recipe, QUANT_BF16));
    }
    return bytes;
}

// The trunk is promised to fit a 16 GB card beside the expert slots.
static void test_trunk_bytes(void **state)
{
    (void)state;
    struct model_layout *layout = config_case_layout("published-80b");
    struct model_recipe recipe = model_recipe_default(QUANT_Q4_K);
    uint64_t q8 = trunk_bytes(layout, &recipe);
    assert_true(q8 > UINT64_C(2500000000) && q8 < UINT64_C(2600000000));
    recipe.trunk = QUANT_Q4_K;
    assert_true(trunk_bytes(layout, &recipe) < q8 * 6 / 10);
    model_layout_destroy(layout);
}

// Small or odd models would not convert at all, or with a format that cannot hold their rows.
static void test_fallback(void **state)
{
    (void)state;
    assert_int_equal(model_type_for_cols(QUANT_Q4_K, 2048), QUANT_Q4_K);
    assert_int_equal(model_type_for_cols(QUANT_Q4_K, 64), QUANT_Q8_0);
    assert_int_equal(model_type_for_cols(QUANT_Q6_K, 48), QUANT_BF16);
    assert_int_equal(model_type_for_cols(QUANT_Q8_0, 48), QUANT_BF16);
    assert_int_equal(model_type_for_cols(QUANT_F32, 7), QUANT_F32);
}

// Experts would be chosen by a rounded router, and answers would differ from the original model's.
static void test_kept_in_float(void **state)
{
    (void)state;
    struct model_layout *layout = config_case_layout("mixed");
    struct model_recipe recipe = model_recipe_default(QUANT_Q4_K);
    int kept = 0;
    for (size_t i = 0; i < layout->tensor_count; i++) {
        const struct model_tensor *t = &layout->tensors[i];
        enum quant_type type = model_tensor_type(t, &recipe, QUANT_F16);
        bool wanted = strstr(t->name, "mlp.gate.weight") || strstr(t->name, "shared_expert_gate") ||
                      strstr(t->name, "in_proj_ba");
        assert_int_equal(t->keep_float, wanted);
        assert_int_equal(type, t->kind == MODEL_TENSOR_PLAIN ? QUANT_F32 : wanted ? QUANT_F16 : QUANT_Q8_0);
        kept += wanted;
    }
    assert_int_equal(kept, 2 * 2 + 2); // router and shared gate of two layers, ba of two DeltaNet layers
    model_layout_destroy(layout);
}

static const struct model_tensor *find(const struct model_layout *layout, const char *name)
{
    for (size_t i = 0; i < layout->tensor_count; i++)
        if (strcmp(layout->tensors[i].name, name) == 0)
            return &layout->tensors[i];
    return NULL;
}

// Kernels read gate and up as alternating row tiles: the directory must state the padded rows.
static void test_pairs(void **state)
{
    (void)state;
    struct model_layout *layout = config_case_layout("tiny");
    const struct model_tensor *pair = find(layout, "model.layers.0.mlp.shared_expert.gate_up_proj.weight");
    assert_non_null(pair);
    assert_int_equal(pair->kind, MODEL_TENSOR_PAIR);
    assert_int_equal(pair->rows, 48);
    assert_int_equal(model_tensor_stored_rows(pair), 128);
    assert_int_equal(model_tensor_bytes(pair, QUANT_Q8_0), 2 * quant_tile_bytes(QUANT_Q8_0, 48, 64));
    assert_string_equal(pair->sources[1].name, "model.layers.0.mlp.shared_expert.up_proj.weight");
    model_layout_destroy(layout);
    layout = config_case_layout("mixed");
    assert_non_null(find(layout, "model.layers.1.mlp.gate_up_proj.weight"));
    assert_non_null(find(layout, "model.layers.1.mlp.down_proj.weight"));
    assert_null(find(layout, "model.layers.1.mlp.gate.weight"));
    model_layout_destroy(layout);
}

// A model with tied embeddings has no lm_head, and must not be refused for it.
static void test_tied(void **state)
{
    (void)state;
    struct model_layout *layout = config_case_layout("tied");
    assert_null(find(layout, "lm_head.weight"));
    assert_non_null(find(layout, "model.embed_tokens.weight"));
    model_layout_destroy(layout);
}

// Running out of memory while opening would crash.
static void test_out_of_memory(void **state)
{
    (void)state;
    struct model_config *config = mem_alloc(1, sizeof *config);
    struct model_layout *layout;
    assert_int_equal(config_case_parse("tiny", NULL, NULL, config), SLUICE_OK);
    for (uint64_t i = 0; i < 2; i++) {
        mem_fail_at(i);
        assert_int_equal(model_layout_create(config, &layout), SLUICE_ERR_MEMORY);
        assert_null(layout);
    }
    mem_fail_at(UINT64_MAX);
    mem_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_counts),
        cmocka_unit_test(test_published_shapes),
        cmocka_unit_test(test_expert_record),
        cmocka_unit_test(test_trunk_bytes),
        cmocka_unit_test(test_fallback),
        cmocka_unit_test(test_kept_in_float),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_tied),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
