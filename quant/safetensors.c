#include "quant/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "quant/safetensors_internal.h"
#include "runtime/base/check.h"
#include "runtime/base/mem.h"

enum { LENGTH_BYTES = 8 };

enum sluice_status safetensors_open(const char *path, struct safetensors **st)
{
    enum sluice_status status = SLUICE_OK;
    *st = mem_alloc(1, sizeof **st);
    if (!*st)
        return SLUICE_ERR_MEMORY;
    TRY(safetensors_add_file(*st, path));
    TRY(safetensors_sort(*st));
    return SLUICE_OK;
fail:
    safetensors_close(*st);
    *st = NULL;
    return status;
}

void safetensors_close(struct safetensors *st)
{
    if (!st)
        return;
    for (uint32_t i = 0; i < st->file_count; i++) {
        close(st->files[i].fd);
        mem_free(st->files[i].path);
    }
    for (size_t i = 0; i < st->tensor_count; i++)
        mem_free((char *)(uintptr_t)st->tensors[i].name);
    mem_free(st->by_name);
    mem_free(st->tensors);
    mem_free(st->files);
    mem_free(st);
}

// Appends an open file to the list; afterwards `st` owns the descriptor.
static enum sluice_status file_open(struct safetensors *st, const char *path, struct safetensors_file **file)
{
    struct safetensors_file *grown = mem_realloc(st->files, st->file_count + 1u, sizeof *grown);
    if (!grown)
        return SLUICE_ERR_MEMORY;
    st->files = grown;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // nonblocking: a FIFO must not hang the program
    if (fd < 0 || fstat(fd, &info) < 0) {
        enum sluice_status status = error_set(SLUICE_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return status;
    }
    char *path_copy = S_ISREG(info.st_mode) ? mem_strndup(path, strlen(path)) : NULL;
    if (!path_copy) {
        close(fd);
        return S_ISREG(info.st_mode) ? SLUICE_ERR_MEMORY : error_set(SLUICE_ERR_IO, "%s: not a regular file", path);
    }
    *file = &st->files[st->file_count++];
    **file = (struct safetensors_file){.path = path_copy, .fd = fd, .bytes = (uint64_t)info.st_size};
    return SLUICE_OK;
}

// Header length, checked against the file and the format's limit.
static enum sluice_status header_length(const struct safetensors_file *file, uint64_t *length)
{
    if (file->bytes < LENGTH_BYTES)
        return error_set(SLUICE_ERR_FORMAT, "%s: not a safetensors file: only %llu bytes", file->path,
                         (unsigned long long)file->bytes);
    enum sluice_status status = safetensors_file_read(file, 0, length, LENGTH_BYTES);
    if (status < 0)
        return status;
    if (*length < 2 || *length > SAFETENSORS_HEADER_BYTES_MAX || *length > file->bytes - LENGTH_BYTES)
        return error_set(SLUICE_ERR_FORMAT,
                         "%s: not a safetensors file or cut short: it claims a header of %llu bytes in a file of %llu "
                         "(at most %u are allowed)",
                         file->path, (unsigned long long)*length, (unsigned long long)file->bytes,
                         SAFETENSORS_HEADER_BYTES_MAX);
    return SLUICE_OK;
}

static enum sluice_status header_load(struct safetensors *st, const struct safetensors_file *file)
{
    enum sluice_status status;
    char *text = NULL;
    json_t *header = NULL;
    uint64_t length;
    TRY(header_length(file, &length));
    text = mem_alloc(length, 1);
    TRY(text ? SLUICE_OK : SLUICE_ERR_MEMORY);
    TRY(safetensors_file_read(file, LENGTH_BYTES, text, length));
    TRY(safetensors_json_parse(file->path, "header", text, length, &header));
    TRY(safetensors_header_add(st, st->file_count - 1, LENGTH_BYTES + length, header));
fail:
    json_decref(header);
    mem_free(text);
    return status;
}

static int compare_by_offset(const void *a, const void *b)
{
    const struct safetensors_tensor *left = a, *right = b;
    if (left->offset != right->offset)
        return left->offset < right->offset ? -1 : 1;
    if (left->bytes != right->bytes) // empty tensors first: they may lie where another begins
        return left->bytes < right->bytes ? -1 : 1;
    return strcmp(left->name, right->name);
}

static enum sluice_status overlap_check(const struct safetensors *st, size_t first)
{
    const struct safetensors_tensor *previous = NULL;
    for (size_t i = first; i < st->tensor_count; i++) {
        const struct safetensors_tensor *tensor = &st->tensors[i];
        if (tensor->bytes == 0)
            continue;
        if (previous && tensor->offset < previous->offset + previous->bytes)
            return error_set(SLUICE_ERR_FORMAT, "%s: tensors '%.100s' and '%.100s' overlap at byte %llu",
                             st->files[tensor->file].path, previous->name, tensor->name,
                             (unsigned long long)tensor->offset);
        previous = tensor;
    }
    return SLUICE_OK;
}

enum sluice_status safetensors_add_file(struct safetensors *st, const char *path)
{
    size_t first = st->tensor_count;
    struct safetensors_file *file = NULL;
    enum sluice_status status;
    TRY(file_open(st, path, &file));
    TRY(header_load(st, file));
    if (st->tensor_count > first)
        qsort(st->tensors + first, st->tensor_count - first, sizeof *st->tensors, compare_by_offset);
    TRY(overlap_check(st, first));
fail:
    return status;
}

static int compare_by_name(const void *a, const void *b)
{
    const struct safetensors_tensor *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

enum sluice_status safetensors_sort(struct safetensors *st)
{
    st->by_name = mem_alloc(st->tensor_count, sizeof(void *));
    if (!st->by_name)
        return SLUICE_ERR_MEMORY;
    for (size_t i = 0; i < st->tensor_count; i++)
        st->by_name[i] = &st->tensors[i];
    qsort(st->by_name, st->tensor_count, sizeof(void *), compare_by_name);
    for (size_t i = 1; i < st->tensor_count; i++) {
        const struct safetensors_tensor *a = st->by_name[i - 1], *b = st->by_name[i];
        if (strcmp(a->name, b->name) == 0)
            return error_set(SLUICE_ERR_FORMAT, "%s: tensor '%.100s' is in %s too", st->files[b->file].path, a->name,
                             st->files[a->file].path);
    }
    return SLUICE_OK;
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *st, const char *name)
{
    const struct safetensors_tensor wanted = {.name = name}, *key = &wanted;
    const struct safetensors_tensor **found =
        bsearch(&key, st->by_name, st->tensor_count, sizeof(void *), compare_by_name);
    return found ? *found : NULL;
}

enum sluice_status safetensors_require(const struct safetensors *st, const char *name,
                                       const struct safetensors_tensor **tensor)
{
    *tensor = safetensors_find(st, name);
    if (*tensor)
        return SLUICE_OK;
    return error_set(SLUICE_ERR_FORMAT, "%s%s: tensor '%.200s' is missing; is this a complete Qwen3-Next checkpoint?",
                     st->files[0].path, st->file_count > 1 ? " and its other shards" : "", name);
}

size_t safetensors_count(const struct safetensors *st)
{
    return st->tensor_count;
}

const struct safetensors_tensor *safetensors_at(const struct safetensors *st, size_t index)
{
    CHECK(index < st->tensor_count);
    return &st->tensors[index];
}

uint32_t safetensors_file_count(const struct safetensors *st)
{
    return st->file_count;
}

const char *safetensors_file_path(const struct safetensors *st, uint32_t file)
{
    CHECK(file < st->file_count);
    return st->files[file].path;
}
