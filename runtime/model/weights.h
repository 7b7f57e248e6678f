// The trunk on the device: every tensor that is used by each token. Routed experts are the pager's (pager.h).
#ifndef SLUICE_MODEL_WEIGHTS_H
#define SLUICE_MODEL_WEIGHTS_H

#include "offload/container.h"
#include "runtime/model/config.h"
#include "runtime/model/slab.h"
#include "runtime/ops/tensor.h"

// SwiGLU block: the shared expert or a dense layer's feed-forward.
struct weights_ffn {
    struct tensor gate_up; // [2 * inter as alternating row tiles, hidden]
    struct tensor down;    // [hidden, inter]
    uint32_t inter;
};

struct weights_layer {
    struct gpu_range input_norm, post_norm; // [hidden]

    // Gated DeltaNet.
    struct tensor qkvz, ba, linear_out;
    struct gpu_range conv;           // [channels][taps]
    struct gpu_range a_log, dt_bias; // [value_heads]
    struct gpu_range linear_norm;    // [value_dim]

    // Gated attention.
    struct tensor q, k, v, attention_out;
    struct gpu_range q_norm, k_norm; // [head_dim]

    // Mixture of experts.
    struct tensor router;      // [experts, hidden]
    struct tensor shared_gate; // [1, hidden]
    struct weights_ffn shared;

    // A layer without experts.
    struct weights_ffn dense;
};

struct weights {
    struct tensor embed, head; // head shares embed's parts when the embedding is tied
    bool head_is_embed;
    struct gpu_range final_norm;  // [hidden]
    struct gpu_range frequencies; // [rotary_dim / 2]
    float rotary_scale;
    uint32_t layer_count;
    struct weights_layer *layers; // [layer_count], owned
    struct slab slab;             // all device memory of the trunk
};

// Reads every tensor that `config` calls for, checks its shape, and uploads it. Errors: SLUICE_ERR_FORMAT (missing or
// of another shape: the message names it), SLUICE_ERR_CHECKSUM, SLUICE_ERR_IO, SLUICE_ERR_DEVICE_MEMORY. On failure
// *weights is empty.
enum sluice_status weights_load(struct gpu_device *device, const struct container *container,
                                const struct model_config *config, struct weights *weights);
void weights_finish(struct weights *weights); // a zeroed struct is allowed

// Device memory that weights_load will take, without loading anything. Errors as above.
enum sluice_status weights_bytes(struct gpu_device *device, const struct container *container,
                                 const struct model_config *config, uint64_t *bytes);

#endif
