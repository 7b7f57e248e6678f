// The parts of a tokenizer. For tokenizer*.c only.
#ifndef SLUICE_TEXT_TOKENIZER_PRIVATE_H
#define SLUICE_TEXT_TOKENIZER_PRIVATE_H

#include <jansson.h>
#include <stdbool.h>

#include "runtime/text/added_tokens.h"
#include "runtime/text/merges.h"
#include "runtime/text/splitter.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/vocab.h"

struct tokenizer {
    struct vocab vocab;
    struct merges merges;
    struct added_tokens added;
    struct splitter *splitter; // owned
    bool nfc;                  // normalise before splitting
    bool ignore_merges;        // a word that is a token becomes that token without merging
};

// Fill an empty tokenizer from the parsed tokenizer.json, and add what tokenizer_config.json names beyond it.
// Errors: as tokenizer_create; the tokenizer is then half-built, tokenizer_destroy takes it.
enum sluice_status tokenizer_file_read(struct tokenizer *tokenizer, const json_t *file);
enum sluice_status tokenizer_file_read_config(struct tokenizer *tokenizer, const json_t *config);

#endif
