// A file that is written under a name of its own, FILE.part, until it is whole: only one process at a time may write it,
// or two of them would mix their results in one file.
#ifndef SLUICE_BASE_PART_FILE_H
#define SLUICE_BASE_PART_FILE_H

#include "runtime/base/status.h"

// Opens `part_path` for reading and writing, or creates it; what is in it stays. The lock on it lasts until the
// descriptor and its duplicates are closed or the process dies: rename before that. File systems without locks have
// none. After a failure *descriptor is -1.
// Errors: SLUICE_ERR_IO (errno is that of the open), SLUICE_ERR_ARGUMENT (another process or thread is writing it).
enum sluice_status part_file_open(const char *part_path, int *descriptor);

#endif
