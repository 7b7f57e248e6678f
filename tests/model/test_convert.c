// From checkpoints to containers, in the library: what is in them, and which checkpoints are refused. Interruptions are
// in test_convert_runs.c.
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "quant/halffloat.h"
#include "quant/tile.h"
#include "runtime/base/mem.h"
#include "tests/model/config_case.h"
#include "tests/model/convert_case.h"

// --- exactness ------------------------------------------------------------------------------------------------------

static uint16_t *source_values(const struct model_layout *layout, const struct model_source *source, uint64_t count)
{
    uint16_t *values = mem_alloc(count, sizeof *values);
    checkpoint_values(source, layout->config.hidden_size, values);
    return values;
}

static void check_plain(const struct model_layout *layout, const struct model_tensor *tensor, const float *stored)
{
    uint64_t count = (uint64_t)tensor->rows * tensor->cols;
    uint16_t *values = source_values(layout, &tensor->sources[0], count);
    for (uint64_t i = 0; i < count; i++)
        assert_true(stored[i] == f32_from_bf16(values[i]));
    mem_free(values);
}

// Tile t of the source is tile t * step + first of `tiles`.
static void check_tiles(const struct model_layout *layout, const struct model_source *source, const uint8_t *tiles,
                        uint64_t first, uint64_t step)
{
    uint64_t rows = source->shape[0], cols = source->shape[1];
    uint64_t tile_bytes = quant_tile_bytes(QUANT_BF16, QUANT_TILE_ROWS, cols);
    uint16_t *values = source_values(layout, source, rows * cols);
    uint16_t *row_values = mem_alloc(cols, sizeof *row_values);
    for (uint64_t row = 0; row < rows; row++) {
        const uint8_t *tile = tiles + (row / QUANT_TILE_ROWS * step + first) * tile_bytes;
        quant_tile_unpack_row(QUANT_BF16, tile, QUANT_TILE_ROWS, cols, row % QUANT_TILE_ROWS, row_values);
        assert_memory_equal(row_values, values + row * cols, cols * sizeof *values);
    }
    mem_free(values);
    mem_free(row_values);
}

static void check_trunk(const struct model_layout *layout, const struct container *container)
{
    assert_int_equal(container_tensor_count(container), layout->tensor_count);
    for (size_t i = 0; i < layout->tensor_count; i++) {
        const struct model_tensor *tensor = &layout->tensors[i];
        const struct container_tensor *stored = container_tensor_find(container, tensor->name);
        assert_non_null(stored);
        assert_int_equal(stored->rows, model_tensor_stored_rows(tensor));
        assert_int_equal(stored->cols, tensor->cols);
        void *data = mem_alloc(stored->bytes, 1);
        assert_int_equal(container_read_tensor(container, stored, data), SLUICE_OK);
        if (tensor->kind == MODEL_TENSOR_PLAIN)
            check_plain(layout, tensor, data);
        else
            for (uint32_t j = 0; j < tensor->source_count; j++)
                check_tiles(layout, &tensor->sources[j], data, j, tensor->source_count);
        mem_free(data);
    }
}

static void check_expert(const struct model_layout *layout, uint32_t layer, uint32_t expert, uint64_t down_offset,
                         const uint8_t *record)
{
    struct model_source source;
    model_expert_source(layout, layer, expert, MODEL_EXPERT_GATE, &source);
    check_tiles(layout, &source, record, 0, 2);
    model_expert_source(layout, layer, expert, MODEL_EXPERT_UP, &source);
    check_tiles(layout, &source, record, 1, 2);
    model_expert_source(layout, layer, expert, MODEL_EXPERT_DOWN, &source);
    check_tiles(layout, &source, record + down_offset, 0, 1);
}

static void check_experts(const struct model_layout *layout, const struct container *container)
{
    assert_int_equal(container_expert_layer_count(container), layout->config.moe_count);
    for (uint32_t i = 0; i < layout->config.moe_count; i++) {
        const struct container_expert_layer *l = container_expert_layer_at(container, i);
        assert_int_equal(l->layer, model_layout_moe_layer(layout, i));
        uint8_t *record = mem_alloc(l->record_bytes, 1);
        for (uint32_t e = 0; e < l->expert_count; e++) {
            assert_int_equal(container_read_expert(container, l->layer, e, record), SLUICE_OK);
            check_expert(layout, l->layer, e, l->down_offset, record);
        }
        mem_free(record);
    }
}

