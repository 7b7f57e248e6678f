// The unfinished file PATH.part (runtime/base/part_file.h): room on the disk, and the final rename.
#ifndef SLUICE_OFFLOAD_CONTAINER_PART_H
#define SLUICE_OFFLOAD_CONTAINER_PART_H

#include <stdint.h>

#include "runtime/base/status.h"

// A second descriptor of the same file, for writes past the page cache; -1 where the file system has no such thing.
// Not locked: only used while the other one is open.
int container_part_open_direct(const char *part_path);

// Whether file_bytes would fit. Errors as container_part_reserve.
enum sluice_status container_part_check_room(int descriptor, const char *part_path, uint64_t file_bytes);

// Makes the file file_bytes long, with its room reserved where the file system can. SLUICE_ERR_IO with the room needed
// and free if it does not fit.
enum sluice_status container_part_reserve(int descriptor, const char *part_path, uint64_t file_bytes);

// The message for ENOSPC and its kin, with what is still to be written.
enum sluice_status container_part_full(int descriptor, const char *part_path, uint64_t missing_bytes);

// Syncs the file, gives it its final name, and syncs the folder.
enum sluice_status container_part_publish(int descriptor, const char *part_path, const char *path);

#endif
