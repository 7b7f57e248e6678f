// How far one distribution over tokens is from another, collected token by token.
#ifndef SLUICE_TOOLS_DIVERGENCE_H
#define SLUICE_TOOLS_DIVERGENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

struct divergence {
    size_t count, capacity;
    double *kl;                  // [capacity] nats, >= 0, owned
    size_t same_top;             // tokens for which both find the same token likeliest
    size_t same_experts;         // tokens that went through the same experts in every layer
    double same_experts_kl;      // sum of their nats
    size_t predicted;            // tokens whose successor was known
    double reference_loss, loss; // sums of -log p(successor)
};

// The likeliest of `count` >= 1 tokens, the first of equals.
int32_t divergence_likeliest(const float *logits, uint32_t count);

// Room for `capacity` >= 1 tokens. Error: MEMORY.
enum sluice_status divergence_create(size_t capacity, struct divergence *d);
void divergence_finish(struct divergence *d);

// Adds one token: KL(P || Q) = sum of P log(P / Q), P and Q the softmax of `reference` and `logits` [vocab], computed
// in f64. `successor`: the token that follows in the text, or -1. `same_experts`: whether both chose the same experts
// for it.
void divergence_add(struct divergence *d, const float *reference, const float *logits, uint32_t vocab,
                    int32_t successor, bool same_experts);

// Mean of the tokens with the same experts; 0 where there are none.
double divergence_mean_same_experts(const struct divergence *d);

// Adds to a token's fingerprint, 0 at first, that it uses `expert` of `layer`. The order of the calls does not matter;
// other experts have another fingerprint (but for a chance of 2^-64).
void divergence_add_expert(uint64_t *fingerprint, uint32_t layer, uint32_t expert);

double divergence_mean(const struct divergence *d);

// The value that a share of at least `quantile` (0..1] of the tokens does not exceed. Sorts d->kl.
double divergence_quantile(struct divergence *d, double quantile);

#endif
