#include "runtime/model/weights.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "quant/tile.h"
#include "runtime/base/check.h"
#include "runtime/base/integer.h"
#include "runtime/base/mem.h"
#include "runtime/model/stager.h"

enum { NAME_BYTES = 160, STAGING_BYTES = 16 << 20 };

// One upload: bytes [offset, offset + place bytes) of a container tensor go to a place of the slab.
struct piece {
    const struct container_tensor *source;
    uint64_t offset;
    uint32_t place;
    struct gpu_range *vector; // where the range is wanted, or
    struct tensor_part *part; // the part of a matrix
};

// What is being loaded: names are looked up and places planned first, bytes are moved afterwards.
struct loader {
    struct gpu_device *device;
    const struct container *container;
    struct weights *weights;
    uint32_t piece_count, piece_capacity;
    struct piece *pieces; // in file order of planning, owned
};

static enum sluice_status add_piece(struct loader *loader, struct piece piece, uint64_t bytes)
{
    if (loader->piece_count == loader->piece_capacity) {
        uint32_t capacity = loader->piece_capacity ? 2 * loader->piece_capacity : 256;
        struct piece *grown = mem_realloc(loader->pieces, capacity, sizeof *grown);
        if (!grown)
            return SLUICE_ERR_MEMORY;
        loader->pieces = grown;
        loader->piece_capacity = capacity;
    }
    enum sluice_status status = slab_plan(&loader->weights->slab, bytes, &piece.place);
    if (status == SLUICE_OK)
        loader->pieces[loader->piece_count++] = piece;
    return status;
}

static enum sluice_status find(struct loader *loader, enum container_layout layout, uint64_t rows, uint64_t cols,
                               const struct container_tensor **found, const char *format, va_list arguments)
    __attribute__((format(printf, 6, 0)));

// The tensor of that name, if its layout and shape are the ones asked for.
static enum sluice_status find(struct loader *loader, enum container_layout layout, uint64_t rows, uint64_t cols,
                               const struct container_tensor **found, const char *format, va_list arguments)
{
    char name[NAME_BYTES];
    vsnprintf(name, sizeof name, format, arguments);
    const struct container_tensor *t = container_tensor_find(loader->container, name);
    const char *path = container_path(loader->container);
    if (!t)
        return error_set(SLUICE_ERR_FORMAT, "%s: tensor %s is missing; convert the checkpoint again", path, name);
    if (t->layout != layout || t->rows != rows || t->cols != cols)
        return error_set(SLUICE_ERR_FORMAT,
                         "%s: tensor %s is %s [%" PRIu64 ", %" PRIu64 "], but config.json calls for %s [%" PRIu64
                         ", %" PRIu64 "]; convert the checkpoint again",
                         path, name, t->layout == CONTAINER_LAYOUT_TILES ? "tiles" : "plain", t->rows, t->cols,
                         layout == CONTAINER_LAYOUT_TILES ? "tiles" : "plain", rows, cols);
    uint64_t bytes = layout == CONTAINER_LAYOUT_TILES ? 0 : rows * cols * sizeof(float);
    if (layout == CONTAINER_LAYOUT_TILES && quant_format_get((enum quant_type)t->type_id))
        bytes = quant_tile_bytes((enum quant_type)t->type_id, rows, cols);
    else if (layout == CONTAINER_LAYOUT_PLAIN && t->type_id != QUANT_F32)
        bytes = 0;
    if (!bytes || bytes != t->bytes)
        return error_set(SLUICE_ERR_FORMAT,
                         "%s: tensor %s: %" PRIu64 " bytes of type %" PRIu32
                         " do not fit its shape; convert the checkpoint again",
                         path, name, t->bytes, t->type_id);
    *found = t;
    return SLUICE_OK;
}

static enum sluice_status plan_vector(struct loader *loader, struct gpu_range *range, uint64_t rows, uint64_t cols,
                                      const char *format, ...) __attribute__((format(printf, 5, 6)));

// A plain f32 tensor [rows, cols].
static enum sluice_status plan_vector(struct loader *loader, struct gpu_range *range, uint64_t rows, uint64_t cols,
                                      const char *format, ...)
{
    va_list arguments;
    const struct container_tensor *t = NULL;
    va_start(arguments, format);
    enum sluice_status status = find(loader, CONTAINER_LAYOUT_PLAIN, rows, cols, &t, format, arguments);
    va_end(arguments);
    if (status < 0)
        return status;
    return add_piece(loader, (struct piece){.source = t, .vector = range}, t->bytes);
}

