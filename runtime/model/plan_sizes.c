#include "runtime/model/plan_sizes.h"

#include "runtime/base/integer.h"

// Whether the experts' gate and up matrices, or any of the trunk's, are in a format with integer kernels.
static struct scratch_limits scratch_needs(const struct sluice_engine *e, uint32_t context, uint32_t passes,
                                           uint32_t segments_max)
{
    const struct model_config *c = &e->config;
    bool q8 = e->options.activations == SLUICE_ACTIVATIONS_Q8, experts = false, trunk = false;
    for (uint32_t i = 0; i < container_expert_layer_count(e->container); i++) {
        const struct container_expert_layer *l = container_expert_layer_at(e->container, i);
        experts |= !quant_format_get((enum quant_type)l->gate_up_type_id)->is_float;
    }
    for (uint32_t i = 0; i < container_tensor_count(e->container); i++) {
        const struct container_tensor *t = container_tensor_at(e->container, i);
        const struct quant_format *format = quant_format_get((enum quant_type)t->type_id);
        trunk |= format && !format->is_float;
    }
    return (struct scratch_limits){
        .capacity_tokens = context,
        .pass_tokens = u32_divide_up(context, passes),
        .segments_max = segments_max,
        .quantise_trunk = q8 && trunk,
        .quantise_experts = q8 && experts,
        .inter_max = c->dense_intermediate > c->shared_intermediate ? c->dense_intermediate : c->shared_intermediate,
    };
}

static uint64_t state_bytes(const struct model_config *c)
{
    uint64_t state = (uint64_t)c->linear_value_heads * c->linear_key_dim * c->linear_value_dim;
    uint64_t conv = c->linear_count ? (uint64_t)model_conv_channels(c) * (c->conv_taps - 1) : 0;
    return 4 * c->linear_count * (state + conv);
}

enum sluice_status plan_sizes_measure(const struct sluice_engine *e, uint32_t context, struct plan_sizes *s)
{
    enum sluice_status status;
    const struct model_config *c = &e->config;
    struct scratch scratch = {0};
    uint64_t cache;
    uint32_t segments_max;
    TRY(cache_bytes(e->device, c, (enum kv_type)e->options.kv, context, &cache, &segments_max));
    s->state = state_bytes(c);
    s->kv = cache - s->state;
    s->limits = scratch_needs(e, context, s->passes ? s->passes : 1, segments_max);
    TRY(scratch_create(e->device, c, &s->limits, false, &scratch, &s->activations));
    s->transfers = scratch.upload.bytes + scratch.readback.bytes;
    uint64_t rows = (uint64_t)scratch.block_count * scratch.block_tokens;
    s->lists = 4 * (rows * c->top_k + (uint64_t)scratch.block_count * (c->experts + 1));
fail:
    scratch_finish(&scratch);
    return status;
}

uint64_t plan_slots_least(const struct sluice_engine *e)
{
    return e->config.moe_count ? e->config.top_k * pager_slot_bytes(e->container) : 0;
}

uint64_t plan_sizes_device(const struct plan_sizes *s, uint32_t sessions)
{
    return s->trunk + s->activations + sessions * (s->state + s->kv);
}
