// Chooses the next token from logits.
//
// Steps, in the order of Hugging Face's generate() (llama.cpp applies the temperature last, so that the same numbers
// give it a different top-p set; Qwen's recommended settings are meant for this order):
//   1. masked ids, ids that are not below the tokenizer's size, and logits that are not finite are excluded
//   2. repetition penalty r on every id of the prompt or the answer: l > 0 ? l / r : l * r      (Keskar et al. 2019)
//   3. presence penalty p: l - p for every id of the answer; frequency penalty f: l - f * occurrences in the answer
//   4. bias: l + bias(id)
//   5. temperature t: l / t; t = 0 means greedy: the largest logit wins and the following steps are skipped
//   6. top-k: the k largest; 0 means all
//   7. top-p: the most likely ones, up to and including the one with which their sum reaches p of what step 6 left
//   8. min-p: those with at least m times the probability of the likeliest
// Equal logits are ordered by id, the lower one first, so every setting is deterministic for a given seed.
//
// Random numbers: SplitMix64 (Steele, Lea, Flood 2014), one 64-bit state, the upper 53 bits as a fraction of 1; exactly
// one number per token that is not chosen greedily. Seeds give the same tokens on every machine as long as the logits
// are the same bits.
#ifndef SLUICE_TEXT_SAMPLER_H
#define SLUICE_TEXT_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

struct sampler_options {
    float temperature;        // 0 (greedy) or more
    int32_t top_k;            // 0: off
    float top_p;              // (0, 1]; 1: off
    float min_p;              // [0, 1]; 0: off
    float repetition_penalty; // > 0; 1: off
    float presence_penalty;   // [-2, 2]; 0: off
    float frequency_penalty;  // [-2, 2]; 0: off
    uint64_t seed;            // any value
};

// Greedy: temperature 0 and everything else off.
struct sampler_options sampler_options_default(void);

struct sampler;

// `vocab` is the tokenizer's size: ids from there on (padding rows of the output matrix) are never chosen.
// Errors: ARGUMENT (an option outside its range: the message names it), MEMORY. One thread at a time.
enum sluice_status sampler_create(const struct sampler_options *options, int32_t vocab, struct sampler **sampler);

// NULL is allowed.
void sampler_destroy(struct sampler *sampler);

// Excludes `id` from now on, or admits it again. Ids outside [0, vocab) are ignored.
void sampler_mask(struct sampler *sampler, int32_t id, bool excluded);

// Adds `bias` to the logit of `id` from now on (OpenAI's logit_bias). Ids outside [0, vocab) are ignored.
// Errors: MEMORY.
enum sluice_status sampler_bias(struct sampler *sampler, int32_t id, float bias);

// Tells the sampler the prompt, for the repetition penalty only. Ids outside [0, vocab) are ignored.
void sampler_prompt(struct sampler *sampler, const int32_t *ids, size_t count);

// Chooses an id from `logits` [count] f32 (count >= vocab is usual; further values are ignored, missing ones excluded).
// Does not allocate and does not count the id as chosen: call sampler_accept when it is used.
// Errors: DEVICE (no admissible id has a finite logit: the model's output is broken).
enum sluice_status sampler_sample(struct sampler *sampler, const float *logits, size_t count, int32_t *id);

// `id` has become part of the answer.
void sampler_accept(struct sampler *sampler, int32_t id);

// Forgets prompt and answer (not masks and bias) and starts the random numbers again from `seed`.
void sampler_reset(struct sampler *sampler, uint64_t seed);

// Log-probabilities of the raw logits (before every step above), natural logarithm, over all `count` values.
struct sampler_logprob {
    int32_t id;
    float logprob;
};

// top[top_count]: the likeliest ids, best first; *chosen: that of `id`. top_count <= count. Does not allocate.
void sampler_logprobs(const float *logits, size_t count, int32_t id, float *chosen, struct sampler_logprob *top,
                      size_t top_count);

#endif
