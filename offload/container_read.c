// Reading what a container holds, each item against its checksum.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "offload/container.h"
#include "offload/container_private.h"
#include "offload/file_range.h"
#include "offload/xxh3.h"
#include "runtime/base/check.h"
#include "runtime/base/mem.h"

enum { VERIFY_BUFFER_BYTES = 4 << 20 };

// A checksummed range of the file. Its name for messages is put together only when it is needed.
struct item {
    enum { ITEM_HEADER, ITEM_DIRECTORY, ITEM_DOCUMENT, ITEM_TENSOR, ITEM_EXPERT } kind;
    const char *name;       // documents and tensors
    uint32_t layer, expert; // experts
    uint64_t offset, bytes; // without padding
    const uint8_t *xxh3;
};

static enum sluice_status item_damaged(const struct container *c, const struct item *item)
{
    char what[CONTAINER_NAME_BYTES_MAX + 64];
    switch (item->kind) {
    case ITEM_HEADER:
        snprintf(what, sizeof what, "the header");
        break;
    case ITEM_DIRECTORY:
        snprintf(what, sizeof what, "the directory");
        break;
    case ITEM_DOCUMENT:
        snprintf(what, sizeof what, "document '%s'", item->name);
        break;
    case ITEM_TENSOR:
        snprintf(what, sizeof what, "tensor '%s'", item->name);
        break;
    case ITEM_EXPERT:
        snprintf(what, sizeof what, "layer %" PRIu32 " expert %" PRIu32, item->layer, item->expert);
        break;
    }
    return error_set(SLUICE_ERR_CHECKSUM,
                     "%s: %s (file offset %" PRIu64 ", %" PRIu64 " bytes) does not match its "
                     "checksum: the file is damaged, or the drive or memory returned wrong data; run a full verify, "
                     "then copy or convert the file again",
                     c->path, what, item->offset, item->bytes);
}

static enum sluice_status item_compare(const struct container *c, const struct item *item, XXH128_hash_t hash)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    return memcmp(canonical.digest, item->xxh3, CONTAINER_HASH_BYTES) == 0 ? SLUICE_OK : item_damaged(c, item);
}

// Reads the zeros after the item and ends the checksum.
static enum sluice_status item_end(const struct container *c, const struct item *item, XXH3_state_t *state)
{
    uint8_t padding[CONTAINER_ALIGN_BYTES];
    uint64_t bytes = container_padded_bytes(item->bytes) - item->bytes;
    enum sluice_status status;
    TRY(file_range_read(c->descriptor, c->path, padding, bytes, item->offset + item->bytes));
    XXH3_128bits_update(state, padding, bytes);
    TRY(item_compare(c, item, XXH3_128bits_digest(state)));
fail:
    return status;
}

static enum sluice_status item_read(const struct container *c, const struct item *item, void *out)
{
    XXH3_state_t state;
    enum sluice_status status;
    TRY(file_range_read(c->descriptor, c->path, out, item->bytes, item->offset));
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, out, item->bytes);
    TRY(item_end(c, item, &state));
fail:
    return status;
}

static enum sluice_status item_stream(const struct container *c, const struct item *item, void *buffer,
                                      size_t buffer_bytes, container_piece_function *piece, void *user)
{
    XXH3_state_t state;
    enum sluice_status status;
    XXH3_128bits_reset(&state);
    for (uint64_t done = 0; done < item->bytes;) {
        uint64_t left = item->bytes - done;
        size_t bytes = left < buffer_bytes ? (size_t)left : buffer_bytes;
        TRY(file_range_read(c->descriptor, c->path, buffer, bytes, item->offset + done));
        XXH3_128bits_update(&state, buffer, bytes); // before the callback, which may change the buffer
        TRY(piece(user, done, buffer, bytes));
        done += bytes;
    }
    TRY(item_end(c, item, &state));
fail:
    return status;
}

static struct item document_item(const struct container *c, uint32_t index)
{
    const struct container_disk_document *document = &c->directory.documents[index];
    return (struct item){
        .kind = ITEM_DOCUMENT,
        .name = container_directory_name(&c->directory, document->name),
        .offset = document->offset,
        .bytes = document->bytes,
        .xxh3 = document->xxh3,
    };
}

static struct item tensor_item(const struct container *c, const struct container_tensor *t)
{
    CHECK(t >= c->tensors && t < c->tensors + c->directory.header.tensor_count);
    return (struct item){
        .kind = ITEM_TENSOR,
        .name = t->name,
        .offset = t->file_offset,
        .bytes = t->bytes,
        .xxh3 = c->directory.tensors[t - c->tensors].xxh3,
    };
}

static struct item expert_item(const struct container *c, const struct container_expert_layer *l, uint32_t expert)
{
    CHECK(l && expert < l->expert_count);
    return (struct item){
        .kind = ITEM_EXPERT,
        .layer = l->layer,
        .expert = expert,
        .offset = l->file_offset + expert * l->record_bytes,
        .bytes = l->record_bytes,
        .xxh3 = c->directory.expert_xxh3[l->expert_first + expert],
    };
}

