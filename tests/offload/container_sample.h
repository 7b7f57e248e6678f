// A small container with a bit of everything (two number formats, an empty document, tensors around 4 KiB, two expert
// layers of different record size), its data a pure function of the item; and folders for temporary files.
#ifndef SLUICE_TESTS_CONTAINER_SAMPLE_H
#define SLUICE_TESTS_CONTAINER_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "offload/container_write.h"

enum {
    SAMPLE_TYPE_TILES = 3,
    SAMPLE_TYPE_F32 = 9,
    SAMPLE_TENSORS = 3,
    SAMPLE_LAYERS = 2,
    SAMPLE_EXPERTS = 5, // of both layers
};

extern const struct container_plan sample_plan;
extern const struct container_writer_options sample_options;

// Fills out with the bytes of tensor `index` or of an expert.
void sample_tensor(uint32_t index, uint8_t *out);
void sample_expert(uint32_t layer, uint32_t expert, uint8_t *out);

// Puts everything that is missing; stops at the first failure. Does not finish.
enum sluice_status sample_put(struct container_writer *w);

// Writes the whole container; fails the test if that fails.
void sample_write(const char *path);

// A new empty folder, removed with everything in it by folder_remove: on a disk, or in memory where that exists, so
// that thousands of syncs cost nothing.
void folder_create(char out[64], bool in_memory);
void folder_remove(const char *folder);

// The content of a file, released with free. Fails the test if it cannot be read.
uint8_t *file_load(const char *path, size_t *bytes);
void file_store(const char *path, const void *data, size_t bytes);

#endif
