// What a model looks like: the numbers of config.json, checked once, so that the rest of the program can rely on them.
//
// Accepts model_type "qwen3_next" in the spellings that published and re-saved checkpoints use: rope_theta,
// partial_rotary_factor and rope_scaling at the top or rope_parameters in one object; layer_types or
// full_attention_interval; torch_dtype or dtype. Keys that do not change the arithmetic are ignored. Whatever is
// missing, out of range or not supported (biases, sliding windows, other activations and rope types) is refused with
// one message that names the field.
#ifndef SLUICE_MODEL_CONFIG_H
#define SLUICE_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

// Limits of what is accepted. All counts are at least 1 unless the field says otherwise; hidden_size, head dimensions
// and intermediate sizes are multiples of 8 (a step of the 16-bit tiles).
enum {
    MODEL_LAYERS_MAX = 1024,
    MODEL_EXPERTS_MAX = 1024,
    MODEL_TOP_K_MAX = 32,
    MODEL_HEADS_MAX = 256,       // of attention and of DeltaNet, queries and values
    MODEL_HEADS_PER_KV_MAX = 16, // query heads that share one of keys and values
    MODEL_HEAD_DIM_MAX = 256,    // of attention and of DeltaNet
    MODEL_HIDDEN_MAX = 32768,    // hidden_size and every intermediate size
    MODEL_VOCAB_MAX = 1 << 20,
    MODEL_CONV_TAPS_MAX = 8, // at least 2
    MODEL_EOS_MAX = 8,
    MODEL_POSITIONS_MAX = 1 << 24, // what a position in f32 holds exactly
    MODEL_FP8_BLOCK_MIN = 16,      // rows and columns that share a scale in FP8 checkpoints
};

struct model_layer {
    bool full_attention;  // else gated DeltaNet
    bool moe;             // else a dense SwiGLU of dense_intermediate
    uint16_t mixer_index; // this is the mixer_index-th layer of its mixer kind, from 0
    uint16_t moe_index;   // this is the moe_index-th layer with experts, from 0; 0 if dense
};

struct model_rope {
    double theta;
    bool yarn;
    // The rest only with yarn.
    double factor; // >= 1
    double original_positions;
    double beta_fast, beta_slow;
    double attention_factor;       // 0: not given, computed from factor (and mscale)
    double mscale, mscale_all_dim; // 0: not given
    bool truncate;                 // round the ends of the ramp to whole dimensions
};

// A plain value: copy it freely, nothing to release.
struct model_config {
    uint32_t vocab_size;
    uint32_t hidden_size;
    uint32_t layer_count;
    struct model_layer layers[MODEL_LAYERS_MAX];  // [layer_count]
    uint32_t full_count, linear_count, moe_count; // layers of each kind; full + linear = layer_count
    float norm_eps;

    // Gated attention. heads is a multiple of kv_heads.
    uint32_t heads, kv_heads, head_dim;
    uint32_t rotary_dim; // even, 2..head_dim: the first dimensions of a head are rotated
    struct model_rope rope;
    uint32_t positions_max; // max_position_embeddings

    // Gated DeltaNet. linear_value_heads is a multiple of linear_key_heads.
    uint32_t linear_key_heads, linear_value_heads, linear_key_dim, linear_value_dim;
    uint32_t conv_taps;

    // Feed-forward. Fields of a kind that no layer has are 0.
    uint32_t dense_intermediate;
    uint32_t experts, top_k; // top_k <= experts
    uint32_t expert_intermediate, shared_intermediate;
    bool norm_topk_prob;

    bool tie_word_embeddings;
    int64_t bos_id; // -1: none
    int64_t eos_ids[MODEL_EOS_MAX];
    uint32_t eos_count; // may be 0

    uint32_t fp8_block_rows, fp8_block_cols; // of quantization_config; 0: the checkpoint has no FP8 matrices
};

// Parses `length` bytes of config.json. *config is complete on success and zeroed on failure.
// Errors: SLUICE_ERR_FORMAT (no JSON object; a field is missing, of the wrong type or impossible),
// SLUICE_ERR_UNSUPPORTED (a model or an option this program does not run), SLUICE_ERR_MEMORY. Threads: any.
enum sluice_status model_config_parse(const char *text, size_t length, struct model_config *config);

// Rope: angle of pair i at position p is p * frequencies[i], i < rotary_dim / 2; cos and sin are multiplied by
// *attention_factor (1 without YaRN). Computed in f64 as Transformers' "default" and "yarn" define it, rounded once:
//   f_i = theta^(-2i / rotary_dim) * ((1 - ramp_i) + ramp_i / factor), ramp from corr(beta_fast) to corr(beta_slow),
//   corr(n) = rotary_dim * ln(original_positions / (2 pi n)) / (2 ln theta)
// frequencies f32 [MODEL_HEAD_DIM_MAX / 2]: entries from rotary_dim / 2 on are set to 0.
void model_config_rope(const struct model_config *config, float *frequencies, float *attention_factor);

// Derived sizes (rows of the projections, channels of the convolution); at most 2^18.
static inline uint32_t model_qg_rows(const struct model_config *c) // query and gate per head
{
    return 2 * c->heads * c->head_dim;
}

static inline uint32_t model_attention_dim(const struct model_config *c)
{
    return c->heads * c->head_dim;
}

static inline uint32_t model_kv_dim(const struct model_config *c)
{
    return c->kv_heads * c->head_dim;
}

static inline uint32_t model_linear_value_dim(const struct model_config *c) // all value heads together
{
    return c->linear_value_heads * c->linear_value_dim;
}

static inline uint32_t model_conv_channels(const struct model_config *c) // q | k | v
{
    return 2 * c->linear_key_heads * c->linear_key_dim + model_linear_value_dim(c);
}

static inline uint32_t model_qkvz_rows(const struct model_config *c)
{
    return model_conv_channels(c) + model_linear_value_dim(c);
}

static inline uint32_t model_ba_rows(const struct model_config *c)
{
    return 2 * c->linear_value_heads;
}

#endif