// A model converted without quantisation would not be the published model.
static void test_bf16_is_exact(void **state)
{
    (void)state;
    static const char *const configs[] = {"tiny", "mixed", "tied"};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        struct checkpoint_case c = {.config = configs[i], .dtype = SAFETENSORS_BF16};
        struct container *container = convert_case_open(&c, "out.sluice", QUANT_BF16);
        struct model_layout *layout = config_case_layout(configs[i]);
        check_trunk(layout, container);
        check_experts(layout, container);
        model_layout_destroy(layout);
        container_close(container);
    }
}

// Checkpoints saved again with fused expert tensors would give other experts, or be refused.
static void test_fused_experts(void **state)
{
    (void)state;
    struct checkpoint_case c = {.config = "mixed", .dtype = SAFETENSORS_BF16, .fused = true};
    struct container *container = convert_case_open(&c, "out.sluice", QUANT_BF16);
    struct model_layout *layout = config_case_layout("mixed");
    check_trunk(layout, container);
    check_experts(layout, container);
    model_layout_destroy(layout);
    container_close(container);
}

// F32 and F16 checkpoints hold the same values here, so their bf16 containers must hold them too.
static void test_other_floats(void **state)
{
    (void)state;
    static const enum safetensors_dtype dtypes[] = {SAFETENSORS_F32, SAFETENSORS_F16};
    static const enum quant_type kept[] = {QUANT_F32, QUANT_F16};
    for (size_t i = 0; i < 2; i++) {
        struct checkpoint_case c = {.config = "tiny", .dtype = dtypes[i]};
        struct container *container = convert_case_open(&c, "out.sluice", QUANT_BF16);
        const struct container_tensor *t = container_tensor_find(container, "model.layers.0.mlp.gate.weight");
        assert_int_equal(t->type_id, kept[i]);
        t = container_tensor_find(container, "model.layers.0.linear_attn.out_proj.weight");
        assert_int_equal(t->type_id, QUANT_BF16);
        container_close(container);
    }
}

// FP8 checkpoints would be decoded wrongly: the scale multiplies, per block of rows and columns.
static void test_fp8(void **state)
{
    (void)state;
    static const char name[] = "model.layers.0.linear_attn.in_proj_qkvz.weight";
    struct checkpoint_case c = {.config = "mixed", .dtype = SAFETENSORS_F8_E4M3};
    struct container *container = convert_case_open(&c, "out.sluice", QUANT_F32);
    const struct container_tensor *t = container_tensor_find(container, name);
    uint8_t *tiles = mem_alloc(t->bytes, 1);
    float *row = mem_alloc(t->cols, sizeof *row);
    assert_int_equal(container_read_tensor(container, t, tiles), SLUICE_OK);
    for (uint64_t r = 0; r < t->rows; r++) {
        quant_tile_decode_row(QUANT_F32, tiles, t->rows, t->cols, r, row);
        for (uint64_t col = 0; col < t->cols; col++) {
            int byte = checkpoint_fp8_byte(r * t->cols + col), e = byte >> 3 & 15, m = byte & 7;
            double value = e ? ldexp(1 + m / 8.0, e - 7) : ldexp(m, -9);
            uint64_t block = r / CHECKPOINT_FP8_BLOCK * (t->cols / CHECKPOINT_FP8_BLOCK) + col / CHECKPOINT_FP8_BLOCK;
            assert_true(row[col] == (float)((byte & 0x80 ? -value : value) * (double)checkpoint_fp8_scale(block)));
        }
    }
    mem_free(row);
    mem_free(tiles);
    container_close(container);
}

