#include "offload/file_range.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

// One system call transfers at most 2 GiB - 4 KiB anyway.
enum { TRANSFER_BYTES_MAX = 1 << 30 };

static size_t transfer_bytes(uint64_t left_bytes)
{
    return left_bytes < TRANSFER_BYTES_MAX ? (size_t)left_bytes : TRANSFER_BYTES_MAX;
}

enum sluice_status file_range_read(int descriptor, const char *path, void *out, uint64_t bytes, uint64_t offset)
{
    uint8_t *cursor = out;
    while (bytes > 0) {
        ssize_t got = pread(descriptor, cursor, transfer_bytes(bytes), (off_t)offset);
        if (got == 0)
            return error_set(SLUICE_ERR_IO,
                             "%s: the file ends at offset %" PRIu64 ", %" PRIu64
                             " bytes too early: it was cut while in use",
                             path, offset, bytes);
        if (got < 0 && errno != EINTR && errno != EAGAIN)
            return error_set(SLUICE_ERR_IO, "%s: cannot read %" PRIu64 " bytes at offset %" PRIu64 ": %s", path, bytes,
                             offset, strerror(errno));
        if (got < 0)
            continue;
        cursor += got;
        offset += (uint64_t)got;
        bytes -= (uint64_t)got;
    }
    return SLUICE_OK;
}

int64_t file_range_system_pwrite(void *user, int descriptor, const void *data, size_t bytes, uint64_t offset)
{
    (void)user;
    return pwrite(descriptor, data, bytes, (off_t)offset);
}

enum sluice_status file_range_write(int descriptor, const char *path, const void *data, uint64_t bytes, uint64_t offset,
                                    file_range_pwrite *write, void *user, int *system_error)
{
    const uint8_t *cursor = data;
    while (bytes > 0) {
        int64_t put = write(user, descriptor, cursor, transfer_bytes(bytes), offset);
        if (put < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (put <= 0) {
            int error = put < 0 ? errno : EIO;
            if (system_error)
                *system_error = error;
            return error_set(SLUICE_ERR_IO, "%s: cannot write %" PRIu64 " bytes at offset %" PRIu64 ": %s", path, bytes,
                             offset, strerror(error));
        }
        cursor += put;
        offset += (uint64_t)put;
        bytes -= (uint64_t)put;
    }
    return SLUICE_OK;
}
