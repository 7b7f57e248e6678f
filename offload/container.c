#include "offload/container.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "offload/container_private.h"
#include "offload/file_range.h"
#include "runtime/base/check.h"
#include "runtime/base/mem.h"

static enum sluice_status regular_file_bytes(int descriptor, const char *path, uint64_t *bytes)
{
    struct stat info;
    if (fstat(descriptor, &info) != 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot stat: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode))
        return error_set(SLUICE_ERR_FORMAT,
                         "%s: a folder, not a container; `sluice convert` makes a container of a checkpoint's folder",
                         path);
    if (!S_ISREG(info.st_mode))
        return error_set(SLUICE_ERR_FORMAT, "%s: not a regular file", path);
    *bytes = (uint64_t)info.st_size;
    return SLUICE_OK;
}

static enum sluice_status load_header(struct container *c)
{
    struct container_disk_header *header = &c->directory.header;
    uint64_t file_bytes = 0;
    enum sluice_status status;
    TRY(regular_file_bytes(c->descriptor, c->path, &file_bytes));
    if (file_bytes < CONTAINER_HEADER_BYTES)
        return error_set(SLUICE_ERR_FORMAT, "%s: not a Sluice container: only %" PRIu64 " bytes long", c->path,
                         file_bytes);
    TRY(file_range_read(c->descriptor, c->path, header, sizeof *header, 0));
    TRY(container_header_check(header, c->path, file_bytes));
fail:
    return status;
}

static enum sluice_status load_directory(struct container *c)
{
    struct container_directory *d = &c->directory;
    uint64_t padded_bytes = container_padded_bytes(d->header.directory_bytes);
    uint8_t hash[CONTAINER_HASH_BYTES];
    enum sluice_status status;
    TRY(container_directory_alloc(d));
    TRY(file_range_read(c->descriptor, c->path, d->bytes, padded_bytes, d->header.directory_offset));
    container_hash(d->bytes, padded_bytes, hash);
    if (memcmp(hash, d->header.directory_xxh3, sizeof hash) != 0)
        return error_set(SLUICE_ERR_CHECKSUM,
                         "%s: the directory (file offset %" PRIu64 ") does not match its checksum: "
                         "the file is damaged; copy or convert it again",
                         c->path, d->header.directory_offset);
    TRY(container_directory_check(d, c->path));
fail:
    return status;
}

static int compare_names(const void *a, const void *b)
{
    const struct container_tensor *const *left = a;
    const struct container_tensor *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

static enum sluice_status index_tensors(struct container *c)
{
    const struct container_directory *d = &c->directory;
    uint32_t count = d->header.tensor_count;
    c->tensors = mem_alloc(count, sizeof *c->tensors);
    c->tensors_by_name = mem_alloc(count, sizeof *c->tensors_by_name);
    if (!c->tensors || !c->tensors_by_name)
        return SLUICE_ERR_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        const struct container_disk_tensor *disk = &d->tensors[i];
        c->tensors[i] = (struct container_tensor){
            .name = container_directory_name(d, disk->name),
            .type_id = disk->type_id,
            .layout = (enum container_layout)disk->layout,
            .rows = disk->rows,
            .cols = disk->cols,
            .bytes = disk->bytes,
            .file_offset = disk->offset,
        };
        c->tensors_by_name[i] = &c->tensors[i];
    }
    qsort(c->tensors_by_name, count, sizeof *c->tensors_by_name, compare_names);
    for (uint32_t i = 1; i < count; i++)
        if (strcmp(c->tensors_by_name[i - 1]->name, c->tensors_by_name[i]->name) == 0)
            return error_set(SLUICE_ERR_FORMAT, "%s: there are two tensors '%s'", c->path, c->tensors_by_name[i]->name);
    return SLUICE_OK;
}

static enum sluice_status index_layers(struct container *c)
{
    const struct container_directory *d = &c->directory;
    c->layers = mem_alloc(d->header.layer_count, sizeof *c->layers);
    if (!c->layers)
        return SLUICE_ERR_MEMORY;
    uint64_t expert_first = 0;
    for (uint32_t i = 0; i < d->header.layer_count; i++) {
        const struct container_disk_layer *disk = &d->layers[i];
        c->layers[i] = (struct container_expert_layer){
            .layer = disk->layer,
            .expert_count = disk->expert_count,
            .gate_up_type_id = disk->gate_up_type_id,
            .down_type_id = disk->down_type_id,
            .hidden = disk->hidden,
            .intermediate = disk->intermediate,
            .down_offset = disk->down_offset,
            .record_bytes = disk->record_bytes,
            .file_offset = disk->offset,
            .expert_first = expert_first,
        };
        expert_first += disk->expert_count;
    }
    return SLUICE_OK;
}

