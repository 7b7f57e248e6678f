// Reading and validating a `*.sluice` container: text documents, trunk tensors and expert records in one file.
//
// Opening checks the header, the directory and their checksums, and every offset, size, count and order against the
// size of the file, before anything is allocated for them. What is read through this header is verified against its
// XXH3-128 before the caller is told OK; expert records that the caller reads itself (offload/reader.h) are verified by
// container_expert_verify. Layout on disk: offload/container_format.h.
//
// A container is immutable once open: all functions but container_close may be called from several threads at once.
// Errors: SLUICE_ERR_IO (cannot read), SLUICE_ERR_FORMAT (not a container, impossible directory, other version),
// SLUICE_ERR_CHECKSUM (bytes changed), SLUICE_ERR_MEMORY; the message names the file, the item and the file offset.
#ifndef SLUICE_OFFLOAD_CONTAINER_H
#define SLUICE_OFFLOAD_CONTAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

struct container;

// How a tensor's bytes are ordered: interleaved the way the matvec kernels read them, or row by row.
enum container_layout { CONTAINER_LAYOUT_PLAIN, CONTAINER_LAYOUT_TILES };

struct container_tensor {
    const char *name; // owned by the container
    uint32_t type_id; // number format; its name: container_type_name
    enum container_layout layout;
    uint64_t rows, cols;  // >= 1; rows * cols fits 63 bits
    uint64_t bytes;       // >= 1, without padding. Whether it fits type, rows and cols is for the caller to check
    uint64_t file_offset; // a multiple of 4096
};

// The routed experts of one layer; layers without experts have none.
struct container_expert_layer {
    uint32_t layer;        // index of the transformer layer
    uint32_t expert_count; // >= 1
    uint32_t gate_up_type_id, down_type_id;
    uint32_t hidden, intermediate; // gate and up are [intermediate][hidden], down is [hidden][intermediate]
    uint64_t down_offset;          // bytes from the record's start to down; a multiple of 16, < record_bytes
    uint64_t record_bytes;         // a multiple of 4096
    uint64_t file_offset;          // of expert 0; expert e lies at file_offset + e * record_bytes
    uint64_t expert_first;         // number of experts in all earlier layers: a dense index for residency
};

// *c is NULL after a failure.
enum sluice_status container_open(const char *path, struct container **c);

// NULL is allowed.
void container_close(struct container *c);

const char *container_path(const struct container *c);
uint64_t container_file_bytes(const struct container *c);

// The open descriptor, still owned by the container: lets a reader check that it opened the same file.
int container_descriptor(const struct container *c);

// The 128-bit identity of the inputs and options that the writer was given.
void container_fingerprint(const struct container *c, uint8_t out[16]);

// The name of a number format for messages; NULL for an id that the file does not declare. Every id in a
// container_tensor or container_expert_layer is declared.
const char *container_type_name(const struct container *c, uint32_t type_id);

// What a hostile file can make a reader allocate; the longest tokenizer.json known has 12 MB.
enum { CONTAINER_DOCUMENT_BYTES_MAX = 256 << 20 };

// A verified copy of the document "config.json", "tokenizer.json", ..., NUL-terminated after `bytes` bytes (it may
// contain NULs itself). *text is released with mem_free. SLUICE_ERR_UNSUPPORTED if there is no such document (*text is
// NULL then).
enum sluice_status container_document(const struct container *c, const char *name, char **text, size_t *bytes);

uint32_t container_document_count(const struct container *c);
const char *container_document_name(const struct container *c, uint32_t index);
uint64_t container_document_bytes(const struct container *c, uint32_t index);

uint32_t container_tensor_count(const struct container *c);

// In file order. index < container_tensor_count.
const struct container_tensor *container_tensor_at(const struct container *c, uint32_t index);

// NULL if there is none.
const struct container_tensor *container_tensor_find(const struct container *c, const char *name);

// Reads t->bytes bytes to `out` and verifies them. After a failure `out` holds anything.
enum sluice_status container_read_tensor(const struct container *c, const struct container_tensor *t, void *out);

// One piece of a tensor: `bytes` bytes at `offset` from its start, lying at the beginning of the caller's buffer.
// A negative result ends the stream and is returned from it.
typedef enum sluice_status container_piece_function(void *user, uint64_t offset, const void *data, size_t bytes);

// Reads a tensor through `buffer` (buffer_bytes >= 4096, any alignment), piece after piece in ascending order. The
// checksum is known only at the end: nothing that a callback passed on may be used until OK is returned.
enum sluice_status container_tensor_stream(const struct container *c, const struct container_tensor *t, void *buffer,
                                           size_t buffer_bytes, container_piece_function *piece, void *user);

uint32_t container_expert_layer_count(const struct container *c);

// In ascending order of layer. index < container_expert_layer_count.
const struct container_expert_layer *container_expert_layer_at(const struct container *c, uint32_t index);

// NULL if `layer` has no routed experts.
const struct container_expert_layer *container_expert_layer(const struct container *c, uint32_t layer);

// Number of experts in all layers, and the largest record_bytes of any layer (0 without experts).
uint64_t container_expert_count(const struct container *c);
uint64_t container_expert_record_bytes_max(const struct container *c);

// Of the record; `layer` has experts and expert < its expert_count (checked).
uint64_t container_expert_offset(const struct container *c, uint32_t layer, uint32_t expert);

// Verifies record_bytes bytes that were read at container_expert_offset. The message of SLUICE_ERR_CHECKSUM names the
// file, layer, expert and file offset.
enum sluice_status container_expert_verify(const struct container *c, uint32_t layer, uint32_t expert,
                                           const void *record);

// Reads a record (record_bytes bytes, any alignment) and verifies it: for tools and tests.
enum sluice_status container_read_expert(const struct container *c, uint32_t layer, uint32_t expert, void *out);

// Called now and then with the bytes checked so far; return false to end with SLUICE_ERR_CANCELLED.
typedef bool container_progress_function(void *user, uint64_t done_bytes, uint64_t total_bytes);

// Reads and checks every byte of the file in file order; the message of a failure names the first bad place. `progress`
// may be NULL. Needs a few MiB of memory.
enum sluice_status container_verify(const struct container *c, container_progress_function *progress, void *user);

#endif
