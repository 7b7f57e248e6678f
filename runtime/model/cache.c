#include "runtime/model/cache.h"

#include <string.h>

#include "runtime/base/integer.h"
#include "runtime/base/mem.h"

// Tokens of one KV segment: as many whole blocks as one binding holds, no more than the capacity needs.
static uint32_t segment_tokens(const struct cache *cache, const struct model_config *config, enum kv_type kv)
{
    uint64_t blocks = slab_range_bytes_max(&cache->slab) / (config->kv_heads * kv_block_bytes(kv, config->head_dim));
    uint64_t wanted = u64_divide_up(cache->capacity, KV_BLOCK);
    return (uint32_t)(blocks < wanted ? blocks : wanted) * KV_BLOCK;
}

// Places are remembered in plan order and turned into ranges in the same order after the allocation.
static enum sluice_status plan_full(struct cache *cache, const struct model_config *config, enum kv_type kv,
                                    struct cache_layer *layer)
{
    uint32_t tokens = segment_tokens(cache, config, kv), place;
    if (kv == KV_Q8 && config->head_dim % 32 != 0)
        return error_set(SLUICE_ERR_ARGUMENT, "--kv q8: the model's head size %u is no multiple of 32; use f16",
                         config->head_dim);
    if (tokens == 0)
        return error_set(SLUICE_ERR_BUDGET, "one block of the KV cache exceeds the device's largest binding");
    layer->segment_count = u32_divide_up(cache->capacity, tokens);
    layer->segments = mem_alloc(layer->segment_count, sizeof *layer->segments);
    if (!layer->segments)
        return SLUICE_ERR_MEMORY;
    for (uint32_t i = 0; i < layer->segment_count; i++) {
        uint32_t first = i * tokens, left = cache->capacity - first;
        uint32_t here = left < tokens ? u32_round_up(left, KV_BLOCK) : tokens;
        uint64_t bytes = here / KV_BLOCK * config->kv_heads * kv_block_bytes(kv, config->head_dim);
        layer->segments[i].first = first;
        layer->segments[i].capacity = here;
        enum sluice_status status = slab_plan(&cache->slab, bytes, &place);
        if (status == SLUICE_OK)
            status = slab_plan(&cache->slab, bytes, &place);
        if (status < 0)
            return status;
    }
    return SLUICE_OK;
}

static enum sluice_status plan_linear(struct cache *cache, const struct model_config *config)
{
    uint32_t place;
    uint64_t state = (uint64_t)config->linear_value_heads * config->linear_key_dim * config->linear_value_dim * 4;
    uint64_t conv = (uint64_t)model_conv_channels(config) * (config->conv_taps - 1) * 4;
    enum sluice_status status = slab_plan(&cache->slab, state, &place);
    return status < 0 ? status : slab_plan(&cache->slab, conv, &place);
}

static enum sluice_status plan(struct gpu_device *device, const struct model_config *config, enum kv_type kv,
                               uint32_t capacity, struct cache *cache)
{
    memset(cache, 0, sizeof *cache);
    slab_init(&cache->slab, device, GPU_MEMORY_DEVICE, "session cache");
    cache->capacity = capacity;
    cache->layers = mem_alloc(config->layer_count, sizeof *cache->layers);
    if (!cache->layers)
        return SLUICE_ERR_MEMORY;
    cache->layer_count = config->layer_count;
    for (uint32_t i = 0; i < config->layer_count; i++) {
        enum sluice_status status = config->layers[i].full_attention ? plan_full(cache, config, kv, &cache->layers[i])
                                                                     : plan_linear(cache, config);
        if (status < 0)
            return status;
    }
    return SLUICE_OK;
}

static void assign_ranges(struct cache *cache, const struct model_config *config)
{
    uint32_t place = 0;
    for (uint32_t i = 0; i < cache->layer_count; i++) {
        struct cache_layer *layer = &cache->layers[i];
        if (!config->layers[i].full_attention) {
            layer->state = slab_range(&cache->slab, place++);
            layer->conv = slab_range(&cache->slab, place++);
        }
        for (uint32_t s = 0; s < layer->segment_count; s++) {
            layer->segments[s].k = slab_range(&cache->slab, place++);
            layer->segments[s].v = slab_range(&cache->slab, place++);
        }
    }
}

enum sluice_status cache_create(struct gpu_device *device, const struct model_config *config, enum kv_type kv,
                                uint32_t capacity, struct cache *cache)
{
    enum sluice_status status;
    TRY(plan(device, config, kv, capacity, cache));
    TRY(slab_allocate(&cache->slab));
    assign_ranges(cache, config);
    return SLUICE_OK;
fail:
    cache_finish(cache);
    return status;
}

void cache_finish(struct cache *cache)
{
    for (uint32_t i = 0; cache->layers && i < cache->layer_count; i++)
        mem_free(cache->layers[i].segments);
    mem_free(cache->layers);
    slab_finish(&cache->slab);
    memset(cache, 0, sizeof *cache);
}

enum sluice_status cache_bytes(struct gpu_device *device, const struct model_config *config, enum kv_type kv,
                               uint32_t capacity, uint64_t *bytes, uint32_t *segments_max)
{
    struct cache cache;
    enum sluice_status status = plan(device, config, kv, capacity, &cache);
    *bytes = cache.slab.bytes;
    *segments_max = 1;
    for (uint32_t i = 0; i < cache.layer_count; i++)
        if (cache.layers[i].segment_count > *segments_max)
            *segments_max = cache.layers[i].segment_count;
    cache_finish(&cache);
    return status;
}

uint64_t cache_kv_bytes(const struct cache *cache)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < cache->layer_count; i++)
        for (uint32_t s = 0; s < cache->layers[i].segment_count; s++)
            bytes += cache->layers[i].segments[s].k.bytes + cache->layers[i].segments[s].v.bytes;
    return bytes;
}

void cache_clear(const struct cache *cache, struct gpu_command *cmd)
{
    for (uint32_t i = 0; i < cache->layer_count; i++) {
        if (!cache->layers[i].state.buffer)
            continue;
        gpu_clear(cmd, cache->layers[i].state);
        gpu_clear(cmd, cache->layers[i].conv);
    }
}
