#include "offload/container_part.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "offload/budget.h"
#include "runtime/base/mem.h"

int container_part_open_direct(const char *part_path)
{
    return open(part_path, O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW);
}

static uint64_t free_bytes(int descriptor)
{
    struct statvfs disk;
    if (fstatvfs(descriptor, &disk) != 0)
        return UINT64_MAX; // unknown: let the writes find out
    return (uint64_t)disk.f_bavail * disk.f_frsize;
}

enum sluice_status container_part_full(int descriptor, const char *part_path, uint64_t missing_bytes)
{
    char missing[SIZE_TEXT_BYTES], free_text[SIZE_TEXT_BYTES];
    return error_set(SLUICE_ERR_IO,
                     "%s: the disk is full: %s are still to be written, %s are free; make room and run the "
                     "same command again, or choose another folder",
                     part_path, size_format(missing_bytes, missing), size_format(free_bytes(descriptor), free_text));
}

static enum sluice_status find_missing(int descriptor, const char *part_path, uint64_t file_bytes,
                                       uint64_t *missing_bytes)
{
    struct stat info;
    if (fstat(descriptor, &info) != 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot stat: %s", part_path, strerror(errno));
    uint64_t have_bytes = (uint64_t)info.st_blocks * 512; // POSIX leaves the unit open; Linux has always 512
    *missing_bytes = file_bytes > have_bytes ? file_bytes - have_bytes : 0;
    return *missing_bytes > free_bytes(descriptor) ? container_part_full(descriptor, part_path, *missing_bytes)
                                                   : SLUICE_OK;
}

enum sluice_status container_part_check_room(int descriptor, const char *part_path, uint64_t file_bytes)
{
    uint64_t missing_bytes;
    return find_missing(descriptor, part_path, file_bytes, &missing_bytes);
}

enum sluice_status container_part_reserve(int descriptor, const char *part_path, uint64_t file_bytes)
{
    uint64_t missing_bytes = 0;
    int result;
    enum sluice_status status = find_missing(descriptor, part_path, file_bytes, &missing_bytes);
    if (status < 0)
        return status;
    do
        result = fallocate(descriptor, 0, 0, (off_t)file_bytes);
    while (result != 0 && errno == EINTR);
    if (result != 0 && (errno == ENOSPC || errno == EDQUOT))
        return container_part_full(descriptor, part_path, missing_bytes);
    if (result != 0 && errno != EFBIG) // not every file system reserves
        result = ftruncate(descriptor, (off_t)file_bytes);
    if (result != 0 && errno == EFBIG) {
        char size[SIZE_TEXT_BYTES];
        return error_set(SLUICE_ERR_IO, "%s: this file system or a limit of the system does not allow files of %s",
                         part_path, size_format(file_bytes, size));
    }
    if (result != 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot set the size: %s", part_path, strerror(errno));
    return SLUICE_OK;
}

static enum sluice_status sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash == path ? 1 : slash ? (size_t)(slash - path) : 0;
    char *folder = slash ? mem_strndup(path, length) : mem_strndup(".", 1);
    if (!folder)
        return SLUICE_ERR_MEMORY;
    int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mem_free(folder);
    // Some network file systems cannot sync a folder (EINVAL); there is nothing else to be done about it.
    if (descriptor < 0 || (fsync(descriptor) != 0 && errno != EINVAL)) {
        int error = errno;
        if (descriptor >= 0)
            close(descriptor);
        return error_set(SLUICE_ERR_IO, "%s: cannot sync its folder: %s", path, strerror(error));
    }
    close(descriptor);
    return SLUICE_OK;
}

enum sluice_status container_part_publish(int descriptor, const char *part_path, const char *path)
{
    if (fsync(descriptor) != 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot write to the disk: %s", part_path, strerror(errno));
    if (rename(part_path, path) != 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot rename to %s: %s", part_path, path, strerror(errno));
    return sync_folder(path);
}
