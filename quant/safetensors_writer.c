#include "quant/safetensors_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "runtime/base/integer.h"
#include "runtime/base/mem.h"
#include "runtime/base/output_path.h"
#include "runtime/base/part_file.h"

enum { LENGTH_BYTES = 8, DATA_ALIGNMENT = 8 };

struct range {
    char *name;          // owned
    uint64_t begin, end; // in the data section
    uint64_t written;
};

struct safetensors_writer {
    char *path, *part_path; // owned
    int fd;                 // owned; -1 before the first write
    bool finished;
    json_t *header;        // owned; in order of declaration
    struct range *tensors; // [tensor_count], owned
    size_t tensor_count, tensor_capacity;
    size_t current;       // the first tensor that may not be complete
    uint64_t data_offset; // of the data section
    uint64_t written;     // bytes of it
    struct error_record failure;
};

static uint64_t data_bytes(const struct safetensors_writer *writer)
{
    return writer->tensor_count ? writer->tensors[writer->tensor_count - 1].end : 0;
}

// Remembers the first failure and returns `status`.
static enum sluice_status writer_failed(struct safetensors_writer *writer, enum sluice_status status)
{
    if (writer->failure.status == SLUICE_OK)
        error_save(&writer->failure, status);
    return status;
}

static enum sluice_status system_failed(struct safetensors_writer *writer, const char *what)
{
    int cause = errno;
    if (cause == EFBIG)
        return error_set(SLUICE_ERR_IO,
                         "%s: %s failed: this file system or a limit of the system (ulimit -f) does not allow files of "
                         "%llu bytes",
                         writer->path, what, (unsigned long long)data_bytes(writer));
    if (cause == ENOSPC || cause == EDQUOT)
        return error_set(SLUICE_ERR_IO,
                         "%s: %s failed: %s; the file needs %llu bytes and has %llu: free some space and run again",
                         writer->path, what, strerror(cause), (unsigned long long)data_bytes(writer),
                         (unsigned long long)writer->written);
    return error_set(SLUICE_ERR_IO, "%s: %s failed: %s", writer->path, what, strerror(cause));
}

enum sluice_status safetensors_writer_create(const char *path, struct safetensors_writer **writer)
{
    *writer = NULL;
    enum sluice_status status = output_path_check(path);
    if (status < 0)
        return status;
    *writer = mem_alloc(1, sizeof **writer);
    if (!*writer)
        return SLUICE_ERR_MEMORY;
    (*writer)->fd = -1;
    (*writer)->header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt"); // Transformers insists on "pt"
    (*writer)->path = mem_strndup(path, strlen(path));
    (*writer)->part_path = mem_alloc(strlen(path) + sizeof ".part", 1);
    if (!(*writer)->path || !(*writer)->part_path || !(*writer)->header) {
        safetensors_writer_destroy(*writer);
        *writer = NULL;
        return error_set(SLUICE_ERR_MEMORY, "%s: out of memory for a new file", path);
    }
    snprintf((*writer)->part_path, strlen(path) + sizeof ".part", "%s.part", path);
    return SLUICE_OK;
}

void safetensors_writer_destroy(struct safetensors_writer *writer)
{
    if (!writer)
        return;
    if (writer->fd >= 0) {
        close(writer->fd);
        if (!writer->finished)
            unlink(writer->part_path);
    }
    for (size_t i = 0; i < writer->tensor_count; i++)
        mem_free(writer->tensors[i].name);
    mem_free(writer->tensors);
    json_decref(writer->header);
    mem_free(writer->part_path);
    mem_free(writer->path);
    mem_free(writer);
}

static bool name_good(const struct safetensors_writer *writer, const char *name)
{
    json_t *text = json_string(name);                                              // NULL if it is not valid UTF-8
    bool good = text && name[0] != '\0' && !json_object_get(writer->header, name); // "__metadata__" is there already
    json_decref(text);
    return good;
}

// End of the tensor's bytes; false if dtype or shape is impossible.
static bool range_end(uint64_t begin, enum safetensors_dtype dtype, uint32_t rank, const uint64_t *shape, uint64_t *end)
{
    uint64_t bytes = safetensors_dtype_bytes(dtype);
    if (dtype >= SAFETENSORS_UNKNOWN || rank > SAFETENSORS_RANK_MAX)
        return false;
    for (uint32_t i = 0; i < rank; i++)
        if (shape[i] > INT64_MAX || __builtin_mul_overflow(bytes, shape[i], &bytes))
            return false;
    return !__builtin_add_overflow(begin, bytes, end) && *end <= INT64_MAX / 2;
}