// A quantised model would be worse than its format allows.
static void test_quantised(void **state)
{
    (void)state;
    static const char name[] = "model.layers.0.linear_attn.in_proj_qkvz.weight";
    struct checkpoint_case c = {.config = "mixed", .dtype = SAFETENSORS_BF16};
    struct container *container = convert_case_open(&c, "out.sluice", QUANT_Q4_K);
    struct model_layout *layout = config_case_layout("mixed");
    const struct container_tensor *t = container_tensor_find(container, name);
    struct model_source source = {.rank = 2, .shape = {t->rows, t->cols}};
    strcpy(source.name, name);
    assert_int_equal(t->type_id, QUANT_Q8_0);
    uint8_t *tiles = mem_alloc(t->bytes, 1);
    float *row = mem_alloc(t->cols, sizeof *row);
    uint16_t *values = source_values(layout, &source, t->rows * t->cols);
    double error = 0, power = 0;
    assert_int_equal(container_read_tensor(container, t, tiles), SLUICE_OK);
    for (uint64_t i = 0; i < t->rows * t->cols; i++) {
        if (i % t->cols == 0)
            quant_tile_decode_row(QUANT_Q8_0, tiles, t->rows, t->cols, i / t->cols, row);
        double value = (double)f32_from_bf16(values[i]), d = (double)row[i % t->cols] - value;
        error += d * d;
        power += value * value;
    }
    assert_true(error < power * 1e-4);
    assert_int_equal(container_expert_layer_at(container, 0)->gate_up_type_id, QUANT_Q4_K);
    mem_free(values);
    mem_free(row);
    mem_free(tiles);
    model_layout_destroy(layout);
    container_close(container);
}

// --- refusals -------------------------------------------------------------------------------------------------------

struct refusal {
    struct checkpoint_case c;
    const char *says[3];
};

static const struct refusal refusals[] = {
    {{.config = "tiny", .dtype = SAFETENSORS_BF16, .skip = "model.layers.2.mlp.experts.7.up_proj.weight"},
     {"model.layers.2.mlp.experts.7.up_proj.weight"}},
    {{.config = "tiny", .dtype = SAFETENSORS_BF16, .skip = "lm_head.weight"}, {"lm_head.weight"}},
    {{.config = "tiny", .dtype = SAFETENSORS_BF16, .reshape = "model.layers.3.self_attn.q_norm.weight"},
     {"model.layers.3.self_attn.q_norm.weight", "[33]", "[32]"}},
    {{.config = "tiny", .dtype = SAFETENSORS_BF16, .reshape = "model.layers.0.linear_attn.conv1d.weight"},
     {"conv1d.weight", "[129, 1, 4]", "[128, 1, 4]"}},
    {{.config = "tiny", .dtype = SAFETENSORS_BF16, .reshape = "model.layers.1.mlp.experts.0.down_proj.weight"},
     {"experts.0.down_proj.weight", "[65, 32]", "[64, 32]"}},
    {{.config = "tiny", .dtype = SAFETENSORS_BF16, .poison = "model.norm.weight", .poison_value = NAN},
     {"model.norm.weight", "nan"}},
    {{.config = "tiny", .dtype = SAFETENSORS_BF16, .poison = "model.embed_tokens.weight", .poison_value = INFINITY},
     {"model.embed_tokens.weight", "row 249, column 63", "inf"}},
    {{.config = "tiny",
      .dtype = SAFETENSORS_F32,
      .poison = "model.layers.3.mlp.experts.5.gate_proj.weight",
      .poison_value = -INFINITY},
     {"model.layers.3.mlp.experts.5.gate_proj.weight", "inf"}},
    {{.config = "tiny", .dtype = SAFETENSORS_F32, .poison = "lm_head.weight", .poison_value = 1e9f},
     {"lm_head.weight"}},
    {{.config = "mixed", .dtype = SAFETENSORS_F8_E4M3, .skip = "model.layers.0.mlp.experts.3.up_proj.weight_scale_inv"},
     {"model.layers.0.mlp.experts.3.up_proj.weight", "scale_inv"}},
    {{.config = "mixed", .dtype = SAFETENSORS_F8_E4M3, .poison = "model.layers.0.mlp.experts.3.up_proj.weight"},
     {"model.layers.0.mlp.experts.3.up_proj.weight", "nan"}},
};

