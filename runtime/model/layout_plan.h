// The plan of a model's container: what container_writer_open wants to know, from the layout and the number formats.
#ifndef SLUICE_MODEL_LAYOUT_PLAN_H
#define SLUICE_MODEL_LAYOUT_PLAN_H

#include "offload/container_write.h"
#include "runtime/model/layout.h"

struct layout_plan {
    struct container_plan_type types[QUANT_TYPE_COUNT];
    struct container_plan_tensor *tensors; // [layout->tensor_count], owned
    struct container_plan_experts *layers; // [config.moe_count], owned
    struct model_expert_layout experts;
    struct container_plan container; // points to the above; the documents are the caller's to add
};

// *plan may not be moved, because plan->container points into it, and lives no longer than `layout`.
//   float_types  [layout->tensor_count]: the checkpoint's type of each tensor; NULL: all BF16
// Errors: SLUICE_ERR_MEMORY; *plan is empty then.
enum sluice_status layout_plan_init(struct layout_plan *plan, const struct model_layout *layout,
                                    const struct model_recipe *recipe, const enum quant_type *float_types);
void layout_plan_finish(struct layout_plan *plan); // an empty one is allowed

#endif
