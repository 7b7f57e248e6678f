// Tensors in safetensors files: one file, or the shards of a checkpoint (quant/checkpoint.h), read in bounded memory.
//
//   [u64 header length][JSON header: {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...}][data]
//
// Files are untrusted. Opening reads and checks headers only (lengths, counts, types, shape products, ranges, overlap,
// duplicate names), so a struct safetensors_tensor always lies inside its file; a tensor of a dtype that this program
// does not know is listed, but cannot be read. Offsets need not be aligned. Data is fetched with pread when asked for:
// nothing is mapped, nothing is kept.
//
// Memory: the parsed headers, about 200 bytes per tensor, and while opening the JSON tree of one header.
// Threads: one thread opens and closes; any number may find and read in between.
// Errors: SLUICE_ERR_IO (open, read, file shorter than when it was opened), SLUICE_ERR_FORMAT (any lie in a header),
// SLUICE_ERR_UNSUPPORTED (dtype), SLUICE_ERR_MEMORY. Messages name file and tensor.
#ifndef SLUICE_QUANT_SAFETENSORS_H
#define SLUICE_QUANT_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

// X(enumerator, name in the file, bytes per element)
#define SAFETENSORS_DTYPE_LIST(X)        \
    X(SAFETENSORS_BOOL, "BOOL", 1)       \
    X(SAFETENSORS_U8, "U8", 1)           \
    X(SAFETENSORS_I8, "I8", 1)           \
    X(SAFETENSORS_F8_E4M3, "F8_E4M3", 1) \
    X(SAFETENSORS_F8_E5M2, "F8_E5M2", 1) \
    X(SAFETENSORS_U16, "U16", 2)         \
    X(SAFETENSORS_I16, "I16", 2)         \
    X(SAFETENSORS_F16, "F16", 2)         \
    X(SAFETENSORS_BF16, "BF16", 2)       \
    X(SAFETENSORS_U32, "U32", 4)         \
    X(SAFETENSORS_I32, "I32", 4)         \
    X(SAFETENSORS_F32, "F32", 4)         \
    X(SAFETENSORS_U64, "U64", 8)         \
    X(SAFETENSORS_I64, "I64", 8)         \
    X(SAFETENSORS_F64, "F64", 8)

enum safetensors_dtype {
#define X(name, text, bytes) name,
    SAFETENSORS_DTYPE_LIST(X)
#undef X
        SAFETENSORS_UNKNOWN
};

enum { SAFETENSORS_RANK_MAX = 8 };

struct safetensors_tensor {
    const char *name; // owned by the struct safetensors
    enum safetensors_dtype dtype;
    uint32_t rank;                        // 0: a scalar
    uint64_t shape[SAFETENSORS_RANK_MAX]; // outermost first; entries from rank on are 0
    uint64_t elements;                    // product of shape; may be 0
    uint32_t file;                        // index for safetensors_file_path
    uint64_t offset;                      // of the first byte, from the start of the file
    uint64_t bytes;
};

struct safetensors;

// Name in the file ("BF16"; "unknown" for SAFETENSORS_UNKNOWN) and bytes per element (0 for it).
const char *safetensors_dtype_name(enum safetensors_dtype dtype);
uint32_t safetensors_dtype_bytes(enum safetensors_dtype dtype);

// Opens one file. *st is owned by the caller; release with safetensors_close. On failure *st is NULL.
enum sluice_status safetensors_open(const char *path, struct safetensors **st);
void safetensors_close(struct safetensors *st); // NULL is allowed

// The tensor `name`, or NULL (no message is set). Valid until close.
const struct safetensors_tensor *safetensors_find(const struct safetensors *st, const char *name);

// As safetensors_find, but a missing tensor is SLUICE_ERR_FORMAT with a message.
enum sluice_status safetensors_require(const struct safetensors *st, const char *name,
                                       const struct safetensors_tensor **tensor);

// All tensors, index < count (checked), in the order of files and of their data in the file.
size_t safetensors_count(const struct safetensors *st);
const struct safetensors_tensor *safetensors_at(const struct safetensors *st, size_t index);

// Path of file `file` (< the number of files, checked), and how many files there are.
uint32_t safetensors_file_count(const struct safetensors *st);
const char *safetensors_file_path(const struct safetensors *st, uint32_t file);

// Reads elements [first, first + count) of `tensor` as stored into out[count * bytes per element].
// Errors: SLUICE_ERR_ARGUMENT (range), SLUICE_ERR_UNSUPPORTED (unknown dtype), SLUICE_ERR_IO.
enum sluice_status safetensors_read(const struct safetensors *st, const struct safetensors_tensor *tensor,
                                    uint64_t first, uint64_t count, void *out);

// The same as out[count] f32, from F32, F16, BF16 (exact) or F64 (rounded to nearest). Other dtypes are
// SLUICE_ERR_UNSUPPORTED. Uses 16 KiB of stack.
enum sluice_status safetensors_read_f32(const struct safetensors *st, const struct safetensors_tensor *tensor,
                                        uint64_t first, uint64_t count, float *out);

#endif
