#include "runtime/model/layout_plan.h"

#include "runtime/base/mem.h"

static void plan_tensors(struct layout_plan *plan, const struct model_layout *layout, const struct model_recipe *recipe,
                         const enum quant_type *float_types)
{
    for (size_t i = 0; i < layout->tensor_count; i++) {
        const struct model_tensor *tensor = &layout->tensors[i];
        enum quant_type type = model_tensor_type(tensor, recipe, float_types ? float_types[i] : QUANT_BF16);
        plan->tensors[i] = (struct container_plan_tensor){
            .name = tensor->name,
            .type_id = type,
            .layout = tensor->kind == MODEL_TENSOR_PLAIN ? CONTAINER_LAYOUT_PLAIN : CONTAINER_LAYOUT_TILES,
            .rows = model_tensor_stored_rows(tensor),
            .cols = tensor->cols,
            .bytes = model_tensor_bytes(tensor, type),
        };
    }
}

static void plan_experts(struct layout_plan *plan, const struct model_layout *layout)
{
    const struct model_expert_layout *e = &plan->experts;
    for (uint32_t i = 0; i < layout->config.moe_count; i++)
        plan->layers[i] = (struct container_plan_experts){
            .layer = model_layout_moe_layer(layout, i),
            .expert_count = layout->config.experts,
            .gate_up_type_id = e->gate_up_type,
            .down_type_id = e->down_type,
            .hidden = layout->config.hidden_size,
            .intermediate = layout->config.expert_intermediate,
            .down_offset = e->down_offset,
            .record_bytes = e->record_bytes,
        };
}

enum sluice_status layout_plan_init(struct layout_plan *plan, const struct model_layout *layout,
                                    const struct model_recipe *recipe, const enum quant_type *float_types)
{
    *plan = (struct layout_plan){.experts = model_expert_layout(&layout->config, recipe)};
    plan->tensors = mem_alloc(layout->tensor_count, sizeof *plan->tensors);
    plan->layers = mem_alloc(layout->config.moe_count, sizeof *plan->layers);
    if (!plan->tensors || !plan->layers) {
        layout_plan_finish(plan);
        return SLUICE_ERR_MEMORY;
    }
    for (enum quant_type type = 0; type < QUANT_TYPE_COUNT; type++)
        plan->types[type] = (struct container_plan_type){.id = type, .name = quant_format_get(type)->name};
    plan_tensors(plan, layout, recipe, float_types);
    plan_experts(plan, layout);
    plan->container = (struct container_plan){
        .types = plan->types,
        .type_count = QUANT_TYPE_COUNT,
        .tensors = plan->tensors,
        .tensor_count = (uint32_t)layout->tensor_count,
        .layers = plan->layers,
        .layer_count = layout->config.moe_count,
    };
    return SLUICE_OK;
}

void layout_plan_finish(struct layout_plan *plan)
{
    mem_free(plan->tensors);
    mem_free(plan->layers);
    *plan = (struct layout_plan){0};
}
