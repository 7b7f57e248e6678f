#include "runtime/base/output_path.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
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
    struct stat info;
    bool is_other = stat(folder, &info) == 0 && !S_ISDIR(info.st_mode); // root may write to a file as to a folder
    errno = is_other ? ENOTDIR : 0;
    if (is_other || access(folder, W_OK | X_OK) != 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot create a file in its folder: %s", path, strerror(errno));
    return SLUICE_OK;
}

static enum sluice_status check_name(const char *path)
{
    if (*path == '\0')
        return error_set(SLUICE_ERR_ARGUMENT, "the name of the file to write is empty");
    if (strcmp(path, "-") == 0)
        return error_set(SLUICE_ERR_ARGUMENT, "\"-\" is not standard output here; for a file of that name write ./-");
    return SLUICE_OK;
}

enum sluice_status output_path_check(const char *path)
{
    struct stat info;
    enum sluice_status status = check_name(path);
    if (status < 0)
        return status;
    if (lstat(path, &info) == 0 && S_ISLNK(info.st_mode))
        return error_set(SLUICE_ERR_ARGUMENT,
                         "%s is a link, which the file would replace; pass the name of what it leads to", path);
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return error_set(SLUICE_ERR_ARGUMENT, "%s is %s, which a file shall not replace; choose another name", path,
                         S_ISDIR(info.st_mode) ? "a folder" : "no regular file");
    return check_folder(path);
}

enum sluice_status output_path_check_input(const char *path, const char *input)
{
    struct stat output_info, input_info;
    if (!path || !input || stat(path, &output_info) != 0 || stat(input, &input_info) != 0)
        return SLUICE_OK;
    if (!S_ISREG(output_info.st_mode) || output_info.st_dev != input_info.st_dev ||
        output_info.st_ino != input_info.st_ino)
        return SLUICE_OK;
    return error_set(SLUICE_ERR_ARGUMENT, "%s is what is to be read, and writing would destroy it; choose another name",
                     path);
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
