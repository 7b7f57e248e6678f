// Device memory for the work on a batch: activations between kernels, routing, logits. Planned once at open from the
// model's sizes and the session capacity; nothing is allocated while running.
//
// The tokens of a prefill are cut into *blocks* whose residual stream stays on the device for the whole prompt, and a
// block into *sub-batches*, for which the widest intermediate results exist:
//
// A prompt longer than all blocks together goes through the model in several passes.
//
//   pass      |<-------- block 0 -------->|<-------- block 1 -------->| ...      h, x, routing: per block
//   sub-batch |<--->|<--->|<--->|<--->|<->|                                      projections, attention, ...: one set
#ifndef SLUICE_MODEL_SCRATCH_H
#define SLUICE_MODEL_SCRATCH_H

#include "runtime/model/config.h"
#include "runtime/model/slab.h"
#include "runtime/ops/ops.h"

// Rows that are bound one by one (sessions decoded together) lie this many floats, or a multiple, apart.
enum { ROW_PITCH_FLOATS = 64 };

// Tokens of one block, all arrays with `capacity` rows.
struct scratch_block {
    uint32_t capacity;
    struct gpu_range h;       // f32 [hidden]: the residual stream
    struct activations x;     // [hidden]: normed input of the routed experts; f32 or 8-bit, whichever the experts read
    struct gpu_range tokens;  // u32: ids (upload)
    struct gpu_range ids;     // u32 [top_k]: selected experts (readback)
    struct gpu_range weights; // f32 [top_k] (readback)
    struct gpu_range pick_row, pick_weight; // u32, f32 [top_k]: for op_moe_combine (upload)
};

struct scratch_limits {
    uint32_t capacity_tokens; // of a session
    uint32_t pass_tokens;     // of a prompt that go through the layers together, 1..capacity_tokens
    uint32_t segments_max;    // KV segments of a layer
    bool quantise_trunk;      // 8-bit activations for the trunk's matrices
    bool quantise_experts;    // and for the experts'
    uint32_t inter_max;       // widest SwiGLU of the trunk
};

struct scratch {
    uint32_t batch;         // rows of a sub-batch
    uint32_t block_tokens;  // rows of a block; a multiple of batch
    uint32_t moe_rows;      // (token, expert) rows computed at once, >= block_tokens and >= 8 * top_k
    uint32_t group_experts; // experts whose lists surely fit `lists` at once
    uint32_t logit_rows;
    uint32_t partial_rows; // (query row, split) pairs that partial_o has room for

    struct scratch_block *blocks; // [block_count], owned
    uint32_t block_count;

    // One sub-batch, f32 [batch][...].
    struct activations normed; // [hidden]
    struct gpu_range wide;     // [max(qkvz rows, query and gate rows)]
    struct gpu_range ba, conv; // [2 value_heads], [channels]
    struct gpu_range q, k, v;  // [heads * head_dim], [kv_heads * head_dim] twice
    struct gpu_range delta;    // [value_heads * value_dim]
    struct activations mixed;  // [max(heads * head_dim, value_heads * value_dim)]: input of the mixer's last matrix
    struct gpu_range partial_o, partial_ml;
    struct gpu_range positions_in, positions; // u32 [8]: of a decode's runs (upload), and where kernels read them
    struct gpu_range router;                  // [experts]
    struct gpu_range shared_gate;             // [1]
    struct activations inter;                 // [inter_max]
    struct gpu_range ffn;                     // [hidden]

    // One run of expert rows.
    struct activations act; // [moe_rows][expert_intermediate]
    struct gpu_range y;     // [moe_rows][hidden]

    struct gpu_range logits; // f32 [logit_rows][vocab] (readback)
    struct gpu_range hidden; // f32 [batch][hidden] (readback), for taps
    struct gpu_range lists;  // tiles and row lists of a layer's experts (upload)

    struct slab device, upload, readback;
};

// Plans everything; *bytes (may be NULL) is the device memory. With `allocate` the ranges are made, too.
// Errors: SLUICE_ERR_BUDGET, SLUICE_ERR_DEVICE_MEMORY, SLUICE_ERR_MEMORY; *scratch is empty then.
enum sluice_status scratch_create(struct gpu_device *device, const struct model_config *config,
                                  const struct scratch_limits *limits, bool allocate, struct scratch *scratch,
                                  uint64_t *bytes);
void scratch_finish(struct scratch *scratch); // a zeroed struct is allowed

// The memory of x as `n` rows, and as `n` rows of `cols` columns (without an 8-bit form if that does not fit the
// blocks).
struct activations activations_rows(const struct activations *x, uint32_t n);
struct activations activations_cols(const struct activations *x, uint32_t n, uint32_t cols);

#endif
