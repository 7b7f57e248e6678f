#include "tools/predict.h"

#include <math.h>

void predict_hits(const struct sluice_plan *p, double *hit_device, double *hit_host)
{
    double total = p->experts_total ? p->experts_total : 1;
    *hit_device = fmin(1, p->slots_device / total);
    *hit_host = p->host_cache ? fmin(1 - *hit_device, p->slots_host / total) : 0;
}

// Layers with experts.
static double expert_layers(const struct sluice_plan *p)
{
    return p->model.experts ? (double)p->experts_total / p->model.experts : 0;
}

// Different experts that a prompt uses, all layers.
static double experts_used(const struct sluice_plan *p, uint32_t tokens)
{
    const struct sluice_model *m = &p->model;
    return m->experts ? p->experts_total * (1 - pow(1 - (double)m->top_k / m->experts, tokens)) : 0;
}

static double divide(double a, double b)
{
    return b > 0 ? a / b : 0;
}

// A token, of which the device needs `device_seconds` if it waits for nothing.
static double decode_seconds(const struct predict_input *in, double device_seconds, double misses, double read_seconds)
{
    double layers = expert_layers(in->plan), top_k = in->plan->model.top_k;
    if (layers == 0)
        return device_seconds;
    double at_hand_seconds = in->speed->experts_seconds / layers * fmax(0, top_k - misses) / top_k;
    double arrivals = misses + top_k * in->hit_host;
    return device_seconds + layers * (fmax(0, read_seconds - at_hand_seconds) + arrivals * in->speed->copy_seconds);
}

struct prediction predict(const struct predict_input *in)
{
    const struct sluice_plan *p = in->plan;
    const struct sluice_speed *s = in->speed;
    double used = experts_used(p, s->prompt_tokens), layers = expert_layers(p);
    struct prediction r = {.misses_per_layer = p->model.top_k * fmax(0, 1 - in->hit_device - in->hit_host)};
    double read = divide(r.misses_per_layer * p->expert_bytes, in->burst_bytes_s);
    r.prompt_bytes = used * p->expert_bytes;
    r.token_bytes = layers * r.misses_per_layer * p->expert_bytes;
    r.read_seconds = divide(r.prompt_bytes, in->sequential_bytes_s);
    r.compute_seconds = s->prefill_seconds + used * s->copy_seconds;
    r.prefill_seconds = fmax(r.read_seconds, r.compute_seconds);
    r.decode_read_seconds = layers * read;
    r.decode_seconds = decode_seconds(in, s->decode_seconds, r.misses_per_layer, read);
    r.decode_deep_seconds = decode_seconds(in, s->decode_deep_seconds, r.misses_per_layer, read);
    return r;
}
