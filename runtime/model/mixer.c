#include "runtime/model/mixer.h"

#include "runtime/base/check.h"
#include "runtime/base/integer.h"

static uint32_t pitch(uint32_t width)
{
    return u32_round_up(width, ROW_PITCH_FLOATS);
}

// Rows of a run in an array of the sub-batch. Several runs are bound one by one and therefore lie `pitch` apart.
static struct gpu_range run_rows(const struct sub_batch *b, struct gpu_range range, const struct run *run,
                                 uint32_t width)
{
    if (b->run_count == 1)
        return range;
    uint64_t offset = 4ull * run->row * pitch(width);
    return gpu_range_part(range, offset, 4ull * run->tokens * pitch(width));
}

static uint32_t row_stride(const struct sub_batch *b, uint32_t width)
{
    return b->run_count == 1 ? width : pitch(width);
}

// The runs' rows of `mixed`, which lie apart, become contiguous for the matrix that follows; and their 8-bit form.
static struct activations gather_mixed(struct sub_batch *b, struct gpu_range apart, uint32_t apart_width,
                                       uint32_t width)
{
    struct activations mixed = activations_cols(&b->engine->scratch.mixed, b->rows, width);
    for (uint32_t i = 0; i < b->run_count; i++)
        gpu_copy(b->cmd, gpu_range_part(run_rows(b, apart, &b->runs[i], apart_width), 0, 4ull * width),
                 gpu_range_part(mixed.f32, 4ull * i * width, 4ull * width));
    op_quantize_q8(b->engine->ops, b->cmd, &mixed);
    return mixed;
}

// --- gated DeltaNet -------------------------------------------------------------------------------------------------

// Of what is recorded side by side for several runs, equal steps follow each other: they need no barriers between them.

static void delta_rule(struct sub_batch *b, const struct weights_layer *w, uint32_t layer,
                       const struct delta_shape *shape, const struct activations *mixed)
{
    struct sluice_engine *e = b->engine;
    const struct model_config *c = &e->config;
    struct scratch *s = &e->scratch;
    uint32_t qkvz = model_qkvz_rows(c), ba = model_ba_rows(c), channels = model_conv_channels(c), out = mixed->cols;
    for (uint32_t i = 0; i < b->run_count; i++) {
        const struct run *run = &b->runs[i];
        op_conv_seq(e->ops, b->cmd, shape, run_rows(b, s->wide, run, qkvz), run->tokens, w->conv,
                    run->session->cache.layers[layer].conv, run_rows(b, s->conv, run, channels));
    }
    for (uint32_t i = 0; i < b->run_count; i++) {
        const struct run *run = &b->runs[i];
        op_delta_scan(e->ops, b->cmd, shape, run_rows(b, s->conv, run, channels), run_rows(b, s->ba, run, ba),
                      run->tokens, w->a_log, w->dt_bias, run->session->cache.layers[layer].state,
                      run_rows(b, s->delta, run, out));
    }
    for (uint32_t i = 0; i < b->run_count; i++) {
        const struct run *run = &b->runs[i];
        struct activations y = *mixed;
        if (b->run_count > 1) // into the run's own, separately bound rows
            y = (struct activations){.n = run->tokens, .cols = out, .f32 = run_rows(b, s->conv, run, channels)};
        op_delta_norm(e->ops, b->cmd, shape, run_rows(b, s->delta, run, out), run_rows(b, s->wide, run, qkvz),
                      w->linear_norm, c->norm_eps, &y);
    }
}

void mixer_delta(struct sub_batch *b, const struct weights_layer *w, uint32_t layer)
{
    struct sluice_engine *e = b->engine;
    const struct model_config *c = &e->config;
    struct scratch *s = &e->scratch;
    struct activations x = activations_rows(&s->normed, b->rows);
    struct delta_shape shape = {
        .key_heads = c->linear_key_heads,
        .value_heads = c->linear_value_heads,
        .key_dim = c->linear_key_dim,
        .value_dim = c->linear_value_dim,
        .conv_taps = c->conv_taps,
    };
    uint32_t qkvz = model_qkvz_rows(c), ba = model_ba_rows(c), out = model_linear_value_dim(c);
    op_matmul(e->ops, b->cmd, &w->qkvz, &x, s->wide, row_stride(b, qkvz), false);
    op_matmul(e->ops, b->cmd, &w->ba, &x, s->ba, row_stride(b, ba), false);
    struct activations mixed = activations_cols(&s->mixed, b->rows, out);
    delta_rule(b, w, layer, &shape, &mixed);
    if (b->run_count > 1)
        mixed = gather_mixed(b, s->conv, model_conv_channels(c), out);
    op_matmul(e->ops, b->cmd, &w->linear_out, &mixed, b->h, c->hidden_size, true);
}

// --- gated attention ------------------------------------------------------------------------------------------------

// A decode's kernels take the position from a list, so that they are the same in every token.
static struct attention_shape run_shape(const struct sub_batch *b, const struct run *run)
{
    struct sluice_engine *e = b->engine;
    const struct model_config *c = &e->config;
    struct attention_shape shape = {
        .heads = c->heads,
        .kv_heads = c->kv_heads,
        .head_dim = c->head_dim,
        .rotary_dim = c->rotary_dim,
        .rotary_scale = e->weights.rotary_scale,
        .kv = (enum kv_type)e->options.kv,
    };
    if (!b->pass->is_prefill) {
        shape.positions = e->scratch.positions;
        shape.position_place = b->row + run->row;
    }
    return shape;
}

static uint32_t first_position(const struct sub_batch *b, const struct run *run)
{
    return b->pass->is_prefill ? run->position : 0;
}

