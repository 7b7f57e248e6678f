#include "runtime/model/config.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "runtime/model/config_fields.h"

// --- what is not supported ------------------------------------------------------------------------------------------

// The tensors' own types count; this one only has to be sane.
static enum sluice_status check_dtype(const json_t *root)
{
    static const char *const known[] = {"bfloat16", "float16", "float32"};
    const char *field = field_get(root, "dtype") ? "dtype" : "torch_dtype";
    const char *text;
    enum sluice_status status = field_read_string(root, field, "bfloat16", &text);
    for (size_t i = 0; status == SLUICE_OK && i < sizeof known / sizeof *known; i++)
        if (strcmp(text, known[i]) == 0)
            return SLUICE_OK;
    if (status != SLUICE_OK)
        return status;
    return error_set(SLUICE_ERR_UNSUPPORTED,
                     "config.json: \"%s\" is \"%.60s\"; supported are bfloat16, float16 and float32", field, text);
}

static enum sluice_status check_supported(const json_t *root)
{
    enum sluice_status status;
    TRY(field_require_string(root, "model_type", NULL, "qwen3_next"));
    TRY(field_require_string(root, "hidden_act", "silu", "silu"));
    TRY(field_require_false(root, "attention_bias"));
    TRY(field_require_false(root, "use_sliding_window"));
    TRY(check_dtype(root));
fail:
    return status;
}

static enum sluice_status read_fp8_block(const json_t *quantization, struct model_config *config)
{
    const json_t *block = field_get(quantization, "weight_block_size");
    if (!json_is_array(block) || json_array_size(block) != 2)
        return field_refuse_type("quantization_config.weight_block_size", "an array of two integers");
    enum sluice_status status;
    TRY(field_to_u32(json_array_get(block, 0), "quantization_config.weight_block_size[0]", MODEL_FP8_BLOCK_MIN,
                     MODEL_HIDDEN_MAX, &config->fp8_block_rows));
    TRY(field_to_u32(json_array_get(block, 1), "quantization_config.weight_block_size[1]", MODEL_FP8_BLOCK_MIN,
                     MODEL_HIDDEN_MAX, &config->fp8_block_cols));
fail:
    return status;
}

static enum sluice_status parse_quantization(const json_t *root, struct model_config *config)
{
    const json_t *quantization;
    const char *method;
    enum sluice_status status;
    TRY(field_read_object(root, "quantization_config", &quantization));
    if (!quantization)
        return SLUICE_OK;
    TRY(field_read_string(quantization, "quant_method", "", &method));
    if (strcmp(method, "fp8") != 0)
        return error_set(SLUICE_ERR_UNSUPPORTED,
                         "config.json: \"quantization_config.quant_method\" is \"%.60s\"; only \"fp8\" and "
                         "checkpoints that are not quantised are supported",
                         method);
    TRY(read_fp8_block(quantization, config));
fail:
    return status;
}

// --- rope -----------------------------------------------------------------------------------------------------------

static enum sluice_status parse_yarn(const json_t *object, double positions_max, struct model_rope *rope)
{
    enum sluice_status status;
    rope->yarn = true;
    TRY(field_read_number(object, "factor", 1, 1024, NAN, &rope->factor));
    TRY(field_read_number(object, "original_max_position_embeddings", 1, MODEL_POSITIONS_MAX, positions_max,
                          &rope->original_positions));
    TRY(field_read_number(object, "beta_fast", 1e-3, 1e6, 32, &rope->beta_fast));
    TRY(field_read_number(object, "beta_slow", 1e-3, 1e6, 1, &rope->beta_slow));
    TRY(field_read_number(object, "attention_factor", 1e-3, 1e3, 0, &rope->attention_factor));
    TRY(field_read_number(object, "mscale", 0, 1e3, 0, &rope->mscale));
    TRY(field_read_number(object, "mscale_all_dim", 0, 1e3, 0, &rope->mscale_all_dim));
    TRY(field_read_bool(object, "truncate", true, &rope->truncate));
fail:
    return status;
}

