// config.json: what is accepted, what is refused and with which words, and the rope numbers.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "tests/model/config_case.h"

static struct model_config parsed;

// A user's download of the published model would not convert, or would run with wrong sizes.
static void test_published(void **state)
{
    (void)state;
    const struct model_config *c = &parsed;
    assert_int_equal(config_case_parse("published-80b", NULL, NULL, &parsed), SLUICE_OK);
    assert_int_equal(c->layer_count, 48);
    assert_int_equal(c->full_count, 12);
    assert_int_equal(c->linear_count, 36);
    assert_int_equal(c->moe_count, 48);
    for (uint32_t i = 0; i < 48; i++) {
        assert_int_equal(c->layers[i].full_attention, i % 4 == 3);
        assert_true(c->layers[i].moe);
        assert_int_equal(c->layers[i].moe_index, i);
        assert_int_equal(c->layers[i].mixer_index, i % 4 == 3 ? i / 4 : i - i / 4);
    }
    assert_int_equal(c->rotary_dim, 64);
    assert_int_equal(model_qkvz_rows(c), 12288);
    assert_int_equal(model_ba_rows(c), 64);
    assert_int_equal(model_conv_channels(c), 8192);
    assert_int_equal(model_qg_rows(c), 8192);
    assert_int_equal(model_kv_dim(c), 512);
    assert_int_equal(model_attention_dim(c), 4096);
    assert_int_equal(c->top_k, 10);
    assert_true(c->norm_topk_prob);
    assert_false(c->tie_word_embeddings);
    assert_int_equal(c->bos_id, 151643);
    assert_int_equal(c->eos_count, 1);
    assert_int_equal(c->eos_ids[0], 151645);
    assert_true(c->norm_eps == 1e-6f);
    assert_int_equal(c->dense_intermediate, 0);
}

// A checkpoint saved again by a newer Transformers (other spellings of the same fields) would be refused or misread.
static void test_new_spelling(void **state)
{
    (void)state;
    const struct model_config *c = &parsed;
    assert_int_equal(config_case_parse("tied", NULL, NULL, &parsed), SLUICE_OK);
    assert_true(c->layers[0].full_attention);
    assert_false(c->layers[1].full_attention);
    assert_int_equal(c->rotary_dim, 16);
    assert_true(c->rope.yarn);
    assert_true(c->rope.theta == 10000.0);
    assert_true(c->rope.original_positions == 64);
    assert_true(c->tie_word_embeddings);
    assert_int_equal(c->eos_count, 2);
    assert_int_equal(c->eos_ids[1], 250);
}

// A model with dense layers would look for experts where there are none.
static void test_dense_layers(void **state)
{
    (void)state;
    const struct model_config *c = &parsed;
    assert_int_equal(config_case_parse("mixed", NULL, NULL, &parsed), SLUICE_OK);
    assert_int_equal(c->moe_count, 2);
    assert_false(c->layers[1].moe);
    assert_int_equal(c->layers[2].moe_index, 1);
    assert_int_equal(c->dense_intermediate, 512);
    assert_int_equal(config_case_parse("mixed", "decoder_sparse_step", "3", &parsed), SLUICE_OK);
    assert_int_equal(c->moe_count, 1);
    assert_true(c->layers[2].moe);
    assert_int_equal(config_case_parse("mixed", "num_experts", "0", &parsed), SLUICE_OK);
    assert_int_equal(c->moe_count, 0);
    assert_int_equal(c->top_k, 0);
}

struct refusal {
    const char *field, *value; // value NULL: the field is missing
    const char *says;          // part of the message
};

