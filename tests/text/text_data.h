// Test data of the text layer.
#ifndef SLUICE_TESTS_TEXT_DATA_H
#define SLUICE_TESTS_TEXT_DATA_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/text/small_tokenizer.h"

struct tokenizer;

// The whole of tests/data/`name`, NUL-terminated, uncompressed if the name ends in .gz (through the gzip program).
// Fails the test if it cannot be read. Release with free.
char *data_read(const char *name, size_t *bytes);

// The lines of a JSON-lines file as an array of its values.
json_t *data_json_lines(const char *name);

// The tokenizer of the demo checkpoint (2,048 tokens), from tools/demo.
struct tokenizer *data_demo_tokenizer(void);

// A tokenizer from parsed JSON.
struct tokenizer *data_tokenizer(const json_t *file);

#endif