enum sluice_status container_document(const struct container *c, const char *name, char **text, size_t *bytes)
{
    *text = NULL;
    *bytes = 0;
    for (uint32_t i = 0; i < c->directory.header.document_count; i++) {
        struct item item = document_item(c, i);
        if (strcmp(item.name, name) != 0)
            continue;
        char *copy = mem_alloc(item.bytes + 1, 1);
        if (!copy)
            return SLUICE_ERR_MEMORY;
        enum sluice_status status = item_read(c, &item, copy);
        if (status < 0) {
            mem_free(copy);
            return status;
        }
        *text = copy;
        *bytes = item.bytes;
        return SLUICE_OK;
    }
    return error_set(SLUICE_ERR_UNSUPPORTED, "%s: there is no document '%s' in this container", c->path, name);
}

enum sluice_status container_read_tensor(const struct container *c, const struct container_tensor *t, void *out)
{
    struct item item = tensor_item(c, t);
    return item_read(c, &item, out);
}

enum sluice_status container_tensor_stream(const struct container *c, const struct container_tensor *t, void *buffer,
                                           size_t buffer_bytes, container_piece_function *piece, void *user)
{
    CHECK(buffer_bytes >= CONTAINER_ALIGN_BYTES);
    struct item item = tensor_item(c, t);
    return item_stream(c, &item, buffer, buffer_bytes, piece, user);
}

enum sluice_status container_expert_verify(const struct container *c, uint32_t layer, uint32_t expert,
                                           const void *record)
{
    struct item item = expert_item(c, container_expert_layer(c, layer), expert);
    return item_compare(c, &item, XXH3_128bits(record, item.bytes));
}

enum sluice_status container_read_expert(const struct container *c, uint32_t layer, uint32_t expert, void *out)
{
    struct item item = expert_item(c, container_expert_layer(c, layer), expert);
    return item_read(c, &item, out);
}

// Walking the whole file.
struct verification {
    const struct container *c;
    void *buffer;
    size_t buffer_bytes;
    uint64_t item_offset;
    container_progress_function *progress;
    void *user;
};

static enum sluice_status verify_piece(void *user, uint64_t offset, const void *data, size_t bytes)
{
    struct verification *v = user;
    (void)data;
    uint64_t done = v->item_offset + offset + bytes;
    if (v->progress && !v->progress(v->user, done, v->c->directory.header.file_bytes))
        return error_set(SLUICE_ERR_CANCELLED, "%s: verification cancelled at offset %" PRIu64, v->c->path, done);
    return SLUICE_OK;
}

static enum sluice_status verify_item(struct verification *v, struct item item)
{
    v->item_offset = item.offset;
    return item_stream(v->c, &item, v->buffer, v->buffer_bytes, verify_piece, v);
}

// The header was checked when the file was opened, so a difference from that copy is damage that came later.
static enum sluice_status verify_header(struct verification *v)
{
    const struct container_directory *d = &v->c->directory;
    struct item item = {.kind = ITEM_HEADER, .bytes = CONTAINER_HEADER_BYTES};
    enum sluice_status status;
    TRY(file_range_read(v->c->descriptor, v->c->path, v->buffer, sizeof d->header, 0));
    if (memcmp(v->buffer, &d->header, sizeof d->header) != 0)
        return item_damaged(v->c, &item);
    TRY(verify_piece(v, 0, v->buffer, sizeof d->header));
fail:
    return status;
}

static enum sluice_status verify_layers(struct verification *v)
{
    for (uint32_t i = 0; i < v->c->directory.header.layer_count; i++) {
        const struct container_expert_layer *layer = &v->c->layers[i];
        for (uint32_t expert = 0; expert < layer->expert_count; expert++) {
            enum sluice_status status = verify_item(v, expert_item(v->c, layer, expert));
            if (status < 0)
                return status;
        }
    }
    return SLUICE_OK;
}

enum sluice_status container_verify(const struct container *c, container_progress_function *progress, void *user)
{
    const struct container_disk_header *header = &c->directory.header;
    struct verification v = {.c = c, .progress = progress, .user = user};
    enum sluice_status status = SLUICE_ERR_MEMORY;
    v.buffer_bytes = header->file_bytes < VERIFY_BUFFER_BYTES ? header->file_bytes : VERIFY_BUFFER_BYTES;
    v.buffer = mem_alloc(v.buffer_bytes, 1);
    if (!v.buffer)
        goto fail;
    TRY(verify_header(&v));
    TRY(verify_item(&v, (struct item){.kind = ITEM_DIRECTORY,
                                      .offset = header->directory_offset,
                                      .bytes = header->directory_bytes,
                                      .xxh3 = header->directory_xxh3}));
    for (uint32_t i = 0; i < header->document_count; i++)
        TRY(verify_item(&v, document_item(c, i)));
    for (uint32_t i = 0; i < header->tensor_count; i++)
        TRY(verify_item(&v, tensor_item(c, &c->tensors[i])));
    TRY(verify_layers(&v));
fail:
    mem_free(v.buffer);
    return status;
}
