#include "runtime/base/output_path.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// The folder must allow a new name.
static enum sluice_status check_folder(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = slash == path ? 1 : slash ? (size_t)(slash - path) : 0;
    if (length >= sizeof folder)
        return error_set(SLUICE_ERR_ARGUMENT, "%.100s...: the path is too long", path);
    memcpy(folder, slash ? path : ".", slash ? length : 1);
    folder[slash ? length : 1] = '\0';
    if (access(folder, W_OK | X_OK) != 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot create a file in its folder: %s", path, strerror(errno));
    return SLUICE_OK;
}

static enum sluice_status check_name(const char *path)
{
    if (*path == '\0')
        return error_set(SLUICE_ERR_ARGUMENT, "the name of the file to write is empty");
    return SLUICE_OK;
}

enum sluice_status output_path_check(const char *path)
{
    struct stat info;
    enum sluice_status status = check_name(path);
    if (status < 0)
        return status;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return error_set(SLUICE_ERR_ARGUMENT, "%s is %s, which a file shall not replace; choose another name", path,
                         S_ISDIR(info.st_mode) ? "a folder" : "no regular file");
    return check_folder(path);
}

enum sluice_status output_path_check_in_place(const char *path)
{
    struct stat info;
    enum sluice_status status = check_name(path);
    if (status < 0)
        return status;
    if (stat(path, &info) != 0)
        return check_folder(path);
    if (S_ISDIR(info.st_mode))
        return error_set(SLUICE_ERR_ARGUMENT, "%s is a folder; choose another name", path);
    if (access(path, W_OK) != 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
    return SLUICE_OK;
}