static enum sluice_status plan_matrix(struct loader *loader, struct tensor *tensor, uint64_t rows, uint64_t cols,
                                      const char *format, ...) __attribute__((format(printf, 5, 6)));

// A matrix in tiles, cut into parts of whole row tiles where one binding cannot hold it.
static enum sluice_status plan_matrix(struct loader *loader, struct tensor *tensor, uint64_t rows, uint64_t cols,
                                      const char *format, ...)
{
    va_list arguments;
    const struct container_tensor *t = NULL;
    va_start(arguments, format);
    enum sluice_status status = find(loader, CONTAINER_LAYOUT_TILES, rows, cols, &t, format, arguments);
    va_end(arguments);
    if (status < 0)
        return status;
    enum quant_type type = (enum quant_type)t->type_id;
    uint64_t tile_bytes = quant_tile_bytes(type, QUANT_TILE_ROWS, cols);
    uint64_t tiles_max =
        slab_range_bytes_max(&loader->weights->slab) / tile_bytes & ~(uint64_t)1; // pairs stay together
    uint64_t tiles = t->bytes / tile_bytes;
    if (tiles_max == 0)
        return error_set(SLUICE_ERR_BUDGET, "%s: one row tile (%" PRIu64 " bytes) exceeds the device's largest binding",
                         t->name, tile_bytes);
    uint32_t part_count = (uint32_t)u64_divide_up(tiles, tiles_max);
    *tensor = (struct tensor){.type = type, .rows = (uint32_t)rows, .cols = (uint32_t)cols};
    tensor->parts = mem_alloc(part_count, sizeof *tensor->parts);
    if (!tensor->parts)
        return SLUICE_ERR_MEMORY;
    tensor->part_count = part_count;
    for (uint32_t i = 0; i < part_count; i++) {
        uint64_t first = i * tiles_max, count = tiles - first < tiles_max ? tiles - first : tiles_max;
        uint64_t row0 = first * QUANT_TILE_ROWS, row_end = (first + count) * QUANT_TILE_ROWS;
        tensor->parts[i].row0 = (uint32_t)row0;
        tensor->parts[i].rows = (uint32_t)((row_end < rows ? row_end : rows) - row0);
        struct piece piece = {.source = t, .offset = first * tile_bytes, .part = &tensor->parts[i]};
        status = add_piece(loader, piece, count * tile_bytes);
        if (status < 0)
            return status;
    }
    return SLUICE_OK;
}

static enum sluice_status plan_ffn(struct loader *loader, struct weights_ffn *ffn, uint32_t hidden, uint32_t inter,
                                   const char *prefix)
{
    uint64_t pair_rows = 2 * u64_round_up(inter, QUANT_TILE_ROWS);
    ffn->inter = inter;
    enum sluice_status status = plan_matrix(loader, &ffn->gate_up, pair_rows, hidden, "%s.gate_up_proj.weight", prefix);
    if (status < 0)
        return status;
    return plan_matrix(loader, &ffn->down, hidden, inter, "%s.down_proj.weight", prefix);
}

static enum sluice_status plan_linear(struct loader *loader, const struct model_config *c, struct weights_layer *l,
                                      uint32_t layer)
{
    enum sluice_status status;
    uint32_t hidden = c->hidden_size, heads = c->linear_value_heads;
    TRY(plan_matrix(loader, &l->qkvz, model_qkvz_rows(c), hidden, "model.layers.%u.linear_attn.in_proj_qkvz.weight",
                    layer));
    TRY(plan_matrix(loader, &l->ba, model_ba_rows(c), hidden, "model.layers.%u.linear_attn.in_proj_ba.weight", layer));
    l->ba.exact = true;
    TRY(plan_matrix(loader, &l->linear_out, hidden, model_linear_value_dim(c),
                    "model.layers.%u.linear_attn.out_proj.weight", layer));
    TRY(plan_vector(loader, &l->conv, model_conv_channels(c), c->conv_taps, "model.layers.%u.linear_attn.conv1d.weight",
                    layer));
    TRY(plan_vector(loader, &l->a_log, 1, heads, "model.layers.%u.linear_attn.A_log", layer));
    TRY(plan_vector(loader, &l->dt_bias, 1, heads, "model.layers.%u.linear_attn.dt_bias", layer));
    TRY(plan_vector(loader, &l->linear_norm, 1, c->linear_value_dim, "model.layers.%u.linear_attn.norm.weight", layer));
fail:
    return status;
}

