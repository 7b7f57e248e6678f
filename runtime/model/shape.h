// Published model shapes by name, and slices of a model: its first layers.
#ifndef SLUICE_MODEL_SHAPE_H
#define SLUICE_MODEL_SHAPE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

// The config.json of a published model; a constant. Names: "qwen3-next-80b". Errors: SLUICE_ERR_ARGUMENT, the message
// lists the names there are.
enum sluice_status model_shape_find(const char *name, const char **config);

// *out[*out_bytes] (NUL-terminated, released with mem_free) = the config of the same model with its first `layers`
// layers only. Errors: SLUICE_ERR_FORMAT (no JSON object with num_hidden_layers), SLUICE_ERR_ARGUMENT (the model has
// fewer layers), SLUICE_ERR_MEMORY; *out is NULL then.
enum sluice_status model_shape_slice(const char *config, size_t bytes, uint32_t layers, char **out, size_t *out_bytes);

#endif
