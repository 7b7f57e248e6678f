// The token mixers of a layer: gated DeltaNet, and gated attention. Each function records operations of a sub-batch
// into b->cmd: from the normed input, rows of scratch.normed, to h += mixer(input).
#ifndef SLUICE_MODEL_MIXER_H
#define SLUICE_MODEL_MIXER_H

#include "runtime/model/sub_batch.h"

// All of a DeltaNet layer's mixer; moves the states of the runs' sessions on.
void mixer_delta(struct sub_batch *b, const struct weights_layer *w, uint32_t layer);

// Attention in three parts, because only the middle one depends on the position:
//   begin  queries with their gates, keys and values
//   (2)    rope, keys and values to the cache, attention, gate: the heads' values in scratch.mixed, or with several
//          runs in scratch.q
//   end    the output projection
void mixer_attention_begin(struct sub_batch *b, const struct weights_layer *w);
void mixer_attention(struct sub_batch *b, const struct weights_layer *w, uint32_t layer);
void mixer_attention_end(struct sub_batch *b, const struct weights_layer *w);

// Whether the second part is known from an earlier token, and nothing is to be recorded (pass_again).
bool mixer_attention_again(const struct sub_batch *b, uint32_t layer);

#endif