static enum sluice_status parse_rope_type(const json_t *object, double positions_max, struct model_rope *rope)
{
    const char *field = field_get(object, "rope_type") ? "rope_type" : "type";
    const char *type;
    enum sluice_status status = field_read_string(object, field, "default", &type);
    if (status != SLUICE_OK || strcmp(type, "default") == 0)
        return status;
    if (strcmp(type, "yarn") == 0)
        return parse_yarn(object, positions_max, rope);
    return error_set(SLUICE_ERR_UNSUPPORTED,
                     "config.json: \"rope_type\" is \"%.60s\"; supported are \"default\" and \"yarn\"", type);
}

static enum sluice_status parse_rotary_dim(const json_t *object, struct model_config *config)
{
    double factor;
    enum sluice_status status = field_read_number(object, "partial_rotary_factor", 0, 1, 0.25, &factor);
    if (status != SLUICE_OK)
        return status;
    double dim = factor * config->head_dim;
    config->rotary_dim = (uint32_t)dim;
    if (dim != (double)config->rotary_dim || config->rotary_dim < 2 || config->rotary_dim % 2 != 0)
        return error_set(SLUICE_ERR_FORMAT,
                         "config.json: \"partial_rotary_factor\" %g of \"head_dim\" %u gives %g rotated dimensions; it "
                         "must be an even number",
                         factor, config->head_dim, dim);
    return SLUICE_OK;
}

// New spelling: everything in rope_parameters. Old: theta and partial factor at the top, the rest in rope_scaling.
static enum sluice_status parse_rope(const json_t *root, struct model_config *config)
{
    const json_t *parameters, *scaling;
    enum sluice_status status;
    TRY(field_read_object(root, "rope_parameters", &parameters));
    TRY(field_read_object(root, "rope_scaling", &scaling));
    const json_t *theta = parameters && field_get(parameters, "rope_theta") ? parameters : root;
    const json_t *partial = parameters && field_get(parameters, "partial_rotary_factor") ? parameters : root;
    TRY(field_read_number(theta, "rope_theta", 1.001, 1e15, NAN, &config->rope.theta));
    TRY(parse_rotary_dim(partial, config));
    if (parameters || scaling)
        TRY(parse_rope_type(parameters ? parameters : scaling, config->positions_max, &config->rope));
fail:
    return status;
}

// --- parts of the model ---------------------------------------------------------------------------------------------

static enum sluice_status require_multiple(const char *field, uint32_t value, const char *of_field, uint32_t of)
{
    if (value % of != 0)
        return error_set(SLUICE_ERR_FORMAT, "config.json: \"%s\" is %u, which is no multiple of \"%s\", %u", field,
                         value, of_field, of);
    return SLUICE_OK;
}

static enum sluice_status parse_attention(const json_t *root, struct model_config *config)
{
    enum sluice_status status;
    TRY(field_read_u32(root, "num_attention_heads", 1, MODEL_HEADS_MAX, &config->heads));
    TRY(field_read_u32(root, "num_key_value_heads", 1, MODEL_HEADS_MAX, &config->kv_heads));
    TRY(require_multiple("num_attention_heads", config->heads, "num_key_value_heads", config->kv_heads));
    if (config->heads / config->kv_heads > MODEL_HEADS_PER_KV_MAX)
        TRY(error_set(
            SLUICE_ERR_FORMAT,
            "config.json: \"num_attention_heads\" is %u times \"num_key_value_heads\"; supported are up to %d",
            config->heads / config->kv_heads, MODEL_HEADS_PER_KV_MAX));
    TRY(field_read_size(root, "head_dim", MODEL_HEAD_DIM_MAX, &config->head_dim));
    TRY(field_read_u32(root, "max_position_embeddings", 1, MODEL_POSITIONS_MAX, &config->positions_max));
    TRY(parse_rope(root, config));
fail:
    return status;
}

