// The forward pass, layer by layer over all tokens of the pass.
//
//   per sub-batch:  h += mixer(norm(h));  x = norm(h);  route(x);  h += shared expert(x)  or  h += dense(x)
//   per layer:      h += routed experts(x)                                               moe.c
//
// A layer's sub-batches are recorded and submitted one after the other, so that the device is never without work while
// the host records; the host waits once per layer, for the router's choice. The command that a layer's last experts are
// recorded into is not submitted but carried on to the next layer's first sub-batch (pass.c).
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/integer.h"
#include "runtime/model/engine_internal.h"

static uint32_t pitch(uint32_t width)
{
    return u32_round_up(width, ROW_PITCH_FLOATS);
}

// Everything about one sub-batch: rows [row, row + rows) of the block.
struct sub_batch {
    struct sluice_engine *engine;
    struct gpu_command *cmd;
    struct scratch_block *block;
    uint32_t row, rows;
    uint32_t run_count;
    struct run runs[SLUICE_SESSIONS_MAX]; // rows counted from the sub-batch's start
    struct gpu_range h;
    const struct pass *pass;
};

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

// --- mixers ---------------------------------------------------------------------------------------------------------

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

static void linear_mixer(struct sub_batch *b, const struct weights_layer *w, uint32_t layer)
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

static void queries_keys_values(struct sub_batch *b, const struct weights_layer *w)
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

// From the projections to the values of each head, gated: in scratch.mixed, or with several runs in scratch.q.
static void attend_runs(struct sub_batch *b, const struct weights_layer *w, uint32_t layer)
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
static bool attention_again(const struct sub_batch *b, uint32_t layer)
{
    if (b->run_count > 1) // several positions, which seldom repeat together
        return false;
    uint32_t end = b->runs[0].position + 1, blocks = end / KV_BLOCK * 2 + (end % KV_BLOCK > 0);
    return pass_again(b->pass, b->cmd, layer, MEMO_ATTENTION, blocks);
}

static void attention_out(struct sub_batch *b, const struct weights_layer *w)
{
    struct sluice_engine *e = b->engine;
    uint32_t out = model_attention_dim(&e->config);
    struct activations mixed = activations_cols(&e->scratch.mixed, b->rows, out);
    if (b->run_count > 1)
        mixed = gather_mixed(b, e->scratch.q, out, out);
    op_matmul(e->ops, b->cmd, &w->attention_out, &mixed, b->h, e->config.hidden_size, true);
}

// --- feed-forward ---------------------------------------------------------------------------------------------------

// h += down(swiglu(x)).
static void dense_ffn(struct sub_batch *b, const struct weights_ffn *w, const struct activations *x)
{
    struct sluice_engine *e = b->engine;
    struct activations inter = activations_cols(&e->scratch.inter, b->rows, w->inter);
    op_gate_up(e->ops, b->cmd, &w->gate_up, w->inter, x, &inter);
    op_matmul(e->ops, b->cmd, &w->down, &inter, b->h, e->config.hidden_size, true);
}

// The rows of an array of the block that belong to the sub-batch.
static struct gpu_range block_rows(const struct sub_batch *b, struct gpu_range range, uint64_t row_bytes)
{
    return range.bytes ? gpu_range_part(range, b->row * row_bytes, b->rows * row_bytes) : range;
}

// The experts' input. What the routed ones read outlives the sub-batch, so it lies in the block.
static struct activations experts_input(const struct sub_batch *b)
{
    uint32_t width = b->engine->config.hidden_size;
    struct activations x = activations_rows(&b->engine->scratch.normed, b->rows);
    const struct activations *kept = &b->block->x;
    if (kept->f32.bytes)
        x.f32 = block_rows(b, kept->f32, 4ull * width);
    if (kept->q8.bytes) {
        x.q8 = block_rows(b, kept->q8, width);
        x.q8_scales = block_rows(b, kept->q8_scales, width / 32 * 8ull);
    }
    return x;
}

// x = norm(h), and the router's choice.
static void route(struct sub_batch *b, const struct weights_layer *w, const struct activations *x)
{
    struct sluice_engine *e = b->engine;
    const struct model_config *c = &e->config;
    struct scratch *s = &e->scratch;
    op_norm_rms(e->ops, b->cmd, b->h, w->post_norm, c->norm_eps, x);
    op_matmul(e->ops, b->cmd, &w->router, x, s->router, c->experts, false);
    op_moe_route(e->ops, b->cmd, s->router, b->rows, c->experts, c->top_k, c->norm_topk_prob,
                 block_rows(b, b->block->ids, 4ull * c->top_k), block_rows(b, b->block->weights, 4ull * c->top_k));
}

static void shared_expert(struct sub_batch *b, const struct weights_layer *w, const struct activations *x)
{
    struct sluice_engine *e = b->engine;
    struct scratch *s = &e->scratch;
    struct activations inter = activations_cols(&s->inter, b->rows, w->shared.inter);
    op_matmul(e->ops, b->cmd, &w->shared_gate, x, s->shared_gate, 1, false);
    op_gate_up(e->ops, b->cmd, &w->shared.gate_up, w->shared.inter, x, &inter);
    op_matmul_gated(e->ops, b->cmd, &w->shared.down, &inter, s->shared_gate, s->ffn, b->h);
}

