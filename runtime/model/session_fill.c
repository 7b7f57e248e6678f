// A session that looks as if it held a long text.
#include "runtime/base/integer.h"
#include "runtime/base/random.h"
#include "runtime/model/engine_internal.h"

// What all layers are filled from: random numbers on the device's side of the bus.
struct source {
    struct gpu_buffer *buffer; // f32 [count]
    uint64_t count;
};

static uint64_t values_needed(const struct sluice_engine *e)
{
    const struct model_config *c = &e->config;
    uint64_t state = (uint64_t)c->linear_value_heads * c->linear_key_dim * c->linear_value_dim;
    uint64_t conv = (uint64_t)model_conv_channels(c) * (c->conv_taps - 1);
    return u64_max(u64_max(state, conv), 2ull * e->scratch.batch * model_kv_dim(c));
}

// Uniform in [-0.5, 0.5); splitmix64.
static enum sluice_status source_create(struct sluice_engine *e, uint64_t seed, struct source *source)
{
    source->count = values_needed(e);
    enum sluice_status status =
        gpu_buffer_create(e->device, GPU_MEMORY_UPLOAD, 4 * source->count, "random context", &source->buffer);
    if (status < 0)
        return status;
    float *values = gpu_buffer_map(source->buffer);
    for (uint64_t i = 0; i < source->count; i++)
        values[i] = (float)(random_at(seed, i) >> 40) * 0x1p-24f - 0.5f;
    return SLUICE_OK;
}

static void fill_range(struct gpu_command *cmd, const struct source *source, struct gpu_range range)
{
    gpu_copy(cmd, gpu_range_make(source->buffer, 0, range.bytes), range);
}

// Keys and values the way the model stores them. What rope_store makes of the queries is not used.
static void fill_attention(struct sluice_engine *e, struct gpu_command *cmd, const struct weights_layer *w,
                           const struct cache_layer *cache, uint32_t tokens)
{
    const struct model_config *c = &e->config;
    struct scratch *s = &e->scratch;
    struct attention_shape shape = {
        .heads = c->kv_heads,
        .kv_heads = c->kv_heads,
        .head_dim = c->head_dim,
        .rotary_dim = c->rotary_dim,
        .rotary_scale = e->weights.rotary_scale,
        .kv = (enum kv_type)e->options.kv,
    };
    for (uint32_t i = 0; i < cache->segment_count; i++) {
        const struct kv_segment *segment = &cache->segments[i];
        uint32_t end = segment->first + segment->capacity < tokens ? segment->first + segment->capacity : tokens;
        for (uint32_t first = segment->first; first < end; first += s->batch) {
            uint32_t count = end - first < s->batch ? end - first : s->batch;
            op_rope_store(e->ops, cmd, &shape, s->wide, s->k, s->v, w->q_norm, w->k_norm, c->norm_eps,
                          e->weights.frequencies, count, first, segment, s->q);
        }
    }
}

static enum sluice_status fill_layer(struct sluice_session *session, uint32_t layer, const struct source *source,
                                     uint32_t tokens)
{
    struct sluice_engine *e = session->engine;
    const struct cache_layer *cache = &session->cache.layers[layer];
    struct gpu_command *cmd;
    enum sluice_status status = gpu_command_begin(e->device, &cmd);
    if (status < 0)
        return status;
    if (e->config.layers[layer].full_attention) {
        fill_attention(e, cmd, &e->weights.layers[layer], cache, tokens);
    } else {
        fill_range(cmd, source, cache->state);
        fill_range(cmd, source, cache->conv);
    }
    return gpu_command_submit(cmd, NULL);
}

// The batch of projections that fill_attention stores again and again.
static enum sluice_status fill_projections(struct sluice_engine *e, const struct source *source)
{
    struct scratch *s = &e->scratch;
    uint64_t bytes = 4ull * s->batch * model_kv_dim(&e->config);
    struct gpu_command *cmd;
    enum sluice_status status = gpu_command_begin(e->device, &cmd);
    if (status < 0)
        return status;
    fill_range(cmd, source, gpu_range_part(s->k, 0, bytes));
    gpu_copy(cmd, gpu_range_make(source->buffer, bytes, bytes), gpu_range_part(s->v, 0, bytes));
    fill_range(cmd, source, gpu_range_part(s->wide, 0, 2 * bytes));
    return gpu_command_submit(cmd, NULL);
}

enum sluice_status sluice_session_fill(struct sluice_session *session, uint32_t tokens, uint64_t seed)
{
    struct sluice_engine *e = session->engine;
    struct source source = {0};
    enum sluice_status status;
    if (tokens > session->cache.capacity)
        return error_set(SLUICE_ERR_ARGUMENT, "%u tokens do not fit: the context holds %u", tokens,
                         session->cache.capacity);
    TRY(sluice_session_reset(session));
    if (tokens > 0) {
        TRY(source_create(e, seed, &source));
        TRY(gpu_wait(e->device, gpu_tick_last(e->device)));
        TRY(fill_projections(e, &source));
        for (uint32_t i = 0; i < e->config.layer_count; i++)
            TRY(fill_layer(session, i, &source, tokens));
    }
    TRY(gpu_wait(e->device, gpu_tick_last(e->device)));
    session->tokens = tokens;
fail:
    session->unclean |= status < 0;
    if (status < 0 && source.buffer)
        (void)gpu_wait(e->device, gpu_tick_last(e->device)); // nothing may read the buffer any more
    gpu_buffer_destroy(source.buffer);
    return status;
}
