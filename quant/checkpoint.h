// A checkpoint directory as Hugging Face publishes it: model.safetensors.index.json with its shards, or one
// model.safetensors.
//
// The index is untrusted too: every shard must be a plain file name in the same directory, every tensor of the index
// must be in the shard that the index says, and a tensor that is in two shards is an error.
#ifndef SLUICE_QUANT_CHECKPOINT_H
#define SLUICE_QUANT_CHECKPOINT_H

#include "quant/safetensors.h"
#include "runtime/base/status.h"

// Opens all shards of `directory`: the functions of quant/safetensors.h then see one set of tensors. Keeps one file
// descriptor per shard. On failure *st is NULL.
enum sluice_status checkpoint_open(const char *directory, struct safetensors **st);

#endif
