#include "tests/ref/ref_model.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ref/ref_attention.h"
#include "tests/ref/ref_delta.h"
#include "tests/ref/ref_math.h"
#include "tests/ref/ref_moe.h"
#include "tests/ref/ref_norm.h"

struct ref_layer {
    double *state, *conv; // linear
    double *k, *v;        // full; [positions][kv_heads][head_dim]
};

struct ref_model {
    struct model_config config;
    struct ref_delta_shape delta;
    ref_weights *weights;
    void *user;
    size_t position; // tokens read
    float frequencies[MODEL_HEAD_DIM_MAX / 2];
    double rotary_scale;
    struct ref_layer layers[MODEL_LAYERS_MAX];
};

static double *zeros(size_t count)
{
    return calloc(count ? count : 1, sizeof(double));
}

double ref_rope_frequencies(const struct model_config *config, float *frequencies)
{
    const struct model_rope *rope = &config->rope;
    double dim = config->rotary_dim, low = 0, high = 0;
    if (rope->yarn) {
        double tau = 6.283185307179586, base = 2 * log(rope->theta);
        low = dim * log(rope->original_positions / (tau * rope->beta_fast)) / base;
        high = dim * log(rope->original_positions / (tau * rope->beta_slow)) / base;
        low = fmax(rope->truncate ? floor(low) : low, 0);
        high = fmin(rope->truncate ? ceil(high) : high, dim - 1);
        high = low == high ? high + 0.001 : high;
    }
    for (uint32_t i = 0; i < config->rotary_dim / 2; i++) {
        double f = pow(rope->theta, -2.0 * i / dim);
        double ramp = rope->yarn ? fmin(fmax((i - low) / (high - low), 0), 1) : 0;
        frequencies[i] = (float)(f * (1 - ramp) + (rope->yarn ? f / rope->factor * ramp : 0));
    }
    if (!rope->yarn)
        return 1;
    if (rope->attention_factor > 0)
        return rope->attention_factor;
    double plain = rope->factor > 1 ? 0.1 * log(rope->factor) : 0;
    if (rope->mscale > 0 && rope->mscale_all_dim > 0)
        return (plain * rope->mscale + 1) / (plain * rope->mscale_all_dim + 1);
    return plain + 1;
}

struct ref_model *ref_model_create(const struct model_config *config, ref_weights *weights, void *user)
{
    struct ref_model *m = calloc(1, sizeof *m);
    m->config = *config;
    m->weights = weights;
    m->user = user;
    m->delta = (struct ref_delta_shape){config->linear_key_heads, config->linear_value_heads, config->linear_key_dim,
                                        config->linear_value_dim, config->conv_taps};
    m->rotary_scale = config->full_count ? ref_rope_frequencies(config, m->frequencies) : 1;
    for (uint32_t i = 0; i < config->layer_count; i++) {
        if (config->layers[i].full_attention)
            continue;
        m->layers[i].state = zeros((size_t)config->linear_key_dim * model_linear_value_dim(config));
        m->layers[i].conv = zeros((config->conv_taps - 1) * ref_delta_channels(&m->delta));
    }
    return m;
}

void ref_model_destroy(struct ref_model *model)
{
    if (!model)
        return;
    for (uint32_t i = 0; i < model->config.layer_count; i++) {
        free(model->layers[i].state);
        free(model->layers[i].conv);
        free(model->layers[i].k);
        free(model->layers[i].v);
    }
    free(model);
}

const double *ref_model_state(const struct ref_model *model, uint32_t layer)
{
    return model->layers[layer].state;
}

const double *ref_model_conv(const struct ref_model *model, uint32_t layer)
{
    return model->layers[layer].conv;
}

const double *ref_model_k(const struct ref_model *model, uint32_t layer)
{
    return model->layers[layer].k;
}

