#include "runtime/model/shape.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"

// Qwen3-Next-80B-A3B-Instruct as published.
static const char qwen3_next_80b[] = "{\n"
                                     "  \"architectures\": [\"Qwen3NextForCausalLM\"],\n"
                                     "  \"attention_dropout\": 0.0,\n"
                                     "  \"bos_token_id\": 151643,\n"
                                     "  \"decoder_sparse_step\": 1,\n"
                                     "  \"eos_token_id\": 151645,\n"
                                     "  \"full_attention_interval\": 4,\n"
                                     "  \"head_dim\": 256,\n"
                                     "  \"hidden_act\": \"silu\",\n"
                                     "  \"hidden_size\": 2048,\n"
                                     "  \"initializer_range\": 0.02,\n"
                                     "  \"intermediate_size\": 5120,\n"
                                     "  \"linear_conv_kernel_dim\": 4,\n"
                                     "  \"linear_key_head_dim\": 128,\n"
                                     "  \"linear_num_key_heads\": 16,\n"
                                     "  \"linear_num_value_heads\": 32,\n"
                                     "  \"linear_value_head_dim\": 128,\n"
                                     "  \"max_position_embeddings\": 262144,\n"
                                     "  \"mlp_only_layers\": [],\n"
                                     "  \"model_type\": \"qwen3_next\",\n"
                                     "  \"moe_intermediate_size\": 512,\n"
                                     "  \"norm_topk_prob\": true,\n"
                                     "  \"num_attention_heads\": 16,\n"
                                     "  \"num_experts\": 512,\n"
                                     "  \"num_experts_per_tok\": 10,\n"
                                     "  \"num_hidden_layers\": 48,\n"
                                     "  \"num_key_value_heads\": 2,\n"
                                     "  \"output_router_logits\": false,\n"
                                     "  \"partial_rotary_factor\": 0.25,\n"
                                     "  \"rms_norm_eps\": 1e-06,\n"
                                     "  \"rope_scaling\": null,\n"
                                     "  \"rope_theta\": 10000000,\n"
                                     "  \"router_aux_loss_coef\": 0.001,\n"
                                     "  \"shared_expert_intermediate_size\": 512,\n"
                                     "  \"tie_word_embeddings\": false,\n"
                                     "  \"torch_dtype\": \"bfloat16\",\n"
                                     "  \"transformers_version\": \"4.57.0.dev0\",\n"
                                     "  \"use_cache\": true,\n"
                                     "  \"use_sliding_window\": false,\n"
                                     "  \"vocab_size\": 151936\n"
                                     "}\n";

static const struct shape {
    const char *name, *config;
} shapes[] = {{"qwen3-next-80b", qwen3_next_80b}};

enum sluice_status model_shape_find(const char *name, const char **config)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (strcmp(shapes[i].name, name) == 0) {
            *config = shapes[i].config;
            return SLUICE_OK;
        }
    }
    return error_set(SLUICE_ERR_ARGUMENT, "there is no shape \"%s\"; known is %s", name, shapes[0].name);
}

// Lists of layers: one entry per layer, and layer numbers.
static void cut_lists(json_t *root, uint32_t layers)
{
    json_t *types = json_object_get(root, "layer_types"), *dense = json_object_get(root, "mlp_only_layers");
    while (json_array_size(types) > layers)
        json_array_remove(types, json_array_size(types) - 1);
    for (size_t i = json_array_size(dense); i-- > 0;)
        if (json_integer_value(json_array_get(dense, i)) >= layers)
            json_array_remove(dense, i);
}

static enum sluice_status slice(json_t *root, uint32_t layers)
{
    json_t *count = json_object_get(root, "num_hidden_layers");
    if (!json_is_integer(count))
        return error_set(SLUICE_ERR_FORMAT, "config.json: no JSON object with num_hidden_layers");
    if (layers == 0 || layers > json_integer_value(count))
        return error_set(SLUICE_ERR_ARGUMENT, "a slice of %u layers: the model has %lld", layers,
                         (long long)json_integer_value(count));
    json_integer_set(count, layers);
    cut_lists(root, layers);
    return SLUICE_OK;
}

enum sluice_status model_shape_slice(const char *config, size_t bytes, uint32_t layers, char **out, size_t *out_bytes)
{
    char *text = NULL;
    enum sluice_status status;
    *out = NULL;
    json_t *root = json_loadb(config, bytes, 0, NULL);
    TRY(slice(root, layers));
    text = json_dumps(root, JSON_INDENT(2));
    TRY(text ? SLUICE_OK : error_set(SLUICE_ERR_MEMORY, "out of memory"));
    *out_bytes = strlen(text);
    *out = mem_strndup(text, *out_bytes); // jansson's memory belongs to another allocator
    TRY(*out ? SLUICE_OK : SLUICE_ERR_MEMORY);
fail:
    free(text);
    json_decref(root);
    return status;
}
