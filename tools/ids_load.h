// Token ids for commands that compare what a model computes.
#ifndef SLUICE_TOOLS_IDS_LOAD_H
#define SLUICE_TOOLS_IDS_LOAD_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

// Reads a JSON array of token ids, or an object with such an array as "ids". *ids, at least one, are the caller's:
// release with mem_free. Errors: IO, FORMAT (the message names the file and the element), MEMORY.
enum sluice_status ids_load_json(const char *path, int32_t **ids, size_t *count);

// The ids of a UTF-8 text file by the tokenizer of the model at `model_path`; no chat template is applied, but text
// such as "<|im_end|>" becomes that token. As above; also IO, and the errors of text_load.
enum sluice_status ids_load_text(const char *path, const char *model_path, int32_t **ids, size_t *count);

#endif