static enum sluice_status plan_attention(struct loader *loader, const struct model_config *c, struct weights_layer *l,
                                         uint32_t layer)
{
    enum sluice_status status;
    uint32_t hidden = c->hidden_size;
    TRY(plan_matrix(loader, &l->q, model_qg_rows(c), hidden, "model.layers.%u.self_attn.q_proj.weight", layer));
    TRY(plan_matrix(loader, &l->k, model_kv_dim(c), hidden, "model.layers.%u.self_attn.k_proj.weight", layer));
    TRY(plan_matrix(loader, &l->v, model_kv_dim(c), hidden, "model.layers.%u.self_attn.v_proj.weight", layer));
    TRY(plan_matrix(loader, &l->attention_out, hidden, model_attention_dim(c),
                    "model.layers.%u.self_attn.o_proj.weight", layer));
    TRY(plan_vector(loader, &l->q_norm, 1, c->head_dim, "model.layers.%u.self_attn.q_norm.weight", layer));
    TRY(plan_vector(loader, &l->k_norm, 1, c->head_dim, "model.layers.%u.self_attn.k_norm.weight", layer));
fail:
    return status;
}

static enum sluice_status plan_moe(struct loader *loader, const struct model_config *c, struct weights_layer *l,
                                   uint32_t layer)
{
    enum sluice_status status;
    char prefix[NAME_BYTES / 2];
    TRY(plan_matrix(loader, &l->router, c->experts, c->hidden_size, "model.layers.%u.mlp.gate.weight", layer));
    TRY(plan_matrix(loader, &l->shared_gate, 1, c->hidden_size, "model.layers.%u.mlp.shared_expert_gate.weight",
                    layer));
    l->router.exact = l->shared_gate.exact = true;
    snprintf(prefix, sizeof prefix, "model.layers.%u.mlp.shared_expert", layer);
    TRY(plan_ffn(loader, &l->shared, c->hidden_size, c->shared_intermediate, prefix));
fail:
    return status;
}

static enum sluice_status plan_layer(struct loader *loader, const struct model_config *c, uint32_t layer)
{
    enum sluice_status status;
    struct weights_layer *l = &loader->weights->layers[layer];
    TRY(plan_vector(loader, &l->input_norm, 1, c->hidden_size, "model.layers.%u.input_layernorm.weight", layer));
    TRY(plan_vector(loader, &l->post_norm, 1, c->hidden_size, "model.layers.%u.post_attention_layernorm.weight",
                    layer));
    TRY(c->layers[layer].full_attention ? plan_attention(loader, c, l, layer) : plan_linear(loader, c, l, layer));
    if (c->layers[layer].moe) {
        TRY(plan_moe(loader, c, l, layer));
    } else {
        char prefix[NAME_BYTES / 2];
        snprintf(prefix, sizeof prefix, "model.layers.%u.mlp", layer);
        TRY(plan_ffn(loader, &l->dense, c->hidden_size, c->dense_intermediate, prefix));
    }
fail:
    return status;
}

static enum sluice_status plan_all(struct loader *loader, const struct model_config *c)
{
    enum sluice_status status;
    struct weights *w = loader->weights;
    w->layers = mem_alloc(c->layer_count, sizeof *w->layers);
    if (!w->layers)
        return SLUICE_ERR_MEMORY;
    TRY(plan_matrix(loader, &w->embed, c->vocab_size, c->hidden_size, "model.embed_tokens.weight"));
    w->head_is_embed = c->tie_word_embeddings;
    if (!w->head_is_embed)
        TRY(plan_matrix(loader, &w->head, c->vocab_size, c->hidden_size, "lm_head.weight"));
    TRY(plan_vector(loader, &w->final_norm, 1, c->hidden_size, "model.norm.weight"));
    for (uint32_t layer = 0; layer < c->layer_count; layer++)
        TRY(plan_layer(loader, c, layer));
fail:
    return status;
}

// --- upload ---------------------------------------------------------------------------------------------------------

// Where the stream of one tensor goes: its pieces, in order of offset.
struct destination {
    struct stager *stager;
    const struct slab *slab;
    const struct piece *pieces;
    uint32_t count;
};

static enum sluice_status receive(void *user, uint64_t offset, const void *data, size_t bytes)
{
    const struct destination *d = user;
    for (uint32_t i = 0; i < d->count; i++) {
        struct gpu_range range = slab_range(d->slab, d->pieces[i].place);
        uint64_t first = d->pieces[i].offset, last = first + range.bytes;
        uint64_t begin = offset > first ? offset : first, end = offset + bytes < last ? offset + bytes : last;
        if (begin >= end)
            continue;
        enum sluice_status status = stager_put(d->stager, (const uint8_t *)data + (begin - offset),
                                               gpu_range_part(range, begin - first, end - begin));
        if (status < 0)
            return status;
    }
    return SLUICE_OK;
}

