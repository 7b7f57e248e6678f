#include "runtime/model/layout.h"

#include <stdio.h>
#include <string.h>

#include "quant/tile.h"
#include "runtime/base/check.h"
#include "runtime/base/integer.h"
#include "runtime/base/mem.h"

// --- the inventory as a table ---------------------------------------------------------------------------------------

enum scope { SCOPE_MODEL, SCOPE_HEAD, SCOPE_LAYER, SCOPE_LINEAR, SCOPE_FULL, SCOPE_DENSE, SCOPE_MOE };

enum dim {
    DIM_ONE,
    DIM_VOCAB,
    DIM_HIDDEN,
    DIM_QKVZ,
    DIM_BA,
    DIM_CONV,
    DIM_TAPS,
    DIM_VALUE_HEADS,
    DIM_VALUE_DIM,
    DIM_VALUES,
    DIM_QG,
    DIM_KV,
    DIM_ATTENTION,
    DIM_HEAD,
    DIM_DENSE,
    DIM_EXPERTS,
    DIM_SHARED,
    DIM_COUNT
};

static uint32_t dim_get(const struct model_config *c, enum dim dim)
{
    const uint32_t sizes[DIM_COUNT] = {
        [DIM_ONE] = 1,
        [DIM_VOCAB] = c->vocab_size,
        [DIM_HIDDEN] = c->hidden_size,
        [DIM_QKVZ] = model_qkvz_rows(c),
        [DIM_BA] = model_ba_rows(c),
        [DIM_CONV] = model_conv_channels(c),
        [DIM_TAPS] = c->conv_taps,
        [DIM_VALUE_HEADS] = c->linear_value_heads,
        [DIM_VALUE_DIM] = c->linear_value_dim,
        [DIM_VALUES] = model_linear_value_dim(c),
        [DIM_QG] = model_qg_rows(c),
        [DIM_KV] = model_kv_dim(c),
        [DIM_ATTENTION] = model_attention_dim(c),
        [DIM_HEAD] = c->head_dim,
        [DIM_DENSE] = c->dense_intermediate,
        [DIM_EXPERTS] = c->experts,
        [DIM_SHARED] = c->shared_intermediate,
    };
    return sizes[dim];
}

// How a source looks in the checkpoint: [cols], [rows, cols], or [rows, 1, cols].
enum form { FORM_VECTOR, FORM_MATRIX, FORM_CONV };

struct row {
    enum scope scope;
    const char *name;
    enum dim rows, cols;
    enum form form;
    enum model_tensor_kind kind;
    bool keep_float;
    const char *first, *second; // of a pair: the names of gate and up
};

#define VECTOR(scope, name, cols) scope, name, DIM_ONE, cols, FORM_VECTOR, MODEL_TENSOR_PLAIN, false, NULL, NULL
#define CONV(scope, name, rows, cols) scope, name, rows, cols, FORM_CONV, MODEL_TENSOR_PLAIN, false, NULL, NULL
#define MATRIX(scope, name, rows, cols) scope, name, rows, cols, FORM_MATRIX, MODEL_TENSOR_MATRIX, false, NULL, NULL
#define KEPT(scope, name, rows, cols) scope, name, rows, cols, FORM_MATRIX, MODEL_TENSOR_MATRIX, true, NULL, NULL
#define PAIR(scope, prefix, rows, cols)                                                      \
    scope, prefix ".gate_up_proj.weight", rows, cols, FORM_MATRIX, MODEL_TENSOR_PAIR, false, \
        prefix ".gate_proj.weight", prefix ".up_proj.weight"

