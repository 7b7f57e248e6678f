// Whether a file can be written under a name, found out before the work that fills it.
#ifndef SLUICE_BASE_OUTPUT_PATH_H
#define SLUICE_BASE_OUTPUT_PATH_H

#include "runtime/base/status.h"

// For files that are written beside `path` and renamed: its folder can be written, and what is there under the name, if
// anything, is a regular file. Renaming would replace a device such as /dev/null by a file, or a link such as
// /dev/stdout. "-", by which others mean standard output, is refused.
// Errors: SLUICE_ERR_ARGUMENT (no name, a folder, no regular file), SLUICE_ERR_IO (the folder is missing or cannot be
// written); the message names the path.
enum sluice_status output_path_check(const char *path);

// For files that are written with output_file.h, in place where need be: as above, but what is there may be anything
// that can be written.
enum sluice_status output_path_check_in_place(const char *path);

// Whether writing to `path` would destroy the file `input`, by whatever names they are called. Either may be NULL (there
// is none) or not exist. Error: SLUICE_ERR_ARGUMENT.
enum sluice_status output_path_check_input(const char *path, const char *input);

#endif
