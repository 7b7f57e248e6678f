#include "runtime/base/small_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/mem.h"

static enum sluice_status path_of(const char *folder, const char *name, char path[PATH_MAX])
{
    int length = snprintf(path, PATH_MAX, "%s/%s", folder, name);
    return length < PATH_MAX ? SLUICE_OK : error_set(SLUICE_ERR_ARGUMENT, "%.100s...: the path is too long", folder);
}

static enum sluice_status failed(const char *path, const char *what)
{
    return error_set(SLUICE_ERR_IO, "%s: cannot %s: %s", path, what, strerror(errno));
}

// Up to `capacity` bytes; fewer only at the end of the file.
static ssize_t read_all(int file, char *data, size_t capacity)
{
    size_t done = 0;
    while (done < capacity) {
        ssize_t got = read(file, data + done, capacity - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

enum sluice_status small_file_read(const char *folder, const char *name, size_t bytes_max, char **data, size_t *bytes)
{
    char path[PATH_MAX];
    struct stat info;
    char *buffer = NULL;
    enum sluice_status status = path_of(folder, name, path);
    if (status < 0)
        return status;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return failed(path, "open");
    if (fstat(file, &info) != 0)
        TRY(failed(path, "read"));
    if (!S_ISREG(info.st_mode) || (unsigned long long)info.st_size > bytes_max)
        TRY(error_set(SLUICE_ERR_FORMAT, "%s: no file of at most %zu bytes", path, bytes_max));
    size_t size = (size_t)info.st_size;
    buffer = mem_alloc(size + 1, 1);
    TRY(buffer ? SLUICE_OK : SLUICE_ERR_MEMORY);
    ssize_t got = read_all(file, buffer, size);
    if (got < 0)
        TRY(failed(path, "read"));
    *data = buffer;
    buffer = NULL;
    if (bytes)
        *bytes = (size_t)got;
fail:
    close(file);
    mem_free(buffer);
    return status;
}

// Every folder on the way; `path` is changed meanwhile.
static enum sluice_status make_folders(char *path)
{
    for (char *at = path + 1;; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char end = *at;
        *at = '\0';
        bool made = mkdir(path, 0777) == 0 || errno == EEXIST || access(path, X_OK) == 0;
        if (!made)
            return failed(path, "make the folder");
        *at = end;
        if (end == '\0')
            return SLUICE_OK;
    }
}

static enum sluice_status write_all(int file, const char *path, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t put = write(file, data, bytes);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return failed(path, "write");
        data += put;
        bytes -= (size_t)put;
    }
    return SLUICE_OK;
}

enum sluice_status small_file_write(const char *folder, const char *name, const void *data, size_t bytes)
{
    char path[PATH_MAX], part[PATH_MAX], folders[PATH_MAX];
    int file = -1;
    enum sluice_status status;
    TRY(path_of(folder, name, path));
    TRY(path_of(folder, "part-XXXXXX", part));
    snprintf(folders, sizeof folders, "%s", folder);
    TRY(make_folders(folders));
    file = mkostemp(part, O_CLOEXEC);
    if (file < 0)
        return failed(part, "make the file");
    status = write_all(file, part, data, bytes);
    if (close(file) != 0 && status == SLUICE_OK)
        status = failed(part, "write");
    if (status == SLUICE_OK && rename(part, path) != 0)
        status = failed(path, "rename");
    if (status < 0)
        unlink(part);
fail:
    return status;
}