// An incomplete or damaged download would become a container that answers nonsense.
static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        checkpoint_case_write(&refusals[i].c, convert_case.directory);
        unlink(convert_case_path("out.sluice.part")); // what was done until a weight was refused
        enum sluice_status status = convert_case_run("out.sluice", QUANT_Q8_0);
        for (size_t j = 0; j < 3 && refusals[i].says[j]; j++)
            if (status >= 0 || !strstr(error_message(), refusals[i].says[j]))
                fail_msg("case %zu: status %d, \"%s\" not in: %s", i, status, refusals[i].says[j], error_message());
        convert_case_assert_nothing("out.sluice");
    }
}

// Without a note a user would not know that the drafting head is not used.
static void test_notes(void **state)
{
    (void)state;
    struct checkpoint_case c = {.config = "tiny", .dtype = SAFETENSORS_BF16, .extra = true};
    container_close(convert_case_open(&c, "out.sluice", QUANT_Q4_K));
    assert_non_null(strstr(convert_case.notes, "1 tensor of the checkpoint is not used, such as mtp.fc.weight"));
    assert_non_null(strstr(convert_case.notes, "gate and up matrices of experts are stored as q8_0"));
    assert_non_null(strstr(convert_case.notes, "matrices of the trunk are stored as bf16"));
}

// --- documents ------------------------------------------------------------------------------------------------------

static void write_text(const char *name, const char *text)
{
    FILE *file = fopen(convert_case_path(name), "wb");
    assert_true(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void assert_document(const struct container *container, const char *name, const char *part)
{
    char *text;
    size_t bytes;
    assert_int_equal(container_document(container, name, &text, &bytes), SLUICE_OK);
    assert_non_null(strstr(text, part));
    mem_free(text);
}

// A container without its tokenizer, template or origin is of no use away from the checkpoint.
static void test_documents(void **state)
{
    (void)state;
    struct container *container;
    struct checkpoint_case c = {.config = "tiny", .dtype = SAFETENSORS_BF16};
    checkpoint_case_write(&c, convert_case.directory);
    write_text("tokenizer.json", "{\"model\": {\"type\": \"BPE\"}}");
    write_text("chat_template.jinja", "{{ messages }}");
    struct convert_options options = {.source = convert_case.directory,
                                      .output = convert_case_path("out.sluice"),
                                      .recipe = model_recipe_default(QUANT_Q8_0),
                                      .instruction = "read \"this\"",
                                      .program = "sluice 9"};
    assert_int_equal(model_convert(&options), SLUICE_OK);
    assert_int_equal(container_open(convert_case_path("out.sluice"), &container), SLUICE_OK);
    assert_document(container, "config.json", "\"qwen3_next\"");
    assert_document(container, "tokenizer.json", "BPE");
    assert_document(container, "chat_template.jinja", "{{ messages }}");
    assert_document(container, "provenance.json", "read \\\"this\\\"");
    assert_document(container, "provenance.json", "model.safetensors");
    assert_document(container, "provenance.json", "sluice 9");
    container_close(container);
    write_text("tokenizer.json", "{\"model\": ");
    assert_int_equal(convert_case_run("second.sluice", QUANT_Q8_0), SLUICE_ERR_FORMAT);
    assert_non_null(strstr(error_message(), "tokenizer.json"));
    convert_case_assert_nothing("second.sluice");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bf16_is_exact, convert_case_set_up, convert_case_tear_down),
        cmocka_unit_test_setup_teardown(test_fused_experts, convert_case_set_up, convert_case_tear_down),
        cmocka_unit_test_setup_teardown(test_other_floats, convert_case_set_up, convert_case_tear_down),
        cmocka_unit_test_setup_teardown(test_fp8, convert_case_set_up, convert_case_tear_down),
        cmocka_unit_test_setup_teardown(test_quantised, convert_case_set_up, convert_case_tear_down),
        cmocka_unit_test_setup_teardown(test_refused, convert_case_set_up, convert_case_tear_down),
        cmocka_unit_test_setup_teardown(test_notes, convert_case_set_up, convert_case_tear_down),
        cmocka_unit_test_setup_teardown(test_documents, convert_case_set_up, convert_case_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
