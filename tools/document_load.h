// A user's text file in memory.
#ifndef SLUICE_TOOLS_DOCUMENT_LOAD_H
#define SLUICE_TOOLS_DOCUMENT_LOAD_H

#include <stddef.h>

#include "runtime/base/status.h"

// Reads the file, or standard input for "-", of up to 64 MiB, far more than any context holds. *text, at least one
// byte of UTF-8, is the caller's: release with mem_free. It is not terminated. A byte order mark, as some editors put in
// front, is left out. Errors: IO, ARGUMENT (empty, or too long), FORMAT (not UTF-8), MEMORY; the message names the file.
enum sluice_status document_load(const char *path, char **text, size_t *bytes);

#endif
