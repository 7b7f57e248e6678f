// Nothing here is public but sluice_speed_measure in runtime/sluice.h: how it measures.
//
// The model's own forward pass runs on its first layers, as many as hold every kind of layer (four of the published
// shape), with their real weights; times are scaled to all layers. Experts are drawn from so few of each layer that all
// of them stay on the device, and in a prefill so few that an expert gets as many rows as it would in the whole prompt:
//
//   rows per expert = block * top_k / experts = trial_tokens * top_k / trial_experts
//
// so that neither the drive nor the share of one expert's weights in its rows distorts the time. Attention, whose cost
// per token grows with the context, is measured at two depths (kernel times) and extended linearly. The output matrix
// is timed by itself, copies of experts to the device too.
#ifndef SLUICE_MODEL_SPEED_TRIAL_H
#define SLUICE_MODEL_SPEED_TRIAL_H

#include "runtime/model/config.h"

// Layers from the first on that hold every kind of layer the model has (mixer and feed-forward), at least 1.
uint32_t speed_trial_layers(const struct model_config *config);

// Tokens and experts of a prefill trial: at least `wanted` tokens unless that needs more than experts_max experts.
struct speed_trial_sizes {
    uint32_t tokens, experts;
};
struct speed_trial_sizes speed_trial_sizes(uint32_t experts, uint32_t top_k, uint32_t experts_max, uint32_t prompt,
                                           uint32_t wanted);

#endif
