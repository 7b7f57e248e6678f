// Small files as a whole, for caches: what cannot be read or written costs time later, not correctness.
#ifndef SLUICE_BASE_SMALL_FILE_H
#define SLUICE_BASE_SMALL_FILE_H

#include <stddef.h>

#include "runtime/base/status.h"

// *data = the contents of folder/name and a NUL behind them, released with mem_free; *bytes without the NUL (may be
// NULL). Errors: SLUICE_ERR_IO (cannot be read; the message says why), SLUICE_ERR_FORMAT (more than bytes_max, or not a
// regular file), SLUICE_ERR_MEMORY.
enum sluice_status small_file_read(const char *folder, const char *name, size_t bytes_max, char **data, size_t *bytes);

// Makes the folder and its parents where they are missing, writes under a name of its own and renames: whoever reads at
// the same time, or after a crash, finds the old contents or the new ones. Errors: SLUICE_ERR_IO, SLUICE_ERR_ARGUMENT
// (a path that is too long).
enum sluice_status small_file_write(const char *folder, const char *name, const void *data, size_t bytes);

#endif