// Container order: as a token goes through the model.
static const struct row table[] = {
    {MATRIX(SCOPE_MODEL, "model.embed_tokens.weight", DIM_VOCAB, DIM_HIDDEN)},
    {VECTOR(SCOPE_LAYER, "input_layernorm.weight", DIM_HIDDEN)},
    {MATRIX(SCOPE_LINEAR, "linear_attn.in_proj_qkvz.weight", DIM_QKVZ, DIM_HIDDEN)},
    {KEPT(SCOPE_LINEAR, "linear_attn.in_proj_ba.weight", DIM_BA, DIM_HIDDEN)},
    {CONV(SCOPE_LINEAR, "linear_attn.conv1d.weight", DIM_CONV, DIM_TAPS)},
    {VECTOR(SCOPE_LINEAR, "linear_attn.A_log", DIM_VALUE_HEADS)},
    {VECTOR(SCOPE_LINEAR, "linear_attn.dt_bias", DIM_VALUE_HEADS)},
    {VECTOR(SCOPE_LINEAR, "linear_attn.norm.weight", DIM_VALUE_DIM)},
    {MATRIX(SCOPE_LINEAR, "linear_attn.out_proj.weight", DIM_HIDDEN, DIM_VALUES)},
    {MATRIX(SCOPE_FULL, "self_attn.q_proj.weight", DIM_QG, DIM_HIDDEN)},
    {MATRIX(SCOPE_FULL, "self_attn.k_proj.weight", DIM_KV, DIM_HIDDEN)},
    {MATRIX(SCOPE_FULL, "self_attn.v_proj.weight", DIM_KV, DIM_HIDDEN)},
    {VECTOR(SCOPE_FULL, "self_attn.q_norm.weight", DIM_HEAD)},
    {VECTOR(SCOPE_FULL, "self_attn.k_norm.weight", DIM_HEAD)},
    {MATRIX(SCOPE_FULL, "self_attn.o_proj.weight", DIM_HIDDEN, DIM_ATTENTION)},
    {VECTOR(SCOPE_LAYER, "post_attention_layernorm.weight", DIM_HIDDEN)},
    {PAIR(SCOPE_DENSE, "mlp", DIM_DENSE, DIM_HIDDEN)},
    {MATRIX(SCOPE_DENSE, "mlp.down_proj.weight", DIM_HIDDEN, DIM_DENSE)},
    {KEPT(SCOPE_MOE, "mlp.gate.weight", DIM_EXPERTS, DIM_HIDDEN)},
    {KEPT(SCOPE_MOE, "mlp.shared_expert_gate.weight", DIM_ONE, DIM_HIDDEN)},
    {PAIR(SCOPE_MOE, "mlp.shared_expert", DIM_SHARED, DIM_HIDDEN)},
    {MATRIX(SCOPE_MOE, "mlp.shared_expert.down_proj.weight", DIM_HIDDEN, DIM_SHARED)},
    {VECTOR(SCOPE_MODEL, "model.norm.weight", DIM_HIDDEN)},
    {MATRIX(SCOPE_HEAD, "lm_head.weight", DIM_VOCAB, DIM_HIDDEN)},
};

enum { TABLE_COUNT = sizeof table / sizeof *table, TABLE_LAYER_BEGIN = 1, TABLE_LAYER_END = TABLE_COUNT - 2 };

static bool scope_has(const struct model_config *config, const struct model_layer *layer, enum scope scope)
{
    switch (scope) {
    case SCOPE_MODEL:
        return true;
    case SCOPE_HEAD:
        return !config->tie_word_embeddings;
    case SCOPE_LAYER:
        return layer != NULL;
    case SCOPE_LINEAR:
        return layer && !layer->full_attention;
    case SCOPE_FULL:
        return layer && layer->full_attention;
    case SCOPE_DENSE:
        return layer && !layer->moe;
    case SCOPE_MOE:
        return layer && layer->moe;
    }
    check_failed("scope", __FILE__, __LINE__);
}

// --- building -------------------------------------------------------------------------------------------------------

static void name_print(char *out, const struct model_layout *layout, const struct model_layer *layer,
                       const char *suffix)
{
    int length =
        layer ? snprintf(out, MODEL_NAME_BYTES, "model.layers.%d.%s", (int)(layer - layout->config.layers), suffix)
              : snprintf(out, MODEL_NAME_BYTES, "%s", suffix);
    CHECK(length > 0 && length < MODEL_NAME_BYTES);
}

