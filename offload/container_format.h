// What a `*.sluice` file looks like on disk, version 1. Little-endian; only container.c, container_directory.c and
// container_write.c include this header.
//
//   0        header      4096 bytes, ends with the XXH3-128 of everything before that field
//   4096     directory   types[] documents[] tensors[] layers[] expert checksums[] strings, zero-padded to 4 KiB
//            documents   one after the other, in directory order
//            tensors     one after the other, in directory order
//            experts     [layer][expert], layers ascending; record = [gate|up tiles][down tiles and scales] padding
//
// Every item (the directory, a document, a tensor, an expert record) starts at a multiple of 4 KiB and is zero-padded
// to the next one; its checksum covers the padding. Items follow each other without gaps, so each offset is determined
// by the sizes before it; the offsets are stored too and must agree. Hence every byte of the file is under one
// checksum:
//
//   header  <- header.header_xxh3          documents, tensors <- their directory entry
//   directory <- header.directory_xxh3     expert record      <- expert checksums[sum of earlier counts + expert]
//
// The position of magic, version and header_xxh3 never changes, so that an old program can tell a newer version from a
// damaged file.
#ifndef SLUICE_OFFLOAD_CONTAINER_FORMAT_H
#define SLUICE_OFFLOAD_CONTAINER_FORMAT_H

#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the container is read in place and little-endian"
#endif

enum {
    CONTAINER_VERSION = 1,
    CONTAINER_ALIGN_BYTES = 4096,
    CONTAINER_HEADER_BYTES = 4096,
    CONTAINER_HASH_BYTES = 16,                // canonical (big-endian) XXH3-128
    CONTAINER_DOWN_ALIGN_BYTES = 16,          // of down_offset: kernels load 16 bytes at a time
    CONTAINER_NAME_BYTES_MAX = 255,           // names are printable ASCII without spaces
    CONTAINER_DIRECTORY_BYTES_MAX = 64 << 20, // what a hostile file can make us allocate
};

#define CONTAINER_MAGIC "\x89SLUICE\n" // 8 bytes; the first is no text, the last notices newline conversion

// Where a name lies in the string pool: `bytes` characters and a NUL.
struct container_disk_name {
    uint32_t offset, bytes;
};

struct container_disk_type {
    uint32_t id; // strictly ascending
    uint32_t reserved;
    struct container_disk_name name;
};

struct container_disk_document {
    struct container_disk_name name;
    uint64_t offset, bytes; // bytes may be 0
    uint8_t xxh3[CONTAINER_HASH_BYTES];
};

struct container_disk_tensor {
    struct container_disk_name name;
    uint32_t type_id;
    uint32_t layout; // enum container_layout
    uint64_t rows, cols;
    uint64_t offset, bytes;
    uint8_t xxh3[CONTAINER_HASH_BYTES];
};

struct container_disk_layer {
    uint32_t layer; // strictly ascending
    uint32_t expert_count;
    uint32_t gate_up_type_id, down_type_id;
    uint32_t hidden, intermediate;
    uint64_t down_offset;  // inside the record
    uint64_t record_bytes; // a multiple of 4096
    uint64_t offset;       // of the first expert's record
};

struct container_disk_header {
    uint8_t magic[8];
    uint32_t version;
    uint32_t header_bytes;
    uint64_t file_bytes;
    uint64_t directory_offset, directory_bytes; // bytes without the padding
    uint64_t documents_offset, tensors_offset, experts_offset;
    uint32_t type_count, document_count, tensor_count, layer_count;
    uint64_t expert_count; // of all layers together
    uint64_t string_bytes;
    uint8_t fingerprint[16]; // identity of the inputs and options of the conversion, as the writer was told
    uint8_t directory_xxh3[CONTAINER_HASH_BYTES];
    uint8_t reserved[3952];
    uint8_t header_xxh3[CONTAINER_HASH_BYTES];
};

_Static_assert(sizeof(struct container_disk_type) == 16, "on disk");
_Static_assert(sizeof(struct container_disk_document) == 40, "on disk");
_Static_assert(sizeof(struct container_disk_tensor) == 64, "on disk");
_Static_assert(sizeof(struct container_disk_layer) == 48, "on disk");
_Static_assert(sizeof(struct container_disk_header) == CONTAINER_HEADER_BYTES, "on disk");

#endif