static const float *weights_get(struct ref_model *m, size_t count, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static const float *weights_get(struct ref_model *m, size_t count, const char *format, ...)
{
    char name[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    return m->weights(m->user, name, count);
}

// y[rows] = W x of the matrix "model.layers.<layer>.<part>.weight".
static void project(struct ref_model *m, uint32_t layer, const char *part, const double *x, size_t rows, size_t cols,
                    double *y)
{
    ref_matvec(weights_get(m, rows * cols, "model.layers.%u.%s.weight", layer, part), x, rows, cols, y);
}

static const float *layer_vector(struct ref_model *m, uint32_t layer, const char *part, size_t count)
{
    return weights_get(m, count, "model.layers.%u.%s", layer, part);
}

// --- mixers ---------------------------------------------------------------------------------------------------------

static void delta_mixer(struct ref_model *m, uint32_t layer, const double *x, double *y)
{
    const struct model_config *c = &m->config;
    size_t channels = ref_delta_channels(&m->delta), values = model_linear_value_dim(c), dim = c->linear_value_dim;
    double *qkvz = zeros(model_qkvz_rows(c)), *ba = zeros(model_ba_rows(c)), *raw = zeros(channels), *z = zeros(values);
    double *conv = zeros(channels), *o = zeros(values);
    project(m, layer, "linear_attn.in_proj_qkvz", x, model_qkvz_rows(c), c->hidden_size, qkvz);
    project(m, layer, "linear_attn.in_proj_ba", x, model_ba_rows(c), c->hidden_size, ba);
    ref_delta_split(&m->delta, qkvz, raw, z);
    ref_conv_step(&m->delta, raw, layer_vector(m, layer, "linear_attn.conv1d.weight", channels * c->conv_taps),
                  m->layers[layer].conv, conv);
    ref_delta_step(&m->delta, conv, ba, layer_vector(m, layer, "linear_attn.A_log", c->linear_value_heads),
                   layer_vector(m, layer, "linear_attn.dt_bias", c->linear_value_heads), m->layers[layer].state, o);
    for (size_t h = 0; h < c->linear_value_heads; h++)
        ref_norm_gated(o + h * dim, layer_vector(m, layer, "linear_attn.norm.weight", dim), z + h * dim,
                       (double)c->norm_eps, dim, o + h * dim);
    project(m, layer, "linear_attn.out_proj", o, c->hidden_size, values, y);
    double *buffers[] = {qkvz, ba, raw, z, conv, o};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        free(buffers[i]);
}

static void norm_and_rotate(struct ref_model *m, double *head, const float *norm)
{
    ref_norm_rms(head, norm, (double)m->config.norm_eps, m->config.head_dim, head);
    ref_rope(head, m->config.rotary_dim, m->position, m->frequencies, m->rotary_scale);
}

static void attention_mixer(struct ref_model *m, uint32_t layer, const double *x, double *y)
{
    const struct model_config *c = &m->config;
    struct ref_layer *l = &m->layers[layer];
    size_t dim = c->head_dim, row = model_kv_dim(c), group = c->heads / c->kv_heads;
    l->k = realloc(l->k, (m->position + 1) * row * sizeof(double));
    l->v = realloc(l->v, (m->position + 1) * row * sizeof(double));
    double *k = l->k + m->position * row, *qg = zeros(model_qg_rows(c)), *out = zeros(model_attention_dim(c));
    project(m, layer, "self_attn.q_proj", x, model_qg_rows(c), c->hidden_size, qg);
    project(m, layer, "self_attn.k_proj", x, row, c->hidden_size, k);
    project(m, layer, "self_attn.v_proj", x, row, c->hidden_size, l->v + m->position * row);
    for (size_t h = 0; h < c->kv_heads; h++)
        norm_and_rotate(m, k + h * dim, layer_vector(m, layer, "self_attn.k_norm.weight", dim));
    for (size_t h = 0; h < c->heads; h++) {
        double *q = qg + 2 * h * dim, *gate = q + dim;
        norm_and_rotate(m, q, layer_vector(m, layer, "self_attn.q_norm.weight", dim));
        ref_attend(q, l->k + h / group * dim, l->v + h / group * dim, m->position + 1, row, dim, out + h * dim);
        for (size_t d = 0; d < dim; d++)
            out[h * dim + d] *= ref_sigmoid(gate[d]);
    }
    project(m, layer, "self_attn.o_proj", out, c->hidden_size, model_attention_dim(c), y);
    free(qg);
    free(out);
}

// --- feed-forward ---------------------------------------------------------------------------------------------------

// y += factor * the SwiGLU block called "model.layers.<layer>.<part>".
static void feed_forward(struct ref_model *m, uint32_t layer, const char *part, size_t inter, double factor,
                         const double *x, double *y)
{
    size_t hidden = m->config.hidden_size, count = hidden * inter;
    const float *gate = weights_get(m, count, "model.layers.%u.%s.gate_proj.weight", layer, part);
    const float *up = weights_get(m, count, "model.layers.%u.%s.up_proj.weight", layer, part);
    const float *down = weights_get(m, count, "model.layers.%u.%s.down_proj.weight", layer, part);
    ref_swiglu_add(gate, up, down, x, hidden, inter, factor, y);
}

static void expert_block(struct ref_model *m, uint32_t layer, const double *x, double *y, uint32_t *experts)
{
    const struct model_config *c = &m->config;
    double logits[MODEL_EXPERTS_MAX], weights[MODEL_TOP_K_MAX], shared_gate;
    uint32_t ids[MODEL_TOP_K_MAX];
    project(m, layer, "mlp.gate", x, c->experts, c->hidden_size, logits);
    ref_moe_route(logits, c->experts, c->top_k, c->norm_topk_prob, ids, weights);
    for (uint32_t k = 0; k < c->top_k; k++) {
        char part[64];
        snprintf(part, sizeof part, "mlp.experts.%u", ids[k]);
        feed_forward(m, layer, part, c->expert_intermediate, weights[k], x, y);
    }
    project(m, layer, "mlp.shared_expert_gate", x, 1, c->hidden_size, &shared_gate);
    feed_forward(m, layer, "mlp.shared_expert", c->shared_intermediate, ref_sigmoid(shared_gate), x, y);
    if (experts)
        memcpy(experts, ids, c->top_k * sizeof *ids);
}

// --- the whole ------------------------------------------------------------------------------------------------------

// h += mixer(norm(h)); h += feed_forward(norm(h)).
static void layer_step(struct ref_model *m, uint32_t layer, double *h, uint32_t *experts)
{
    const struct model_config *c = &m->config;
    size_t hidden = c->hidden_size;
    double *x = zeros(hidden), *y = zeros(hidden);
    ref_norm_rms(h, layer_vector(m, layer, "input_layernorm.weight", hidden), (double)c->norm_eps, hidden, x);
    if (c->layers[layer].full_attention)
        attention_mixer(m, layer, x, y);
    else
        delta_mixer(m, layer, x, y);
    for (size_t i = 0; i < hidden; i++)
        h[i] += y[i];
    ref_norm_rms(h, layer_vector(m, layer, "post_attention_layernorm.weight", hidden), (double)c->norm_eps, hidden, x);
    if (c->layers[layer].moe)
        expert_block(m, layer, x, h, experts);
    else
        feed_forward(m, layer, "mlp", c->dense_intermediate, 1, x, h);
    free(x);
    free(y);
}

static void token_step(struct ref_model *m, uint32_t id, double *logits, double *hidden_rows, uint32_t *experts)
{
    const struct model_config *c = &m->config;
    size_t hidden = c->hidden_size, vocab = c->vocab_size;
    const float *embedding = weights_get(m, vocab * hidden, "model.embed_tokens.weight");
    double *h = zeros(hidden);
    for (size_t i = 0; i < hidden; i++)
        h[i] = (double)embedding[id * hidden + i];
    for (uint32_t layer = 0; layer < c->layer_count; layer++) {
        layer_step(m, layer, h, experts ? experts + layer * c->top_k : NULL);
        if (hidden_rows)
            memcpy(hidden_rows + layer * hidden, h, hidden * sizeof *h);
    }
    if (logits) {
        const float *head = c->tie_word_embeddings ? embedding : weights_get(m, vocab * hidden, "lm_head.weight");
        ref_norm_rms(h, weights_get(m, hidden, "model.norm.weight"), (double)c->norm_eps, hidden, h);
        ref_matvec(head, h, vocab, hidden, logits);
    }
    m->position++;
    free(h);
}

void ref_model_read(struct ref_model *model, const uint32_t *ids, size_t count, double *logits, double *hidden,
                    uint32_t *experts)
{
    const struct model_config *c = &model->config;
    for (size_t t = 0; t < count; t++)
        token_step(model, ids[t], logits ? logits + t * c->vocab_size : NULL,
                   hidden ? hidden + t * c->layer_count * c->hidden_size : NULL,
                   experts ? experts + t * c->layer_count * c->top_k : NULL);
}
