#include "runtime/base/output_file.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/mem.h"

// A link, which /dev/stdout is as well, shall go on pointing to what it does.
static bool can_be_replaced(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0 ? S_ISREG(info.st_mode) : errno == ENOENT;
}

static void release(struct output_file *out)
{
    mem_free(out->path);
    mem_free(out->part);
    *out = (struct output_file){0};
}

enum sluice_status output_file_create(const char *path, struct output_file *out)
{
    static const char ending[] = ".part";
    size_t length = strlen(path);
    enum sluice_status status = SLUICE_ERR_MEMORY;
    *out = (struct output_file){.path = mem_strndup(path, length), .part = mem_alloc(length + sizeof ending, 1)};
    if (!out->path || !out->part)
        goto fail;
    memcpy(out->part, path, length);
    memcpy(out->part + length, ending, sizeof ending);
    bool in_place = !can_be_replaced(path);
    if (!in_place) {
        out->file = fopen(out->part, "wbe");
        in_place = !out->file && (errno == EACCES || errno == ENAMETOOLONG);
    }
    if (in_place) {
        mem_free(out->part);
        out->part = NULL;
        out->file = fopen(path, "wbe");
    }
    if (!out->file)
        TRY(error_set(SLUICE_ERR_IO, "%s: cannot create: %s", path, strerror(errno)));
    return SLUICE_OK;
fail:
    release(out);
    return status;
}

enum sluice_status output_file_finish(struct output_file *out)
{
    enum sluice_status status = SLUICE_OK;
    errno = 0;
    bool failed = fflush(out->file) != 0 || ferror(out->file);
    int reason = errno ? errno : EIO; // that of an earlier write is gone
    if (fclose(out->file) != 0 && !failed) {
        failed = true;
        reason = errno;
    }
    if (failed) {
        status = error_set(SLUICE_ERR_IO, "%s: cannot write: %s", out->path, strerror(reason));
        if (out->part)
            unlink(out->part);
    } else if (out->part && rename(out->part, out->path) != 0) {
        status = error_set(SLUICE_ERR_IO, "%s: cannot replace it by %s: %s", out->path, out->part, strerror(errno));
    }
    release(out);
    return status;
}

void output_file_abandon(struct output_file *out)
{
    if (out->file)
        fclose(out->file);
    release(out);
}