static enum sluice_status header_declare(struct safetensors_writer *writer, const struct range *range,
                                         enum safetensors_dtype dtype, uint32_t rank, const uint64_t *shape)
{
    json_t *dimensions = json_array();
    for (uint32_t i = 0; i < rank; i++)
        json_array_append_new(dimensions, json_integer((json_int_t)shape[i]));
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", safetensors_dtype_name(dtype), "shape", dimensions,
                              "data_offsets", (json_int_t)range->begin, (json_int_t)range->end);
    if (json_object_set_new(writer->header, range->name, entry) == 0)
        return SLUICE_OK;
    return error_set(SLUICE_ERR_MEMORY, "%s: out of memory for the list of tensors", writer->path);
}

static enum sluice_status range_append(struct safetensors_writer *writer, const char *name, uint64_t end)
{
    if (writer->tensor_count == writer->tensor_capacity) {
        size_t capacity = writer->tensor_capacity ? 2 * writer->tensor_capacity : 64;
        struct range *grown = mem_realloc(writer->tensors, capacity, sizeof *grown);
        if (!grown)
            return SLUICE_ERR_MEMORY;
        writer->tensors = grown;
        writer->tensor_capacity = capacity;
    }
    struct range range = {.name = mem_strndup(name, strlen(name)), .begin = data_bytes(writer), .end = end};
    if (!range.name)
        return SLUICE_ERR_MEMORY;
    writer->tensors[writer->tensor_count++] = range;
    return SLUICE_OK;
}

enum sluice_status safetensors_writer_declare(struct safetensors_writer *writer, const char *name,
                                              enum safetensors_dtype dtype, uint32_t rank, const uint64_t *shape)
{
    uint64_t end;
    if (writer->failure.status < 0)
        return error_restore(&writer->failure);
    if (writer->fd >= 0 || !name_good(writer, name) || !range_end(data_bytes(writer), dtype, rank, shape, &end))
        return writer_failed(
            writer, error_set(SLUICE_ERR_ARGUMENT, "%s: cannot declare tensor '%.200s': %s", writer->path, name,
                              writer->fd >= 0 ? "data has been written already"
                                              : "its name is invalid or taken, or its dtype or shape is impossible"));
    enum sluice_status status = range_append(writer, name, end);
    if (status == SLUICE_OK)
        status = header_declare(writer, &writer->tensors[writer->tensor_count - 1], dtype, rank, shape);
    return status < 0 ? writer_failed(writer, status) : SLUICE_OK;
}

static enum sluice_status bytes_write(struct safetensors_writer *writer, uint64_t offset, const void *data,
                                      size_t bytes)
{
    const uint8_t *next = data;
    while (bytes > 0) {
        ssize_t put = pwrite(writer->fd, next, bytes < (1u << 30) ? bytes : 1u << 30, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return system_failed(writer, "writing");
        next += put;
        offset += (uint64_t)put;
        bytes -= (size_t)put;
    }
    return SLUICE_OK;
}

// Reserves the whole file. A file system that cannot is no error.
static enum sluice_status space_reserve(struct safetensors_writer *writer, uint64_t bytes)
{
    int result;
    do
        result = fallocate(writer->fd, 0, 0, (off_t)bytes);
    while (result < 0 && errno == EINTR);
    bool full = result < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG);
    return full ? system_failed(writer, "reserving space") : SLUICE_OK;
}

// Creates the temporary file and writes the header, padded with spaces so that data begins at a multiple of 8.
static enum sluice_status part_begin(struct safetensors_writer *writer)
{
    enum sluice_status status = SLUICE_OK;
    char *text = json_dumps(writer->header, JSON_COMPACT);
    size_t length = text ? strlen(text) : 0;
    uint64_t padded = u64_round_up(length, DATA_ALIGNMENT);
    if (!text)
        return error_set(SLUICE_ERR_MEMORY, "%s: out of memory for the list of tensors", writer->path);
    status = part_file_open(writer->part_path, &writer->fd);
    TRY(status == SLUICE_ERR_IO ? system_failed(writer, "creating the temporary file") : status);
    TRY(ftruncate(writer->fd, 0) == 0 ? SLUICE_OK : system_failed(writer, "emptying the temporary file"));
    writer->data_offset = LENGTH_BYTES + padded;
    TRY(space_reserve(writer, writer->data_offset + data_bytes(writer)));
    TRY(bytes_write(writer, 0, &padded, LENGTH_BYTES));
    TRY(bytes_write(writer, LENGTH_BYTES, text, length));
    TRY(bytes_write(writer, LENGTH_BYTES + length, "        ", padded - length));
fail:
    free(text); // jansson's, not ours
    return status;
}