// --- the pass -------------------------------------------------------------------------------------------------------

// The part of the block's runs that lies in the sub-batch.
static void select_runs(struct sub_batch *b, const struct run *runs, uint32_t count)
{
    b->run_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t begin = runs[i].row > b->row ? runs[i].row : b->row;
        uint32_t end = runs[i].row + runs[i].tokens, limit = b->row + b->rows;
        if (end > limit)
            end = limit;
        if (begin >= end)
            continue;
        b->runs[b->run_count++] = (struct run){
            .session = runs[i].session,
            .row = begin - b->row,
            .tokens = end - begin,
            .position = runs[i].position + (begin - runs[i].row),
        };
    }
}

static struct sub_batch sub_batch_make(struct pass *pass, uint32_t block, uint32_t row)
{
    struct sluice_engine *e = pass->engine;
    struct sub_batch b = {.engine = e, .block = &e->scratch.blocks[block], .row = row};
    uint32_t left = pass->blocks[block].rows - row;
    b.rows = left < e->scratch.batch ? left : e->scratch.batch;
    b.pass = pass;
    b.h = block_rows(&b, b.block->h, 4ull * e->config.hidden_size);
    select_runs(&b, pass->blocks[block].runs, pass->blocks[block].run_count);
    return b;
}

// Up to the mixer's inputs; of a DeltaNet layer all of the mixer.
static void mixer_begin(struct sub_batch *b, const struct weights_layer *w, uint32_t layer)
{
    struct sluice_engine *e = b->engine;
    struct activations x = activations_rows(&e->scratch.normed, b->rows);
    if (layer == 0 && !b->pass->is_prefill && e->config.full_count)
        gpu_copy(b->cmd, e->scratch.positions_in, e->scratch.positions);
    if (layer == 0)
        op_embed_rows(e->ops, b->cmd, &e->weights.embed, block_rows(b, b->block->tokens, 4), b->rows, b->h);
    if (b->pass->normed_layer == 0 || b->pass->normed_layer != layer)
        op_norm_rms(e->ops, b->cmd, b->h, w->input_norm, e->config.norm_eps, &x);
    if (e->config.layers[layer].full_attention)
        queries_keys_values(b, w);
    else
        linear_mixer(b, w, layer);
}

// What follows the mixer, up to the router's choice if there is a router.
static void mixer_end(struct sub_batch *b, const struct weights_layer *w, uint32_t layer, const struct activations *x)
{
    struct sluice_engine *e = b->engine;
    if (e->config.layers[layer].full_attention)
        attention_out(b, w);
    if (e->config.layers[layer].moe) {
        route(b, w, x);
        return;
    }
    struct activations normed = activations_rows(&e->scratch.normed, b->rows);
    op_norm_rms(e->ops, b->cmd, b->h, w->post_norm, e->config.norm_eps, &normed);
    dense_ffn(b, &w->dense, &normed);
}

static enum sluice_status layer_sub_batch(struct pass *pass, uint32_t layer, uint32_t block, uint32_t row,
                                          uint64_t *routed)
{
    enum sluice_status status;
    struct sluice_engine *e = pass->engine;
    const struct weights_layer *w = &e->weights.layers[layer];
    struct sub_batch b = sub_batch_make(pass, block, row);
    struct activations x = experts_input(&b);
    TRY(pass_command(pass, &b.cmd));
    if (!pass_again(pass, b.cmd, layer, MEMO_MIXER, 0))
        mixer_begin(&b, w, layer);
    gpu_part(b.cmd);
    if (e->config.layers[layer].full_attention && !attention_again(&b, layer))
        attend_runs(&b, w, layer);
    if (!pass_again(pass, b.cmd, layer, MEMO_ROUTER, 0))
        mixer_end(&b, w, layer, &x);
    gpu_part(b.cmd);
    if (!e->config.layers[layer].moe)
        return pass->is_prefill ? pass_submit(pass, NULL, routed) : SLUICE_OK;
    // The router's choice has a tick of its own: the host needs it while the shared expert runs.
    TRY(gpu_command_begin(e->device, &b.cmd));
    if (!pass_again(pass, b.cmd, layer, MEMO_SHARED_EXPERT, 0))
        shared_expert(&b, w, &x);
    return pass_submit(pass, b.cmd, routed);
fail:
    return status;
}