enum sluice_status container_open_descriptor(int descriptor, const char *path, struct container **out)
{
    enum sluice_status status = SLUICE_ERR_MEMORY;
    struct container *c = mem_alloc(1, sizeof *c);
    *out = NULL;
    if (!c) {
        close(descriptor);
        return SLUICE_ERR_MEMORY;
    }
    c->descriptor = descriptor;
    c->path = mem_strndup(path, strlen(path));
    if (!c->path)
        goto fail;
    TRY(load_header(c));
    TRY(load_directory(c));
    TRY(index_tensors(c));
    TRY(index_layers(c));
    *out = c;
    return SLUICE_OK;
fail:
    container_close(c);
    return status;
}

enum sluice_status container_open(const char *path, struct container **c)
{
    *c = NULL;
    // O_NONBLOCK: do not hang on a FIFO; it means nothing for a regular file.
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    return container_open_descriptor(descriptor, path, c);
}

void container_close(struct container *c)
{
    if (!c)
        return;
    close(c->descriptor);
    container_directory_free(&c->directory);
    mem_free(c->tensors);
    mem_free(c->tensors_by_name);
    mem_free(c->layers);
    mem_free(c->path);
    mem_free(c);
}

const char *container_path(const struct container *c)
{
    return c->path;
}

uint64_t container_file_bytes(const struct container *c)
{
    return c->directory.header.file_bytes;
}

int container_descriptor(const struct container *c)
{
    return c->descriptor;
}

void container_fingerprint(const struct container *c, uint8_t out[16])
{
    memcpy(out, c->directory.header.fingerprint, 16);
}

const char *container_type_name(const struct container *c, uint32_t type_id)
{
    const struct container_disk_type *type = container_directory_type(&c->directory, type_id);
    return type ? container_directory_name(&c->directory, type->name) : NULL;
}

uint32_t container_document_count(const struct container *c)
{
    return c->directory.header.document_count;
}

const char *container_document_name(const struct container *c, uint32_t index)
{
    CHECK(index < c->directory.header.document_count);
    return container_directory_name(&c->directory, c->directory.documents[index].name);
}

uint64_t container_document_bytes(const struct container *c, uint32_t index)
{
    CHECK(index < c->directory.header.document_count);
    return c->directory.documents[index].bytes;
}

uint32_t container_tensor_count(const struct container *c)
{
    return c->directory.header.tensor_count;
}

const struct container_tensor *container_tensor_at(const struct container *c, uint32_t index)
{
    CHECK(index < c->directory.header.tensor_count);
    return &c->tensors[index];
}

const struct container_tensor *container_tensor_find(const struct container *c, const char *name)
{
    const struct container_tensor wanted = {.name = name};
    const struct container_tensor *key = &wanted;
    const struct container_tensor **found =
        bsearch(&key, c->tensors_by_name, c->directory.header.tensor_count, sizeof *c->tensors_by_name, compare_names);
    return found ? *found : NULL;
}

uint32_t container_expert_layer_count(const struct container *c)
{
    return c->directory.header.layer_count;
}

const struct container_expert_layer *container_expert_layer_at(const struct container *c, uint32_t index)
{
    CHECK(index < c->directory.header.layer_count);
    return &c->layers[index];
}

static int compare_layers(const void *a, const void *b)
{
    const struct container_expert_layer *left = a;
    const struct container_expert_layer *right = b;
    return (left->layer > right->layer) - (left->layer < right->layer);
}

const struct container_expert_layer *container_expert_layer(const struct container *c, uint32_t layer)
{
    const struct container_expert_layer key = {.layer = layer};
    return bsearch(&key, c->layers, c->directory.header.layer_count, sizeof *c->layers, compare_layers);
}

uint64_t container_expert_count(const struct container *c)
{
    return c->directory.header.expert_count;
}

uint64_t container_expert_record_bytes_max(const struct container *c)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < c->directory.header.layer_count; i++)
        if (c->layers[i].record_bytes > bytes)
            bytes = c->layers[i].record_bytes;
    return bytes;
}

uint64_t container_expert_offset(const struct container *c, uint32_t layer, uint32_t expert)
{
    const struct container_expert_layer *l = container_expert_layer(c, layer);
    CHECK(l && expert < l->expert_count);
    return l->file_offset + expert * l->record_bytes;
}
