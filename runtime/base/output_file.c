#include "runtime/base/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/part_file.h"

// A link, which /dev/stdout is as well, shall go on pointing to what it does.
static bool can_be_replaced(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0 ? S_ISREG(info.st_mode) : errno == ENOENT;
}

static void release(struct output_file *out)
{
    if (out->part && out->lock >= 0)
        close(out->lock);
    mem_free(out->path);
    mem_free(out->part);
    *out = (struct output_file){0};
}

// Opens FILE.part; *in_place if that cannot be. A failure closes everything.
static enum sluice_status open_part(struct output_file *out, bool *in_place)
{
    enum sluice_status status = part_file_open(out->part, &out->lock);
    *in_place = status == SLUICE_ERR_IO && (errno == EACCES || errno == ENAMETOOLONG);
    if (status == SLUICE_ERR_IO && !*in_place)
        return error_set(status, "%s: cannot create: %s", out->path, strerror(errno));
    if (status < 0)
        return *in_place ? SLUICE_OK : status;
    int descriptor = fcntl(out->lock, F_DUPFD_CLOEXEC, 0);
    out->file = descriptor >= 0 && ftruncate(descriptor, 0) == 0 ? fdopen(descriptor, "wb") : NULL;
    if (out->file)
        return SLUICE_OK;
    status = error_set(SLUICE_ERR_IO, "%s: cannot empty: %s", out->part, strerror(errno));
    if (descriptor >= 0)
        close(descriptor);
    return status;
}

enum sluice_status output_file_create(const char *path, struct output_file *out)
{
    static const char ending[] = ".part";
    size_t length = strlen(path);
    enum sluice_status status = SLUICE_ERR_MEMORY;
    *out = (struct output_file){
        .path = mem_strndup(path, length), .part = mem_alloc(length + sizeof ending, 1), .lock = -1};
    if (!out->path || !out->part)
        goto fail;
    memcpy(out->part, path, length);
    memcpy(out->part + length, ending, sizeof ending);
    bool in_place = !can_be_replaced(path);
    if (!in_place)
        TRY(open_part(out, &in_place));
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
