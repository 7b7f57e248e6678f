// A tokenizer made in memory, for tests and fuzz targets.
#ifndef SLUICE_TESTS_SMALL_TOKENIZER_H
#define SLUICE_TESTS_SMALL_TOKENIZER_H

#include <jansson.h>

// A tokenizer of 256 bytes, the merges given by `merges` ("a b" lines ending in NULL) and the added tokens
// <|im_start|>,
// <|im_end|> (special) and <think>: small enough for a sweep over all its allocations. A new reference.
json_t *data_small_tokenizer(const char *const *merges);

#endif
