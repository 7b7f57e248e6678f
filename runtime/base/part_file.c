#include "runtime/base/part_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

// Whether the descriptor is still what the path leads to: another writer may have renamed it between our open and our
// lock, and then we hold its finished file.
static bool leads_to(const char *path, int descriptor)
{
    struct stat by_path, by_descriptor;
    return stat(path, &by_path) == 0 && fstat(descriptor, &by_descriptor) == 0 &&
           by_path.st_dev == by_descriptor.st_dev && by_path.st_ino == by_descriptor.st_ino;
}

enum sluice_status part_file_open(const char *part_path, int *descriptor)
{
    for (int attempt = 0; attempt < 8; attempt++) {
        *descriptor = open(part_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (*descriptor < 0) {
            int cause = errno;
            enum sluice_status status = error_set(SLUICE_ERR_IO, "%s: cannot create: %s", part_path, strerror(cause));
            errno = cause;
            return status;
        }
        bool busy = flock(*descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
        if (!busy && leads_to(part_path, *descriptor))
            return SLUICE_OK;
        close(*descriptor);
        *descriptor = -1;
        if (busy)
            break;
    }
    return error_set(SLUICE_ERR_ARGUMENT, "%s: another process is writing this file; wait for it or end it first",
                     part_path);
}