static void source_set_shape(struct model_source *source, enum form form, uint32_t rows, uint32_t cols)
{
    const struct model_source forms[] = {
        [FORM_VECTOR] = {.rank = 1, .shape = {cols}},
        [FORM_MATRIX] = {.rank = 2, .shape = {rows, cols}},
        [FORM_CONV] = {.rank = 3, .shape = {rows, 1, cols}},
    };
    source->rank = forms[form].rank;
    memcpy(source->shape, forms[form].shape, sizeof source->shape);
}

static void tensor_add(struct model_layout *layout, const struct model_layer *layer, const struct row *row)
{
    struct model_tensor *tensor = &layout->tensors[layout->tensor_count++];
    const char *names[2] = {row->first ? row->first : row->name, row->second};
    tensor->kind = row->kind;
    tensor->keep_float = row->keep_float;
    tensor->rows = dim_get(&layout->config, row->rows);
    tensor->cols = dim_get(&layout->config, row->cols);
    tensor->source_count = row->second ? 2 : 1;
    name_print(tensor->name, layout, layer, row->name);
    for (uint32_t i = 0; i < tensor->source_count; i++) {
        name_print(tensor->sources[i].name, layout, layer, names[i]);
        source_set_shape(&tensor->sources[i], row->form, tensor->rows, tensor->cols);
    }
    layout->trunk_source_count += tensor->source_count;
}

static void rows_add(struct model_layout *layout, const struct model_layer *layer, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++)
        if (scope_has(&layout->config, layer, table[i].scope))
            tensor_add(layout, layer, &table[i]);
}

enum sluice_status model_layout_create(const struct model_config *config, struct model_layout **out)
{
    struct model_layout *layout = mem_alloc(1, sizeof *layout);
    *out = NULL;
    if (!layout)
        return SLUICE_ERR_MEMORY;
    layout->config = *config;
    layout->tensors = mem_alloc((size_t)(config->layer_count + 1) * TABLE_COUNT, sizeof *layout->tensors);
    if (!layout->tensors) {
        model_layout_destroy(layout);
        return SLUICE_ERR_MEMORY;
    }
    rows_add(layout, NULL, 0, TABLE_LAYER_BEGIN);
    for (uint32_t i = 0; i < config->layer_count; i++)
        rows_add(layout, &layout->config.layers[i], TABLE_LAYER_BEGIN, TABLE_LAYER_END);
    rows_add(layout, NULL, TABLE_LAYER_END, TABLE_COUNT);
    layout->source_count =
        layout->trunk_source_count + (size_t)config->moe_count * config->experts * MODEL_EXPERT_PART_COUNT;
    *out = layout;
    return SLUICE_OK;
}

void model_layout_destroy(struct model_layout *layout)
{
    if (!layout)
        return;
    mem_free(layout->tensors);
    mem_free(layout);
}

// --- sources --------------------------------------------------------------------------------------------------------

uint32_t model_layout_moe_layer(const struct model_layout *layout, uint32_t moe_index)
{
    CHECK(moe_index < layout->config.moe_count);
    uint32_t i = 0;
    while (!layout->config.layers[i].moe || layout->config.layers[i].moe_index != moe_index)
        i++;
    return i;
}

void model_expert_source(const struct model_layout *layout, uint32_t layer, uint32_t expert,
                         enum model_expert_part part, struct model_source *source)
{
    static const char *const names[MODEL_EXPERT_PART_COUNT] = {"gate", "up", "down"};
    const struct model_config *config = &layout->config;
    CHECK(layer < config->layer_count && config->layers[layer].moe && expert < config->experts);
    CHECK(part < MODEL_EXPERT_PART_COUNT);
    bool down = part == MODEL_EXPERT_DOWN;
    snprintf(source->name, sizeof source->name, "model.layers.%u.mlp.experts.%u.%s_proj.weight", layer, expert,
             names[part]);
    source->rank = 2;
    source->shape[0] = down ? config->hidden_size : config->expert_intermediate;
    source->shape[1] = down ? config->expert_intermediate : config->hidden_size;
    source->shape[2] = 0;
}

