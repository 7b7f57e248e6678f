// The header and directory of a container in memory, as the reader loads them and the writer builds them. One check
// serves both, so that the writer cannot make what the reader refuses.
#ifndef SLUICE_OFFLOAD_CONTAINER_DIRECTORY_H
#define SLUICE_OFFLOAD_CONTAINER_DIRECTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "offload/container_format.h"
#include "runtime/base/status.h"

struct container_directory {
    struct container_disk_header header;
    uint8_t *bytes; // directory_bytes and padding, owned; the pointers below lead into it
    struct container_disk_type *types;
    struct container_disk_document *documents;
    struct container_disk_tensor *tensors;
    struct container_disk_layer *layers;
    uint8_t (*expert_xxh3)[CONTAINER_HASH_BYTES];
    char *strings;
};

// `bytes` rounded up to a multiple of 4 KiB; UINT64_MAX & ~4095 if that overflows, which no file has room for.
uint64_t container_padded_bytes(uint64_t bytes);

// Magic, checksum, version, file size, and that counts and directory size agree and fit the file. Allocates nothing.
enum sluice_status container_header_check(const struct container_disk_header *header, const char *path,
                                          uint64_t file_bytes);

// Sizes of the tables for the header's counts; false if above CONTAINER_DIRECTORY_BYTES_MAX.
bool container_directory_size(const struct container_disk_header *header, uint64_t *bytes);

// Allocates directory->bytes (zeroed) for the counts in directory->header and sets the pointers into it.
enum sluice_status container_directory_alloc(struct container_directory *directory);
void container_directory_free(struct container_directory *directory);

// Everything but the checksums of the items: names, types, order, and that items follow each other from
// header.documents_offset to the end of the file. Allocates nothing.
enum sluice_status container_directory_check(const struct container_directory *directory, const char *path);

// The NUL-terminated text of a checked name.
const char *container_directory_name(const struct container_directory *directory, struct container_disk_name name);

// NULL if the id is not declared.
const struct container_disk_type *container_directory_type(const struct container_directory *directory, uint32_t id);

// Canonical XXH3-128.
void container_hash(const void *data, uint64_t bytes, uint8_t out[CONTAINER_HASH_BYTES]);

// The same over the data and zeros up to a multiple of 4 KiB.
void container_hash_padded(const void *data, uint64_t bytes, uint8_t out[CONTAINER_HASH_BYTES]);

#endif
