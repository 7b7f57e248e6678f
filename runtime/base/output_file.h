// Writing a file under another name, FILE.part, until it is whole: a run that is aborted leaves what an earlier one
// wrote, and a second process that wants to write it is refused. Where that cannot be (FILE is a device, a pipe or a link, or its folder takes no new file), in place.
#ifndef SLUICE_BASE_OUTPUT_FILE_H
#define SLUICE_BASE_OUTPUT_FILE_H

#include <stdio.h>

#include "runtime/base/status.h"

// Threads: one per object.
struct output_file {
    FILE *file; // open for writing, owned; errors are kept by it
    char *path; // for messages, owned
    char *part; // owned; NULL: written in place
    int lock;   // with `part`: a second descriptor of it, so that nobody else takes it before it has its name
};

// After a failure *out is empty. Errors: SLUICE_ERR_IO, SLUICE_ERR_ARGUMENT (part_file.h), SLUICE_ERR_MEMORY.
enum sluice_status output_file_create(const char *path, struct output_file *out);

// Writes what is buffered, closes, gives the file its name and empties *out. Error: SLUICE_ERR_IO, also for anything
// that could not be written before; FILE.part is then removed, unless it is whole.
enum sluice_status output_file_finish(struct output_file *out);

// Closes and empties *out without giving the file its name: what there is stays in FILE.part.
void output_file_abandon(struct output_file *out);

#endif
