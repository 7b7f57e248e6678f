// What a sequence leaves behind on the device: recurrent and convolution states of the DeltaNet layers, K and V of the
// attention layers. Sizes are fixed by the capacity in tokens; everything lies in one slab.
#ifndef SLUICE_MODEL_CACHE_H
#define SLUICE_MODEL_CACHE_H

#include "runtime/gpu/command.h"
#include "runtime/model/config.h"
#include "runtime/model/slab.h"
#include "runtime/ops/ops.h"

struct cache_layer {
    struct gpu_range state;      // linear: f32 [value_heads][key_dim][value_dim]
    struct gpu_range conv;       // linear: f32 [conv_taps - 1][channels]
    struct kv_segment *segments; // full: [segment_count], owned, in order of position
    uint32_t segment_count;
};

struct cache {
    uint32_t layer_count;
    struct cache_layer *layers; // [layer_count], owned
    uint32_t capacity;          // tokens
    struct slab slab;
};

// Room for `capacity` tokens. Contents are undefined until cache_clear. Errors: SLUICE_ERR_DEVICE_MEMORY,
// SLUICE_ERR_MEMORY.
enum sluice_status cache_create(struct gpu_device *device, const struct model_config *config, enum kv_type kv,
                                uint32_t capacity, struct cache *cache);
void cache_finish(struct cache *cache); // a zeroed struct is allowed

// Device memory that cache_create takes, and the most segments an attention layer has.
enum sluice_status cache_bytes(struct gpu_device *device, const struct model_config *config, enum kv_type kv,
                               uint32_t capacity, uint64_t *bytes, uint32_t *segments_max);

// Bytes of K and V of all layers.
uint64_t cache_kv_bytes(const struct cache *cache);

// Records zeroing of the states: an empty sequence.
void cache_clear(const struct cache *cache, struct gpu_command *cmd);

#endif