static enum sluice_status parse_deltanet(const json_t *root, struct model_config *config)
{
    enum sluice_status status;
    TRY(field_read_u32(root, "linear_num_key_heads", 1, MODEL_HEADS_MAX, &config->linear_key_heads));
    TRY(field_read_u32(root, "linear_num_value_heads", 1, MODEL_HEADS_MAX, &config->linear_value_heads));
    TRY(require_multiple("linear_num_value_heads", config->linear_value_heads, "linear_num_key_heads",
                         config->linear_key_heads));
    TRY(field_read_size(root, "linear_key_head_dim", MODEL_HEAD_DIM_MAX, &config->linear_key_dim));
    TRY(field_read_size(root, "linear_value_head_dim", MODEL_HEAD_DIM_MAX, &config->linear_value_dim));
    TRY(field_read_u32(root, "linear_conv_kernel_dim", 2, MODEL_CONV_TAPS_MAX, &config->conv_taps));
fail:
    return status;
}

static enum sluice_status parse_layer_type(const json_t *value, uint32_t layer, bool *full)
{
    const char *text = json_string_value(value);
    *full = text && strcmp(text, "full_attention") == 0;
    if (*full || (text && strcmp(text, "linear_attention") == 0))
        return SLUICE_OK;
    return error_set(SLUICE_ERR_UNSUPPORTED,
                     "config.json: \"layer_types\"[%u] is \"%.60s\"; supported are linear_attention and full_attention",
                     layer, text ? text : "not a string");
}

static enum sluice_status parse_layer_types(const json_t *root, struct model_config *config)
{
    const json_t *types = field_get(root, "layer_types");
    uint32_t interval;
    enum sluice_status status;
    if (types && (!json_is_array(types) || json_array_size(types) != config->layer_count))
        return field_refuse_type("layer_types", "an array with one string per layer (\"num_hidden_layers\")");
    TRY(field_read_u32_default(root, "full_attention_interval", 1, MODEL_LAYERS_MAX, 4, &interval));
    for (uint32_t i = 0; i < config->layer_count; i++) {
        config->layers[i].full_attention = (i + 1) % interval == 0;
        if (types)
            TRY(parse_layer_type(json_array_get(types, i), i, &config->layers[i].full_attention));
    }
fail:
    return status;
}

// Layer i has experts iff it is not in mlp_only_layers, there are any, and (i + 1) % decoder_sparse_step == 0.
static enum sluice_status parse_layer_moe(const json_t *root, struct model_config *config)
{
    const json_t *dense = field_get(root, "mlp_only_layers");
    uint32_t step, index = 0;
    enum sluice_status status;
    if (dense && !json_is_array(dense))
        return field_refuse_type("mlp_only_layers", "an array of layer numbers");
    TRY(field_read_u32_default(root, "decoder_sparse_step", 1, MODEL_LAYERS_MAX, 1, &step));
    TRY(field_read_u32(root, "num_experts", 0, MODEL_EXPERTS_MAX, &config->experts));
    for (uint32_t i = 0; i < config->layer_count; i++)
        config->layers[i].moe = config->experts > 0 && (i + 1) % step == 0;
    for (size_t i = 0; i < json_array_size(dense); i++) {
        TRY(field_to_u32(json_array_get(dense, i), "mlp_only_layers", 0, config->layer_count - 1, &index));
        config->layers[index].moe = false;
    }
fail:
    return status;
}

static void number_layers(struct model_config *config)
{
    for (uint32_t i = 0; i < config->layer_count; i++) {
        struct model_layer *layer = &config->layers[i];
        uint32_t *mixer_count = layer->full_attention ? &config->full_count : &config->linear_count;
        layer->mixer_index = (uint16_t)(*mixer_count)++;
        if (layer->moe)
            layer->moe_index = (uint16_t)config->moe_count++;
    }
}