static enum sluice_status tap_hidden(struct pass *pass, uint32_t layer)
{
    enum sluice_status status = SLUICE_OK;
    struct sluice_engine *e = pass->engine;
    uint32_t width = e->config.hidden_size, first = pass->first_token;
    TRY(pass_submit(pass, NULL, NULL));
    for (uint32_t i = 0; i < pass->block_count; first += pass->blocks[i].rows, i++) {
        for (uint32_t row = 0; row < pass->blocks[i].rows; row += e->scratch.batch) {
            uint32_t left = pass->blocks[i].rows - row, rows = left < e->scratch.batch ? left : e->scratch.batch;
            struct gpu_command *cmd;
            uint64_t tick;
            TRY(gpu_command_begin(e->device, &cmd));
            gpu_copy(cmd, gpu_range_part(e->scratch.blocks[i].h, 4ull * row * width, 4ull * rows * width),
                     gpu_range_part(e->scratch.hidden, 0, 4ull * rows * width));
            TRY(gpu_command_submit(cmd, &tick));
            TRY(gpu_wait(e->device, tick));
            TRY(pass->tap->hidden(pass->tap->user, layer, first + row, rows, gpu_range_map(e->scratch.hidden)));
        }
    }
fail:
    return status;
}

static enum sluice_status mix_blocks(struct pass *pass, uint32_t layer, uint64_t *routed)
{
    enum sluice_status status = SLUICE_OK;
    struct sluice_engine *e = pass->engine;
    for (uint32_t block = 0; block < pass->block_count; block++) {
        for (uint32_t row = 0; row < pass->blocks[block].rows; row += e->scratch.batch) {
            TRY(layer_sub_batch(pass, layer, block, row, routed));
            // A bounded queue, so that a cancelled prefill ends soon and progress is true.
            if (pass->progress && *routed > 4)
                TRY(gpu_wait(e->device, *routed - 4));
            TRY(pass_progress(pass,
                              layer + 0.5 * (block + (double)row / pass->blocks[block].rows) / pass->block_count));
        }
    }
fail:
    return status;
}

// Everything before the routed experts. *routed: the tick of the last router's choice.
static enum sluice_status mix_layer(struct pass *pass, uint32_t layer, uint64_t *routed)
{
    struct gpu_command *cmd;
    pass_record_begin(pass);
    enum sluice_status status = mix_blocks(pass, layer, routed);
    if (status == SLUICE_OK) // the next one begins while the device is at work
        status = pass_command(pass, &cmd);
    pass_record_end(pass);
    return status;
}

static enum sluice_status forward_layer(struct pass *pass, uint32_t layer)
{
    enum sluice_status status = SLUICE_OK;
    struct sluice_engine *e = pass->engine;
    uint64_t routed = 0;
    if (!e->options.io_only)
        TRY(mix_layer(pass, layer, &routed));
    if (e->config.layers[layer].moe) {
        TRY(gpu_wait(e->device, routed));
        TRY(moe_layer(pass, layer));
    }
    if (pass->tap && pass->tap->hidden)
        TRY(tap_hidden(pass, layer));
fail:
    return status;
}

enum sluice_status forward_layers(struct pass *pass)
{
    enum sluice_status status = SLUICE_OK;
    ops_set_prefill(pass->engine->ops, pass->is_prefill);
    pass->normed_layer = 0;
    for (uint32_t layer = 0; layer < pass->engine->config.layer_count; layer++) {
        if (layer == 0 || pass->is_prefill)
            TRY(budget_watch(pass));
        TRY(forward_layer(pass, layer));
        TRY(pass_progress(pass, layer + 1));
    }
    if (pass->is_prefill && pass->engine->pager)
        pager_settle(pass->engine->pager);
fail:
    ops_set_prefill(pass->engine->ops, false);
    return status;
}

static enum sluice_status record_logits(struct pass *pass, uint32_t block, uint32_t row, uint32_t count, uint64_t *tick)
{
    struct sluice_engine *e = pass->engine;
    const struct model_config *c = &e->config;
    CHECK(count <= e->scratch.logit_rows && count <= e->scratch.batch);
    struct gpu_command *cmd;
    enum sluice_status status = pass_command(pass, &cmd);
    if (status < 0)
        return status;
    if (e->options.io_only) {
        gpu_clear(cmd, gpu_range_part(e->scratch.logits, 0, 4ull * count * c->vocab_size));
        return pass_submit(pass, NULL, tick);
    }
    // Rows begin anywhere: copied to where they may be bound.
    uint64_t bytes = 4ull * count * c->hidden_size;
    gpu_copy(cmd, gpu_range_part(e->scratch.blocks[block].h, 4ull * row * c->hidden_size, bytes),
             gpu_range_part(e->scratch.ffn, 0, bytes));
    struct activations x = activations_rows(&e->scratch.normed, count);
    op_norm_rms(e->ops, cmd, e->scratch.ffn, e->weights.final_norm, c->norm_eps, &x);
    op_matmul(e->ops, cmd, &e->weights.head, &x, e->scratch.logits, c->vocab_size, false);
    return pass_submit(pass, NULL, tick);
}

enum sluice_status forward_logits(struct pass *pass, uint32_t block, uint32_t row, uint32_t count, uint64_t *tick)
{
    pass_record_begin(pass);
    enum sluice_status status = record_logits(pass, block, row, count, tick);
    pass_record_end(pass);
    return status;
}
