// Reading and writing a byte range of a file completely: short transfers are continued, EINTR and EAGAIN are retried.
// Errors carry path, offset and reason. Threads: any; nothing is shared.
#ifndef SLUICE_OFFLOAD_FILE_RANGE_H
#define SLUICE_OFFLOAD_FILE_RANGE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

// SLUICE_ERR_IO, also if the file ends before offset + bytes.
enum sluice_status file_range_read(int descriptor, const char *path, void *out, uint64_t bytes, uint64_t offset);

// What file_range_write uses instead of pwrite, for fault injection; `user` is passed through.
typedef int64_t file_range_pwrite(void *user, int descriptor, const void *data, size_t bytes, uint64_t offset);

// The plain pwrite; ignores `user`.
int64_t file_range_system_pwrite(void *user, int descriptor, const void *data, size_t bytes, uint64_t offset);

// SLUICE_ERR_IO with *system_error (may be NULL) set to the errno.
enum sluice_status file_range_write(int descriptor, const char *path, const void *data, uint64_t bytes, uint64_t offset,
                                    file_range_pwrite *write, void *user, int *system_error);

#endif
