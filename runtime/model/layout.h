// Which tensors a model has: their names and shapes in a checkpoint, and how the container stores them.
//
// Checkpoint names are those that Hugging Face publishes. The container keeps them, except for two fused pairs, stored
// as alternating row tiles so that one kernel reads gate and up side by side:
//
//   model.layers.N.mlp.gate_up_proj.weight                (dense layers)
//   model.layers.N.mlp.shared_expert.gate_up_proj.weight  (layers with experts)
//
//   [gate tile 0][up tile 0][gate tile 1][up tile 1]...   2 * quant_tile_bytes(type, rows of one, cols) bytes
//
// The trunk is everything but the routed experts. Routed experts have no names in the container: each is a record
//
//   [gate|up pair tiles][pad to MODEL_EXPERT_PART_ALIGN][down tiles][pad to MODEL_EXPERT_RECORD_ALIGN]
//
// found by (moe_index, expert). All experts of a model have the same record layout.
//
// Number formats. The recipe gives one for the experts and one for the trunk's matrices. Vectors and convolution
// weights are plain f32. The router (mlp.gate), shared_expert_gate and in_proj_ba always keep the checkpoint's float
// type: they decide which experts run and how fast the DeltaNet memory decays, and are 0.2 % of the bytes. A matrix
// whose columns are no multiple of a format's block falls back: K formats to q8_0, q8_0 to bf16.
#ifndef SLUICE_MODEL_LAYOUT_H
#define SLUICE_MODEL_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "quant/quant.h"
#include "runtime/base/status.h"
#include "runtime/model/config.h"

enum {
    MODEL_NAME_BYTES = 96, // longest tensor name with its NUL
    MODEL_EXPERT_PART_ALIGN = 256,
    MODEL_EXPERT_RECORD_ALIGN = 4096,
};

enum model_tensor_kind {
    MODEL_TENSOR_PLAIN,  // f32 values [rows, cols], row-major (a vector has rows 1)
    MODEL_TENSOR_MATRIX, // tiles of a number format
    MODEL_TENSOR_PAIR,   // two matrices [rows, cols] in alternating row tiles
};

// A tensor of the checkpoint.
struct model_source {
    char name[MODEL_NAME_BYTES];
    uint32_t rank; // 1..3
    uint64_t shape[3];
};

uint64_t model_source_elements(const struct model_source *source);

// A tensor of the container's trunk section.
struct model_tensor {
    char name[MODEL_NAME_BYTES];
    enum model_tensor_kind kind;
    bool keep_float;       // stays in the checkpoint's float type, whatever the recipe says
    uint32_t rows, cols;   // of the matrix; of one of the two for a pair
    uint32_t source_count; // 1, or 2 for a pair: gate, up
    struct model_source sources[2];
};

struct model_layout {
    struct model_config config; // a copy
    size_t tensor_count;
    struct model_tensor *tensors; // [tensor_count] in the container's order; owned
    size_t trunk_source_count;    // sources of the trunk
    size_t source_count;          // and of the experts
};

// *layout is owned by the caller; release with model_layout_destroy. On failure *layout is NULL.
// Errors: SLUICE_ERR_MEMORY. Threads: any; the result is never changed.
enum sluice_status model_layout_create(const struct model_config *config, struct model_layout **layout);
void model_layout_destroy(struct model_layout *layout); // NULL is allowed

// Rows of a tensor as the container's directory states them, so that quant_tile_bytes(type, rows, cols) is its size:
// for a pair 2 * rows rounded up to whole tiles.
uint32_t model_tensor_stored_rows(const struct model_tensor *tensor);

enum model_expert_part { MODEL_EXPERT_GATE, MODEL_EXPERT_UP, MODEL_EXPERT_DOWN, MODEL_EXPERT_PART_COUNT };

// The matrix `part` of an expert in the checkpoint. layer counts all layers. Ranges are checked.
void model_expert_source(const struct model_layout *layout, uint32_t layer, uint32_t expert,
                         enum model_expert_part part, struct model_source *source);

// All tensors of the checkpoint under the published names, index < source_count (checked): the trunk's, then the
// experts' in (layer, expert, part) order.
void model_layout_source(const struct model_layout *layout, size_t index, struct model_source *source);

// The layer number of the moe_index-th layer with experts (moe_index < moe_count, checked).
uint32_t model_layout_moe_layer(const struct model_layout *layout, uint32_t moe_index);

// --- number formats -------------------------------------------------------------------------------------------------

struct model_recipe {
    enum quant_type experts;
    enum quant_type trunk;
};

// The recipe for experts of type `experts`: trunk in q8_0, or in the same type if that is a float.
struct model_recipe model_recipe_default(enum quant_type experts);

// The same by the names that users give: "q4_k" ...; NULL: experts in Q4_K, the trunk as above. Error: that of
// quant_type_from_name.
enum sluice_status model_recipe_from_names(const char *experts, const char *trunk, struct model_recipe *recipe);

// `wanted`, or the first of q8_0 and bf16 whose blocks fit rows of `cols` values.
enum quant_type model_type_for_cols(enum quant_type wanted, uint32_t cols);

// The format of a trunk tensor: f32 if plain; `source` (the checkpoint's float type) if it keeps its own; else the
// recipe's.
enum quant_type model_tensor_type(const struct model_tensor *tensor, const struct model_recipe *recipe,
                                  enum quant_type source);

// Bytes of a trunk tensor stored as `type`.
uint64_t model_tensor_bytes(const struct model_tensor *tensor, enum quant_type type);

// Where the parts of an expert's record lie.
struct model_expert_layout {
    enum quant_type gate_up_type, down_type;
    uint64_t gate_up_bytes; // at offset 0
    uint64_t down_offset;   // a multiple of MODEL_EXPERT_PART_ALIGN
    uint64_t down_bytes;
    uint64_t record_bytes; // a multiple of MODEL_EXPERT_RECORD_ALIGN
};

// All zero if the model has no experts.
struct model_expert_layout model_expert_layout(const struct model_config *config, const struct model_recipe *recipe);

#endif