static const struct refusal refusals[] = {
    {"model_type", NULL, "model_type"},
    {"model_type", "\"llama\"", "\"model_type\" is \"llama\""},
    {"model_type", "7", "model_type"},
    {"hidden_act", "\"gelu\"", "hidden_act"},
    {"attention_bias", "true", "attention_bias"},
    {"attention_bias", "\"no\"", "attention_bias"},
    {"use_sliding_window", "true", "use_sliding_window"},
    {"dtype", "\"int8\"", "\"dtype\""},
    {"torch_dtype", "\"float64\"", "torch_dtype"},
    {"quantization_config", "[]", "quantization_config"},
    {"quantization_config", "{\"quant_method\":\"gptq\"}", "quant_method\" is \"gptq"},
    {"quantization_config", "{\"quant_method\":\"fp8\"}", "weight_block_size"},
    {"quantization_config", "{\"quant_method\":\"fp8\",\"weight_block_size\":[128,0]}", "weight_block_size[1]"},
    {"vocab_size", NULL, "\"vocab_size\" is missing"},
    {"vocab_size", "null", "\"vocab_size\" is missing"},
    {"vocab_size", "0", "vocab_size"},
    {"vocab_size", "-5", "vocab_size"},
    {"vocab_size", "4294967808", "vocab_size"},
    {"vocab_size", "9223372036854775807", "vocab_size"},
    {"vocab_size", "1e3", "\"vocab_size\" must be an integer"},
    {"vocab_size", "\"512\"", "\"vocab_size\" must be an integer"},
    {"hidden_size", "0", "hidden_size"},
    {"hidden_size", "2047", "\"hidden_size\" is 2047; only multiples of 8"},
    {"hidden_size", "1048576", "hidden_size"},
    {"num_hidden_layers", "0", "num_hidden_layers"},
    {"num_hidden_layers", "1025", "num_hidden_layers"},
    {"rms_norm_eps", NULL, "rms_norm_eps"},
    {"rms_norm_eps", "0", "rms_norm_eps"},
    {"rms_norm_eps", "\"tiny\"", "rms_norm_eps"},
    {"num_attention_heads", "15", "num_attention_heads"},
    {"num_key_value_heads", "3", "\"num_attention_heads\" is 16, which is no multiple of \"num_key_value_heads\", 3"},
    {"num_key_value_heads", "0", "num_key_value_heads"},
    {"num_attention_heads", "64",
     "\"num_attention_heads\" is 32 times \"num_key_value_heads\"; supported are up to 16"},
    {"head_dim", NULL, "head_dim"},
    {"head_dim", "512", "head_dim"},
    {"head_dim", "252", "head_dim"},
    {"max_position_embeddings", "0", "max_position_embeddings"},
    {"partial_rotary_factor", "0.26", "partial_rotary_factor"},
    {"partial_rotary_factor", "0.01171875", "gives 3 rotated"},
    {"partial_rotary_factor", "0", "partial_rotary_factor"},
    {"partial_rotary_factor", "1.5", "partial_rotary_factor"},
    {"rope_theta", NULL, "rope_theta"},
    {"rope_theta", "-1", "rope_theta"},
    {"rope_theta", "1", "rope_theta"},
    {"rope_scaling", "\"yarn\"", "rope_scaling"},
    {"rope_scaling", "{\"rope_type\":\"llama3\",\"factor\":4}", "\"rope_type\" is \"llama3\""},
    {"rope_scaling", "{\"type\":\"linear\",\"factor\":4}", "rope_type"},
    {"rope_scaling", "{\"rope_type\":\"yarn\"}", "factor"},
    {"rope_scaling", "{\"rope_type\":\"yarn\",\"factor\":0.5}", "factor"},
    {"rope_scaling", "{\"rope_type\":\"yarn\",\"factor\":4,\"truncate\":1}", "truncate"},
    {"rope_parameters", "{\"rope_theta\":\"x\"}", "rope_theta"},
    {"linear_num_key_heads", "0", "linear_num_key_heads"},
    {"linear_num_value_heads", "24", "linear_num_value_heads"},
    {"linear_num_value_heads", "512", "linear_num_value_heads"},
    {"linear_key_head_dim", "100", "linear_key_head_dim"},
    {"linear_value_head_dim", "264", "linear_value_head_dim"},
    {"linear_conv_kernel_dim", "1", "linear_conv_kernel_dim"},
    {"linear_conv_kernel_dim", "9", "linear_conv_kernel_dim"},
    {"full_attention_interval", "0", "full_attention_interval"},
    {"layer_types", "[\"full_attention\"]", "layer_types"},
    {"layer_types", "{}", "layer_types"},
    {"decoder_sparse_step", "0", "decoder_sparse_step"},
    {"mlp_only_layers", "[48]", "mlp_only_layers"},
    {"mlp_only_layers", "[-1]", "mlp_only_layers"},
    {"mlp_only_layers", "3", "mlp_only_layers"},
    {"num_experts", NULL, "num_experts"},
    {"num_experts", "9", "\"num_experts_per_tok\" is 10, but \"num_experts\" only 9"},
    {"num_experts", "1025", "num_experts"},
    {"num_experts_per_tok", "0", "num_experts_per_tok"},
    {"num_experts_per_tok", "33", "num_experts_per_tok"},
    {"moe_intermediate_size", "4", "moe_intermediate_size"},
    {"shared_expert_intermediate_size", "0", "shared_expert_intermediate_size"},
    {"norm_topk_prob", "1", "norm_topk_prob"},
    {"tie_word_embeddings", "\"false\"", "tie_word_embeddings"},
    {"bos_token_id", "151936", "bos_token_id"},
    {"eos_token_id", "[1,2,3,4,5,6,7,8,9]", "eos_token_id"},
    {"eos_token_id", "[1,-2]", "eos_token_id"},
    {"eos_token_id", "\"</s>\"", "eos_token_id"},
};

// A model that this program cannot run would fail deep inside, or run and answer nonsense.
static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *r = &refusals[i];
        enum sluice_status status = config_case_parse("published-80b", r->field, r->value, &parsed);
        if (status >= 0 || !strstr(error_message(), r->says))
            fail_msg("%s = %s: status %d, message: %s", r->field, r->value ? r->value : "(missing)", status,
                     error_message());
        assert_int_equal(parsed.hidden_size, 0);
    }
}