static void trunk_source(const struct model_layout *layout, size_t index, struct model_source *source)
{
    size_t tensor = 0;
    while (index >= layout->tensors[tensor].source_count)
        index -= layout->tensors[tensor++].source_count;
    *source = layout->tensors[tensor].sources[index];
}

uint64_t model_source_elements(const struct model_source *source)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < source->rank; i++)
        count *= source->shape[i];
    return count;
}

void model_layout_source(const struct model_layout *layout, size_t index, struct model_source *source)
{
    CHECK(index < layout->source_count);
    if (index < layout->trunk_source_count) {
        trunk_source(layout, index, source);
        return;
    }
    size_t rest = index - layout->trunk_source_count;
    size_t per_layer = (size_t)layout->config.experts * MODEL_EXPERT_PART_COUNT;
    model_expert_source(layout, model_layout_moe_layer(layout, (uint32_t)(rest / per_layer)),
                        (uint32_t)(rest % per_layer / MODEL_EXPERT_PART_COUNT),
                        (enum model_expert_part)(rest % MODEL_EXPERT_PART_COUNT), source);
}

// --- number formats -------------------------------------------------------------------------------------------------

struct model_recipe model_recipe_default(enum quant_type experts)
{
    const struct quant_format *format = quant_format_get(experts);
    CHECK(format != NULL);
    return (struct model_recipe){.experts = experts, .trunk = format->is_float ? experts : QUANT_Q8_0};
}

enum sluice_status model_recipe_from_names(const char *experts, const char *trunk, struct model_recipe *recipe)
{
    enum quant_type type = QUANT_Q4_K;
    enum sluice_status status;
    if (experts)
        TRY(quant_type_from_name(experts, &type));
    *recipe = model_recipe_default(type);
    if (trunk)
        TRY(quant_type_from_name(trunk, &recipe->trunk));
    return SLUICE_OK;
fail:
    return status;
}

enum quant_type model_type_for_cols(enum quant_type wanted, uint32_t cols)
{
    if (quant_tile_bytes(wanted, 1, cols) != 0)
        return wanted;
    return wanted != QUANT_Q8_0 && quant_tile_bytes(QUANT_Q8_0, 1, cols) != 0 ? QUANT_Q8_0 : QUANT_BF16;
}

enum quant_type model_tensor_type(const struct model_tensor *tensor, const struct model_recipe *recipe,
                                  enum quant_type source)
{
    if (tensor->kind == MODEL_TENSOR_PLAIN)
        return QUANT_F32;
    return tensor->keep_float ? source : model_type_for_cols(recipe->trunk, tensor->cols);
}

uint32_t model_tensor_stored_rows(const struct model_tensor *tensor)
{
    return tensor->kind == MODEL_TENSOR_PAIR ? 2 * u32_round_up(tensor->rows, QUANT_TILE_ROWS) : tensor->rows;
}

uint64_t model_tensor_bytes(const struct model_tensor *tensor, enum quant_type type)
{
    if (tensor->kind == MODEL_TENSOR_PLAIN)
        return (uint64_t)tensor->rows * tensor->cols * sizeof(float);
    return quant_tile_bytes(type, model_tensor_stored_rows(tensor), tensor->cols);
}

struct model_expert_layout model_expert_layout(const struct model_config *config, const struct model_recipe *recipe)
{
    struct model_expert_layout e = {0};
    if (config->moe_count == 0)
        return e;
    uint32_t hidden = config->hidden_size, inter = config->expert_intermediate;
    e.gate_up_type = model_type_for_cols(recipe->experts, hidden);
    e.down_type = model_type_for_cols(recipe->experts, inter);
    e.gate_up_bytes = 2 * quant_tile_bytes(e.gate_up_type, inter, hidden);
    e.down_offset = u64_round_up(e.gate_up_bytes, MODEL_EXPERT_PART_ALIGN);
    e.down_bytes = quant_tile_bytes(e.down_type, hidden, inter);
    e.record_bytes = u64_round_up(e.down_offset + e.down_bytes, MODEL_EXPERT_RECORD_ALIGN);
    return e;
}
