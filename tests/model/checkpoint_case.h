// Small checkpoints with one thing about them changed, in a temporary directory.
#ifndef SLUICE_TESTS_CHECKPOINT_CASE_H
#define SLUICE_TESTS_CHECKPOINT_CASE_H

#include <stdbool.h>
#include <stdint.h>

#include "quant/safetensors.h"
#include "runtime/model/layout.h"

enum { CHECKPOINT_PATH_BYTES = 256, CHECKPOINT_FP8_BLOCK = 32 };

struct checkpoint_case {
    const char *config;           // name of a file in tests/data/configs
    enum safetensors_dtype dtype; // of all tensors; F8_E4M3: of the matrices that a recipe may encode, others BF16
    bool fused;                   // experts.gate_up_proj and experts.down_proj
    const char *skip;             // this tensor is missing
    const char *reshape;          // this one has a row (or value) too many
    const char *poison;           // the last value of this one is `poison_value`
    float poison_value;
    bool extra; // an "mtp.fc.weight" that nothing calls for
};

// A new directory in the system's place for temporary files; fixture_remove takes it away with all it holds.
void checkpoint_directory_create(char path[CHECKPOINT_PATH_BYTES]);
void checkpoint_directory_remove(const char *path);

// Writes config.json and model.safetensors. Values are those of quant/synth.h with seed 1, converted to dtype.
void checkpoint_case_write(const struct checkpoint_case *c, const char *directory);

// values[elements] of a source tensor as checkpoint_case_write makes them for BF16, as bf16 bits.
void checkpoint_values(const struct model_source *source, uint32_t hidden_size, uint16_t *values);

// FP8: the byte of element `index`, and the scale of block `block`; any tensor has the same.
uint8_t checkpoint_fp8_byte(uint64_t index);
float checkpoint_fp8_scale(uint64_t block);

#endif
