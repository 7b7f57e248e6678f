// Everything about text that belongs to a model: tokenizer, chat template, generation defaults. Shared by the commands.
#ifndef SLUICE_TOOLS_TEXT_LOAD_H
#define SLUICE_TOOLS_TEXT_LOAD_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/text/chat.h"
#include "runtime/text/sampler.h"
#include "runtime/text/tokenizer.h"

struct text_bundle {
    struct tokenizer *tokenizer;     // owned
    enum chat_template template;     // UNKNOWN: the model has none, or one that is not recognised
    char *template_text;             // the model's own Jinja text, owned; NULL if it has none
    struct sampler_options sampling; // from generation_config.json; greedy where it says nothing
    int32_t *stop_ids;               // eos_token_id of generation_config.json (or config.json), else <|im_end|>; owned
    size_t stop_id_count;
};

// Loads from `path`: a container (*.sluice), a directory in the Hugging Face layout, or a tokenizer.json file.
// After a failure `*bundle` is empty. Release with text_bundle_finish.
// Errors: IO, FORMAT, UNSUPPORTED, MEMORY; the message names the file.
enum sluice_status text_load(const char *path, struct text_bundle *bundle);

// Takes `wanted` (the user's --template) or, if that is UNKNOWN, the model's own template; a failure tells the user
// what to choose.
enum sluice_status text_choose_template(struct text_bundle *bundle, enum chat_template wanted);

// Releases the contents; an empty bundle is allowed.
void text_bundle_finish(struct text_bundle *bundle);

#endif
