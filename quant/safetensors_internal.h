// What safetensors.c, safetensors_header.c, safetensors_read.c and checkpoint.c share.
#ifndef SLUICE_QUANT_SAFETENSORS_INTERNAL_H
#define SLUICE_QUANT_SAFETENSORS_INTERNAL_H

#include <stdint.h>

#include <jansson.h>

#include "quant/safetensors.h"

// A larger header or index is refused; the format's own limit.
#define SAFETENSORS_HEADER_BYTES_MAX 100000000u

struct safetensors_file {
    char *path; // owned
    int fd;     // owned
    uint64_t bytes;
};

struct safetensors {
    struct safetensors_file *files; // [file_count], owned
    uint32_t file_count;
    struct safetensors_tensor *tensors; // [tensor_count], owned, names too; in the order of files and offsets
    size_t tensor_count, tensor_capacity;
    const struct safetensors_tensor **by_name; // [tensor_count] sorted by name, owned; NULL until sorted
};

// Adds the tensors of one more file. On failure `st` stays consistent (close it).
enum sluice_status safetensors_add_file(struct safetensors *st, const char *path);

// After the last file: makes safetensors_find work; refuses a name that occurs twice.
enum sluice_status safetensors_sort(struct safetensors *st);

// Reads exactly `bytes` bytes at `offset`.
enum sluice_status safetensors_file_read(const struct safetensors_file *file, uint64_t offset, void *out,
                                         uint64_t bytes);

// Parses JSON text from an untrusted file after checking that its tree would not be absurdly large for its length.
// *root is owned by the caller. `what` ("header", "index") and `path` are for messages.
enum sluice_status safetensors_json_parse(const char *path, const char *what, const char *text, size_t bytes,
                                          json_t **root);

// Appends the tensors of `header`, the parsed header of file number `file`, whose data begins at byte `data_offset`.
enum sluice_status safetensors_header_add(struct safetensors *st, uint32_t file, uint64_t data_offset,
                                          const json_t *header);

#endif