// Attention of `run` over everything in its cache: one partial result per segment, or when decoding per split.
static void attend(struct sub_batch *b, const struct run *run, const struct cache_layer *cache, struct gpu_range q,
                   struct gpu_range qg, const struct activations *y)
{
    struct sluice_engine *e = b->engine;
    struct scratch *s = &e->scratch;
    const struct attention_shape shape = run_shape(b, run);
    uint32_t end = run->position + run->tokens, splits = 0;
    uint32_t length = run->tokens == 1 ? op_attend_split_tokens(e->ops, end) : UINT32_MAX;
    for (uint32_t i = 0; i < cache->segment_count && cache->segments[i].first < end; i++) {
        const struct kv_segment *segment = &cache->segments[i];
        uint32_t stop = end < segment->first + segment->capacity ? end : segment->first + segment->capacity;
        splits += (stop - segment->first - 1) / length + 1;
    }
    CHECK(run->tokens * splits <= s->partial_rows);
    uint32_t split = 0;
    for (uint32_t i = 0; split < splits; i++) {
        const struct kv_segment *segment = &cache->segments[i];
        uint32_t stop = end < segment->first + segment->capacity ? end : segment->first + segment->capacity;
        uint32_t split_tokens = length < segment->capacity ? length : segment->capacity;
        op_attend(e->ops, b->cmd, &shape, q, run->tokens, first_position(b, run), segment, segment->first, stop,
                  split_tokens, split, splits, s->partial_o, s->partial_ml);
        split += (stop - segment->first - 1) / split_tokens + 1;
    }
    op_attend_merge(e->ops, b->cmd, &shape, s->partial_o, s->partial_ml, run->tokens, splits, qg, y);
}

static void store_keys_and_values(struct sub_batch *b, const struct weights_layer *w, uint32_t layer)
{
    struct sluice_engine *e = b->engine;
    const struct model_config *c = &e->config;
    struct scratch *s = &e->scratch;
    uint32_t kv = model_kv_dim(c);
    for (uint32_t i = 0; i < b->run_count; i++) {
        const struct run *run = &b->runs[i];
        const struct cache_layer *cache = &run->session->cache.layers[layer];
        const struct attention_shape shape = run_shape(b, run);
        for (uint32_t j = 0; j < cache->segment_count; j++) {
            const struct kv_segment *segment = &cache->segments[j];
            if (segment->first >= run->position + run->tokens || segment->first + segment->capacity <= run->position)
                continue;
            op_rope_store(e->ops, b->cmd, &shape, run_rows(b, s->wide, run, model_qg_rows(c)),
                          run_rows(b, s->k, run, kv), run_rows(b, s->v, run, kv), w->q_norm, w->k_norm, c->norm_eps,
                          e->weights.frequencies, run->tokens, first_position(b, run), segment,
                          run_rows(b, s->q, run, model_attention_dim(c)));
        }
    }
}

void mixer_attention_begin(struct sub_batch *b, const struct weights_layer *w)
{
    struct sluice_engine *e = b->engine;
    const struct model_config *c = &e->config;
    struct scratch *s = &e->scratch;
    struct activations x = activations_rows(&s->normed, b->rows);
    uint32_t qg_rows = model_qg_rows(c), kv = model_kv_dim(c);
    op_matmul(e->ops, b->cmd, &w->q, &x, s->wide, row_stride(b, qg_rows), false);
    op_matmul(e->ops, b->cmd, &w->k, &x, s->k, row_stride(b, kv), false);
    op_matmul(e->ops, b->cmd, &w->v, &x, s->v, row_stride(b, kv), false);
}

void mixer_attention(struct sub_batch *b, const struct weights_layer *w, uint32_t layer)
{
    struct sluice_engine *e = b->engine;
    const struct model_config *c = &e->config;
    struct scratch *s = &e->scratch;
    uint32_t qg_rows = model_qg_rows(c), out = model_attention_dim(c);
    struct activations mixed = activations_cols(&s->mixed, b->rows, out);
    store_keys_and_values(b, w, layer);
    for (uint32_t i = 0; i < b->run_count; i++) {
        const struct run *run = &b->runs[i];
        const struct cache_layer *cache = &run->session->cache.layers[layer];
        struct gpu_range qg = run_rows(b, s->wide, run, qg_rows), q = run_rows(b, s->q, run, out);
        struct activations y = mixed;
        if (b->run_count > 1) // q is not needed any more once its attention is done
            y = (struct activations){.n = run->tokens, .cols = out, .f32 = q};
        attend(b, run, cache, q, qg, &y);
    }
}

// How attention is cut changes with the position at most where a block of the KV cache begins or ends.
bool mixer_attention_again(const struct sub_batch *b, uint32_t layer)
{
    if (b->run_count > 1) // several positions, which seldom repeat together
        return false;
    uint32_t end = b->runs[0].position + 1, blocks = end / KV_BLOCK * 2 + (end % KV_BLOCK > 0);
    return pass_again(b->pass, b->cmd, layer, MEMO_ATTENTION, blocks);
}

void mixer_attention_end(struct sub_batch *b, const struct weights_layer *w)
{
    struct sluice_engine *e = b->engine;
    uint32_t out = model_attention_dim(&e->config);
    struct activations mixed = activations_cols(&e->scratch.mixed, b->rows, out);
    if (b->run_count > 1)
        mixed = gather_mixed(b, e->scratch.q, out, out);
    op_matmul(e->ops, b->cmd, &w->attention_out, &mixed, b->h, e->config.hidden_size, true);
}