static enum sluice_status parse_feed_forward(const json_t *root, struct model_config *config)
{
    enum sluice_status status;
    if (config->moe_count < config->layer_count)
        TRY(field_read_size(root, "intermediate_size", MODEL_HIDDEN_MAX, &config->dense_intermediate));
    if (config->moe_count == 0) {
        config->experts = 0;
        return SLUICE_OK;
    }
    TRY(field_read_u32(root, "num_experts_per_tok", 1, MODEL_TOP_K_MAX, &config->top_k));
    if (config->top_k > config->experts)
        return error_set(SLUICE_ERR_FORMAT, "config.json: \"num_experts_per_tok\" is %u, but \"num_experts\" only %u",
                         config->top_k, config->experts);
    TRY(field_read_size(root, "moe_intermediate_size", MODEL_HIDDEN_MAX, &config->expert_intermediate));
    TRY(field_read_size(root, "shared_expert_intermediate_size", MODEL_HIDDEN_MAX, &config->shared_intermediate));
    TRY(field_read_bool(root, "norm_topk_prob", true, &config->norm_topk_prob));
fail:
    return status;
}

static enum sluice_status parse_token_id(const json_t *value, const char *field, uint32_t vocab_size, int64_t *out)
{
    uint32_t id = 0;
    enum sluice_status status = field_to_u32(value, field, 0, vocab_size - 1, &id);
    if (status == SLUICE_OK)
        *out = id;
    return status;
}

static enum sluice_status parse_tokens(const json_t *root, struct model_config *config)
{
    const json_t *bos = field_get(root, "bos_token_id"), *eos = field_get(root, "eos_token_id");
    enum sluice_status status = SLUICE_OK;
    config->bos_id = -1;
    if (bos)
        TRY(parse_token_id(bos, "bos_token_id", config->vocab_size, &config->bos_id));
    if (!eos)
        return SLUICE_OK;
    size_t count = json_is_array(eos) ? json_array_size(eos) : 1;
    if (count > MODEL_EOS_MAX)
        return error_set(SLUICE_ERR_UNSUPPORTED, "config.json: \"eos_token_id\" has %zu entries; at most %d", count,
                         MODEL_EOS_MAX);
    for (; config->eos_count < count; config->eos_count++)
        TRY(parse_token_id(json_is_array(eos) ? json_array_get(eos, config->eos_count) : eos, "eos_token_id",
                           config->vocab_size, &config->eos_ids[config->eos_count]));
fail:
    return status;
}

static enum sluice_status parse_root(const json_t *root, struct model_config *config)
{
    double eps;
    enum sluice_status status;
    TRY(check_supported(root));
    TRY(parse_quantization(root, config));
    TRY(field_read_u32(root, "vocab_size", 1, MODEL_VOCAB_MAX, &config->vocab_size));
    TRY(field_read_size(root, "hidden_size", MODEL_HIDDEN_MAX, &config->hidden_size));
    TRY(field_read_u32(root, "num_hidden_layers", 1, MODEL_LAYERS_MAX, &config->layer_count));
    TRY(field_read_number(root, "rms_norm_eps", 1e-12, 0.1, NAN, &eps));
    config->norm_eps = (float)eps;
    TRY(parse_attention(root, config));
    TRY(parse_deltanet(root, config));
    TRY(parse_layer_types(root, config));
    TRY(parse_layer_moe(root, config));
    number_layers(config);
    TRY(parse_feed_forward(root, config));
    TRY(field_read_bool(root, "tie_word_embeddings", false, &config->tie_word_embeddings));
    TRY(parse_tokens(root, config));
fail:
    return status;
}

enum sluice_status model_config_parse(const char *text, size_t length, struct model_config *config)
{
    json_error_t error;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    memset(config, 0, sizeof *config);
    if (!root)
        return error_set(SLUICE_ERR_FORMAT, "config.json: not valid JSON: line %d: %s", error.line, error.text);
    enum sluice_status status = json_is_object(root) ? parse_root(root, config)
                                                     : error_set(SLUICE_ERR_FORMAT, "config.json: not a JSON object");
    json_decref(root);
    if (status != SLUICE_OK)
        memset(config, 0, sizeof *config);
    return status;
}
