// Writes a safetensors file as a stream: all tensors are declared first, then their data is written in that order, or in
// any other where each piece is told its place.
//
//   create -> declare each tensor -> write each tensor's bytes, in pieces of any size -> finish
//
// The file appears under its name only when it is complete and on the drive: data goes to "PATH.part", finish does
// fsync and rename. The space is reserved at the first write where the file system can, so that a full disk shows
// before hours of work and not after. The first failure sticks: later calls return it again.
//
// Memory: the declarations only. Threads: one per writer.
// Errors: SLUICE_ERR_IO (disk full: the message says how much is needed), SLUICE_ERR_ARGUMENT (order, size, duplicate
// or invalid name, calls in the wrong order), SLUICE_ERR_MEMORY.
#ifndef SLUICE_QUANT_SAFETENSORS_WRITER_H
#define SLUICE_QUANT_SAFETENSORS_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "quant/safetensors.h"
#include "runtime/base/status.h"

struct safetensors_writer;

// *writer is owned by the caller; release with safetensors_writer_destroy. On failure *writer is NULL. A place that
// cannot be written is refused here (runtime/base/output_path.h).
enum sluice_status safetensors_writer_create(const char *path, struct safetensors_writer **writer);

// Removes the temporary file unless finish succeeded. NULL is allowed.
void safetensors_writer_destroy(struct safetensors_writer *writer);

// Adds a tensor; only before the first write. `name` (valid UTF-8, not empty, not "__metadata__") is copied.
// rank 0..SAFETENSORS_RANK_MAX; dtype not SAFETENSORS_UNKNOWN. Declaring wider dtypes first keeps data aligned.
enum sluice_status safetensors_writer_declare(struct safetensors_writer *writer, const char *name,
                                              enum safetensors_dtype dtype, uint32_t rank, const uint64_t *shape);

// Appends `bytes` bytes to tensor `name`, which must be the first declared one that is not complete yet; a piece never
// reaches into the next tensor.
enum sluice_status safetensors_writer_write(struct safetensors_writer *writer, const char *name, const void *data,
                                            size_t bytes);

// Puts `bytes` bytes at `offset` of tensor `name`. Each byte of a tensor is to be written once, in any order; the bytes
// are counted, not their places. Not for tensors of which safetensors_writer_write has a part.
enum sluice_status safetensors_writer_write_at(struct safetensors_writer *writer, const char *name, uint64_t offset,
                                               const void *data, size_t bytes);

// All data is written (checked): flushes it to the drive and gives the file its name.
enum sluice_status safetensors_writer_finish(struct safetensors_writer *writer);

#endif
