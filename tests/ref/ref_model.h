// A whole model, one token at a time, in double precision: what every other implementation is compared with. It reads
// decoded weights by their checkpoint names, so that the weights of a quantised file give the exact result for exactly
// that file. Written to be read; speed does not matter.
#ifndef SLUICE_TESTS_REF_MODEL_H
#define SLUICE_TESTS_REF_MODEL_H

#include <stdint.h>

#include "runtime/model/config.h"

// The weights of tensor `name` ("model.layers.3.mlp.gate.weight"), row-major, `count` of them. They belong to the
// callback and must live as long as the model.
typedef const float *ref_weights(void *user, const char *name, size_t count);

struct ref_model;

// `config` is copied.
struct ref_model *ref_model_create(const struct model_config *config, ref_weights *weights, void *user);
void ref_model_destroy(struct ref_model *model); // NULL is allowed

// Reads the next `count` tokens; a second call goes on where the first one stopped.
//   logits   [count][vocab_size], or NULL
//   hidden   [count][layer_count][hidden_size], or NULL: the residual stream after every layer
//   experts  [count][layer_count][top_k], or NULL: the experts by falling probability; dense layers leave theirs alone
void ref_model_read(struct ref_model *model, const uint32_t *ids, size_t count, double *logits, double *hidden,
                    uint32_t *experts);

// What a layer remembers now. Linear layers: state [value_heads][key_dim][value_dim] and conv [conv_taps -
// 1][channels], oldest first. Full layers: k, normalised and rotated, [position][kv_heads][head_dim].
const double *ref_model_state(const struct ref_model *model, uint32_t layer);
const double *ref_model_conv(const struct ref_model *model, uint32_t layer);
const double *ref_model_k(const struct ref_model *model, uint32_t layer);

// The rotary frequencies [rotary_dim / 2] as the model uses them; returns the factor of cos and sin.
double ref_rope_frequencies(const struct model_config *config, float *frequencies);

#endif