// A layer type that is no string, or of another family, would be taken for a known one.
static void test_layer_types_refused(void **state)
{
    (void)state;
    assert_true(config_case_parse("tied", "layer_types", "[\"full_attention\", \"sliding_attention\"]", &parsed) < 0);
    assert_non_null(strstr(error_message(), "\"layer_types\"[1]"));
    assert_true(config_case_parse("tied", "layer_types", "[\"full_attention\", 1]", &parsed) < 0);
}

// A damaged download would crash the parser.
static void test_damaged_text(void **state)
{
    (void)state;
    char *text = config_case_text("published-80b", NULL, NULL);
    size_t length = strlen(text);
    for (size_t cut = 0; cut < length; cut++)
        assert_true(model_config_parse(text, cut, &parsed) < 0);
    for (size_t i = 0; i < length; i++) {
        char kept = text[i];
        text[i] = (char)(kept ^ (1 << (i % 8)));
        (void)model_config_parse(text, length, &parsed); // may still be a config
        text[i] = kept;
    }
    assert_true(model_config_parse("[1]", 3, &parsed) < 0);
    assert_true(model_config_parse("{\"a\":1,\"a\":2}", 13, &parsed) < 0);
    free(text);
}

static void assert_near(float got, double wanted)
{
    if (fabs((double)got - wanted) > 2e-7 * fabs(wanted))
        fail_msg("%.9g instead of %.9g", (double)got, wanted);
}

// Long texts would drift: a wrong frequency shows only after thousands of tokens.
static void test_rope(void **state)
{
    (void)state;
    static const int places[] = {0, 1, 15, 20, 25, 31};
    static const struct {
        const char *theta;
        double f[6];
    } cases[] = {
        {"10000000", {1, 0.60429639, 4.74239823e-4, 1.8449222e-5, 8.49552082e-7, 4.13704275e-8}},
        {"5000000", {1, 0.617528758, 6.63848915e-4, 3.25172456e-5, 1.4600566e-6, 8.09678891e-8}},
    };
    float f[MODEL_HEAD_DIM_MAX / 2], factor;
    for (size_t i = 0; i < 2; i++) {
        char value[160] = "{\"rope_type\":\"yarn\",\"factor\":4.0,\"original_max_position_embeddings\":262144,"
                          "\"rope_theta\":";
        strcat(strcat(value, cases[i].theta), "}");
        assert_int_equal(config_case_parse("published-80b", "rope_parameters", value, &parsed), SLUICE_OK);
        model_config_rope(&parsed, f, &factor);
        assert_near(factor, 1.138629436);
        for (size_t j = 0; j < 6; j++)
            assert_near(f[places[j]], cases[i].f[j]);
        assert_true(f[32] == 0);
    }
    assert_int_equal(config_case_parse("published-80b", NULL, NULL, &parsed), SLUICE_OK);
    model_config_rope(&parsed, f, &factor);
    assert_true(factor == 1.0f);
    for (int i = 0; i < 32; i++)
        assert_near(f[i], pow(1e7, -i / 32.0));
}

// A checkpoint that states its own attention factor would be run with another one.
static void test_rope_factors(void **state)
{
    (void)state;
    float f[MODEL_HEAD_DIM_MAX / 2], factor;
    const char *given = "{\"rope_type\":\"yarn\",\"factor\":4,\"attention_factor\":1.5}";
    assert_int_equal(config_case_parse("published-80b", "rope_scaling", given, &parsed), SLUICE_OK);
    model_config_rope(&parsed, f, &factor);
    assert_near(factor, 1.5);
    const char *ratio = "{\"rope_type\":\"yarn\",\"factor\":4,\"mscale\":1.0,\"mscale_all_dim\":0.5}";
    assert_int_equal(config_case_parse("published-80b", "rope_scaling", ratio, &parsed), SLUICE_OK);
    model_config_rope(&parsed, f, &factor);
    assert_near(factor, (0.1 * log(4) + 1) / (0.05 * log(4) + 1));
    const char *none = "{\"rope_type\":\"yarn\",\"factor\":1}";
    assert_int_equal(config_case_parse("published-80b", "rope_scaling", none, &parsed), SLUICE_OK);
    model_config_rope(&parsed, f, &factor);
    assert_near(factor, 1.0);
    assert_near(f[31], pow(1e7, -31 / 32.0));
}

// FP8 checkpoints would be read with the wrong block size.
static void test_fp8_config(void **state)
{
    (void)state;
    const char *fp8 = "{\"quant_method\":\"fp8\",\"fmt\":\"e4m3\",\"weight_block_size\":[128,64]}";
    assert_int_equal(config_case_parse("published-80b", "quantization_config", fp8, &parsed), SLUICE_OK);
    assert_int_equal(parsed.fp8_block_rows, 128);
    assert_int_equal(parsed.fp8_block_cols, 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published),
        cmocka_unit_test(test_new_spelling),
        cmocka_unit_test(test_dense_layers),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_layer_types_refused),
        cmocka_unit_test(test_damaged_text),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_rope_factors),
        cmocka_unit_test(test_fp8_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