static uint64_t range_left(const struct range *range)
{
    return range->end - range->begin - range->written;
}

// The tensor to go on with; NULL: all are complete.
static struct range *range_next(struct safetensors_writer *writer)
{
    while (writer->current < writer->tensor_count && range_left(&writer->tensors[writer->current]) == 0)
        writer->current++;
    return writer->current < writer->tensor_count ? &writer->tensors[writer->current] : NULL;
}

static struct range *range_find(struct safetensors_writer *writer, const char *name)
{
    for (size_t i = 0; i < writer->tensor_count; i++)
        if (strcmp(writer->tensors[i].name, name) == 0)
            return &writer->tensors[i];
    return NULL;
}

// `offset` is in the range, which has room for the bytes.
static enum sluice_status range_put(struct safetensors_writer *writer, struct range *range, uint64_t offset,
                                    const void *data, size_t bytes)
{
    enum sluice_status status;
    if (writer->fd < 0)
        TRY(part_begin(writer));
    TRY(bytes_write(writer, writer->data_offset + range->begin + offset, data, bytes));
    range->written += bytes;
    writer->written += bytes;
    return SLUICE_OK;
fail:
    return writer_failed(writer, status);
}

enum sluice_status safetensors_writer_write(struct safetensors_writer *writer, const char *name, const void *data,
                                            size_t bytes)
{
    if (writer->failure.status < 0)
        return error_restore(&writer->failure);
    if (bytes == 0)
        return SLUICE_OK;
    struct range *range = range_next(writer);
    if (!range || strcmp(range->name, name) != 0 || bytes > range_left(range))
        return writer_failed(writer,
                             error_set(SLUICE_ERR_ARGUMENT,
                                       "%s: %zu bytes of tensor '%.200s' are out of turn or too many: '%.200s' is next",
                                       writer->path, bytes, name, range ? range->name : "nothing"));
    return range_put(writer, range, range->written, data, bytes);
}

enum sluice_status safetensors_writer_write_at(struct safetensors_writer *writer, const char *name, uint64_t offset,
                                               const void *data, size_t bytes)
{
    if (writer->failure.status < 0)
        return error_restore(&writer->failure);
    struct range *range = range_find(writer, name);
    if (!range || bytes > range_left(range) || offset > range->end - range->begin - bytes)
        return writer_failed(writer, error_set(SLUICE_ERR_ARGUMENT,
                                               "%s: %zu bytes at %llu of tensor '%.200s' are not in it or too many",
                                               writer->path, bytes, (unsigned long long)offset, name));
    return bytes == 0 ? SLUICE_OK : range_put(writer, range, offset, data, bytes);
}

// A rename is on the drive only when its directory is.
static enum sluice_status directory_sync(struct safetensors_writer *writer)
{
    char *slash = strrchr(writer->part_path, '/'); // part_path is not needed any more
    if (slash)
        slash[slash == writer->part_path] = '\0';
    int fd = open(slash ? writer->part_path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return SLUICE_OK; // not readable: nothing more we can do, and the data itself is safe
    int result = fsync(fd);
    bool lost = result < 0 && (errno == EIO || errno == ENOSPC);
    close(fd);
    return lost ? system_failed(writer, "flushing the directory") : SLUICE_OK;
}

enum sluice_status safetensors_writer_finish(struct safetensors_writer *writer)
{
    enum sluice_status status;
    if (writer->failure.status < 0)
        return error_restore(&writer->failure);
    if (writer->finished || writer->written != data_bytes(writer))
        TRY(error_set(SLUICE_ERR_ARGUMENT, "%s: cannot finish: %llu of %llu bytes have been written", writer->path,
                      (unsigned long long)writer->written, (unsigned long long)data_bytes(writer)));
    if (writer->fd < 0) // no tensor has any data
        TRY(part_begin(writer));
    TRY(fsync(writer->fd) == 0 ? SLUICE_OK : system_failed(writer, "flushing to the drive"));
    TRY(rename(writer->part_path, writer->path) == 0 ? SLUICE_OK : system_failed(writer, "renaming"));
    writer->finished = true;
    TRY(directory_sync(writer));
    return SLUICE_OK;
fail:
    return writer_failed(writer, status);
}
