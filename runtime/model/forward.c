// The forward pass, layer by layer over all tokens of the pass.
//
//   per sub-batch:  h += mixer(norm(h))                                                  mixer.h
//                   x = norm(h);  route(x);  h += shared expert(x)  or  h += dense(x)
//   per layer:      h += routed experts(x)                                               moe.c
//
// A layer's sub-batches are recorded and submitted one after the other, so that the device is never without work while
// the host records; the host waits once per layer, for the router's choice. The command that a layer's last experts are
// recorded into is not submitted but carried on to the next layer's first sub-batch (pass.c).
#include "runtime/base/check.h"
#include "runtime/model/mixer.h"

// --- feed-forward ---------------------------------------------------------------------------------------------------

// h += down(swiglu(x)).
static void dense_ffn(struct sub_batch *b, const struct weights_ffn *w, const struct activations *x)
{
    struct sluice_engine *e = b->engine;
    struct activations inter = activations_cols(&e->scratch.inter, b->rows, w->inter);
    op_gate_up(e->ops, b->cmd, &w->gate_up, w->inter, x, &inter);
    op_matmul(e->ops, b->cmd, &w->down, &inter, b->h, e->config.hidden_size, true);
}

// The experts' input. What the routed ones read outlives the sub-batch, so it lies in the block.
static struct activations experts_input(const struct sub_batch *b)
{
    uint32_t width = b->engine->config.hidden_size;
    struct activations x = activations_rows(&b->engine->scratch.normed, b->rows);
    const struct activations *kept = &b->block->x;
    if (kept->f32.bytes)
        x.f32 = sub_batch_rows(b, kept->f32, 4ull * width);
    if (kept->q8.bytes) {
        x.q8 = sub_batch_rows(b, kept->q8, width);
        x.q8_scales = sub_batch_rows(b, kept->q8_scales, width / 32 * 8ull);
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
                 sub_batch_rows(b, b->block->ids, 4ull * c->top_k),
                 sub_batch_rows(b, b->block->weights, 4ull * c->top_k));
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

// Up to the mixer's inputs; of a DeltaNet layer all of the mixer.
static void layer_begin(struct sub_batch *b, const struct weights_layer *w, uint32_t layer)
{
    struct sluice_engine *e = b->engine;
    struct activations x = activations_rows(&e->scratch.normed, b->rows);
    if (layer == 0 && !b->pass->is_prefill && e->config.full_count)
        gpu_copy(b->cmd, e->scratch.positions_in, e->scratch.positions);
    if (layer == 0)
        op_embed_rows(e->ops, b->cmd, &e->weights.embed, sub_batch_rows(b, b->block->tokens, 4), b->rows, b->h);
    if (b->pass->normed_layer == 0 || b->pass->normed_layer != layer)
        op_norm_rms(e->ops, b->cmd, b->h, w->input_norm, e->config.norm_eps, &x);
    if (e->config.layers[layer].full_attention)
        mixer_attention_begin(b, w);
    else
        mixer_delta(b, w, layer);
}

// What follows the mixer, up to the router's choice if there is a router.
static void layer_end(struct sub_batch *b, const struct weights_layer *w, uint32_t layer, const struct activations *x)
{
    struct sluice_engine *e = b->engine;
    if (e->config.layers[layer].full_attention)
        mixer_attention_end(b, w);
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
        layer_begin(&b, w, layer);
    gpu_part(b.cmd);
    if (e->config.layers[layer].full_attention && !mixer_attention_again(&b, layer))
        mixer_attention(&b, w, layer);
    if (!pass_again(pass, b.cmd, layer, MEMO_ROUTER, 0))
        layer_end(&b, w, layer, &x);
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