static enum sluice_status upload_pieces(struct loader *loader, struct stager *stager, void *buffer)
{
    for (uint32_t i = 0; i < loader->piece_count;) {
        struct destination d = {stager, &loader->weights->slab, &loader->pieces[i], 0};
        const struct container_tensor *source = loader->pieces[i].source;
        for (; i < loader->piece_count && loader->pieces[i].source == source; i++, d.count++) {
            struct gpu_range range = slab_range(&loader->weights->slab, loader->pieces[i].place);
            if (loader->pieces[i].part)
                loader->pieces[i].part->range = range;
            else
                *loader->pieces[i].vector = range;
        }
        enum sluice_status status =
            container_tensor_stream(loader->container, source, buffer, STAGING_BYTES, receive, &d);
        if (status < 0)
            return status;
    }
    return stager_flush(stager);
}

static enum sluice_status upload_all(struct loader *loader, const struct model_config *config, uint32_t frequency_place)
{
    enum sluice_status status;
    struct weights *w = loader->weights;
    uint64_t largest = slab_range_bytes_max(&w->slab) / 4 * 4;
    struct stager stager = {.device = NULL};
    void *buffer = mem_alloc(STAGING_BYTES, 1);
    if (!buffer)
        return SLUICE_ERR_MEMORY;
    float frequencies[MODEL_HEAD_DIM_MAX / 2];
    model_config_rope(config, frequencies, &w->rotary_scale);
    TRY(slab_allocate(&w->slab));
    TRY(stager_create(loader->device, u64_min(largest, STAGING_BYTES), "trunk staging", &stager));
    w->frequencies = slab_range(&w->slab, frequency_place);
    TRY(stager_put(&stager, frequencies, w->frequencies));
    TRY(upload_pieces(loader, &stager, buffer));
    if (w->head_is_embed)
        w->head = w->embed;
fail:
    stager_finish(&stager);
    mem_free(buffer);
    return status;
}

static enum sluice_status plan_with_frequencies(struct loader *loader, const struct model_config *config,
                                                uint32_t *place)
{
    slab_init(&loader->weights->slab, loader->device, GPU_MEMORY_DEVICE, "trunk");
    enum sluice_status status = plan_all(loader, config);
    if (status < 0)
        return status;
    return slab_plan(&loader->weights->slab, config->rotary_dim / 2 * sizeof(float), place);
}

static void finish_layer(struct weights_layer *l)
{
    struct tensor *tensors[] = {&l->qkvz,
                                &l->ba,
                                &l->linear_out,
                                &l->q,
                                &l->k,
                                &l->v,
                                &l->router,
                                &l->shared_gate,
                                &l->attention_out,
                                &l->shared.gate_up,
                                &l->shared.down,
                                &l->dense.gate_up,
                                &l->dense.down};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        mem_free(tensors[i]->parts);
}

void weights_finish(struct weights *weights)
{
    for (uint32_t i = 0; weights->layers && i < weights->layer_count; i++)
        finish_layer(&weights->layers[i]);
    mem_free(weights->layers);
    if (!weights->head_is_embed)
        mem_free(weights->head.parts);
    mem_free(weights->embed.parts);
    slab_finish(&weights->slab);
    memset(weights, 0, sizeof *weights);
}

enum sluice_status weights_load(struct gpu_device *device, const struct container *container,
                                const struct model_config *config, struct weights *weights)
{
    memset(weights, 0, sizeof *weights);
    weights->layer_count = config->layer_count;
    struct loader loader = {.device = device, .container = container, .weights = weights};
    uint32_t frequency_place;
    enum sluice_status status = plan_with_frequencies(&loader, config, &frequency_place);
    if (status == SLUICE_OK)
        status = upload_all(&loader, config, frequency_place);
    mem_free(loader.pieces);
    if (status < 0)
        weights_finish(weights);
    return status;
}

enum sluice_status weights_bytes(struct gpu_device *device, const struct container *container,
                                 const struct model_config *config, uint64_t *bytes)
{
    struct weights weights = {.layer_count = config->layer_count};
    struct loader loader = {.device = device, .container = container, .weights = &weights};
    uint32_t frequency_place;
    enum sluice_status status = plan_with_frequencies(&loader, config, &frequency_place);
    *bytes = weights.slab.bytes;
    mem_free(loader.pieces);
    weights_finish(&weights);
    return status;
}
