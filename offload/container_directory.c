#include "offload/container_directory.h"

#include <inttypes.h>
#include <string.h>

#include "offload/container.h"
#include "offload/xxh3.h"
#include "runtime/base/check.h"
#include "runtime/base/mem.h"

enum { TABLE_ENTRIES_MAX = 256 }; // types and documents, which are searched one by one

uint64_t container_padded_bytes(uint64_t bytes)
{
    const uint64_t mask = CONTAINER_ALIGN_BYTES - 1;
    return bytes > UINT64_MAX - mask ? ~mask : (bytes + mask) & ~mask;
}

void container_hash(const void *data, uint64_t bytes, uint8_t out[CONTAINER_HASH_BYTES])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, bytes));
    memcpy(out, canonical.digest, CONTAINER_HASH_BYTES);
}

void container_hash_padded(const void *data, uint64_t bytes, uint8_t out[CONTAINER_HASH_BYTES])
{
    static const uint8_t zeros[CONTAINER_ALIGN_BYTES];
    XXH3_state_t state;
    XXH128_canonical_t canonical;
    XXH3_128bits_reset(&state);
    if (bytes > 0)
        XXH3_128bits_update(&state, data, bytes);
    XXH3_128bits_update(&state, zeros, container_padded_bytes(bytes) - bytes);
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
    memcpy(out, canonical.digest, CONTAINER_HASH_BYTES);
}

bool container_directory_size(const struct container_disk_header *header, uint64_t *bytes)
{
    // The 64-bit counts first: after this no product or sum can overflow.
    if (header->expert_count > CONTAINER_DIRECTORY_BYTES_MAX || header->string_bytes > CONTAINER_DIRECTORY_BYTES_MAX)
        return false;
    *bytes = header->type_count * sizeof(struct container_disk_type) +
             header->document_count * sizeof(struct container_disk_document) +
             header->tensor_count * sizeof(struct container_disk_tensor) +
             header->layer_count * sizeof(struct container_disk_layer) + header->expert_count * CONTAINER_HASH_BYTES +
             header->string_bytes;
    return *bytes <= CONTAINER_DIRECTORY_BYTES_MAX;
}

static enum sluice_status check_length(const struct container_disk_header *header, const char *path,
                                       uint64_t file_bytes)
{
    if (file_bytes < header->file_bytes)
        return error_set(SLUICE_ERR_FORMAT,
                         "%s: the file is cut short: it has %" PRIu64 " of %" PRIu64 " bytes; copy or convert it again",
                         path, file_bytes, header->file_bytes);
    if (file_bytes > header->file_bytes)
        return error_set(SLUICE_ERR_FORMAT,
                         "%s: the file has %" PRIu64 " bytes, %" PRIu64
                         " more than its header says; copy or convert it again",
                         path, file_bytes, file_bytes - header->file_bytes);
    return SLUICE_OK;
}

enum sluice_status container_header_check(const struct container_disk_header *header, const char *path,
                                          uint64_t file_bytes)
{
    uint8_t hash[CONTAINER_HASH_BYTES];
    if (memcmp(header->magic, CONTAINER_MAGIC, sizeof header->magic) != 0)
        return error_set(SLUICE_ERR_FORMAT, "%s: not a Sluice container (its first bytes are something else)", path);
    container_hash(header, offsetof(struct container_disk_header, header_xxh3), hash);
    if (memcmp(hash, header->header_xxh3, sizeof hash) != 0)
        return error_set(SLUICE_ERR_CHECKSUM,
                         "%s: the header (file offset 0) does not match its checksum: the file is "
                         "damaged; copy or convert it again",
                         path);
    if (header->version != CONTAINER_VERSION)
        return error_set(SLUICE_ERR_FORMAT, "%s: container version %" PRIu32 ", this program reads version %d; %s",
                         path, header->version, CONTAINER_VERSION,
                         header->version > CONTAINER_VERSION ? "update the program" : "convert the model again");
    enum sluice_status status = check_length(header, path, file_bytes);
    if (status < 0)
        return status;
    uint64_t bytes;
    if (header->header_bytes != CONTAINER_HEADER_BYTES || header->directory_offset != CONTAINER_HEADER_BYTES ||
        !container_directory_size(header, &bytes) || header->directory_bytes != bytes ||
        header->type_count > TABLE_ENTRIES_MAX || header->document_count > TABLE_ENTRIES_MAX ||
        header->documents_offset != CONTAINER_HEADER_BYTES + container_padded_bytes(bytes) ||
        header->documents_offset > header->file_bytes || header->file_bytes > INT64_MAX)
        return error_set(SLUICE_ERR_FORMAT, "%s: the header's counts and sizes do not agree", path);
    return SLUICE_OK;
}

enum sluice_status container_directory_alloc(struct container_directory *directory)
{
    const struct container_disk_header *header = &directory->header;
    uint64_t bytes;
    CHECK(container_directory_size(header, &bytes));
    directory->bytes = mem_alloc(container_padded_bytes(bytes), 1);
    if (!directory->bytes)
        return SLUICE_ERR_MEMORY;
    uint8_t *cursor = directory->bytes;
    directory->types = (struct container_disk_type *)cursor;
    cursor += header->type_count * sizeof *directory->types;
    directory->documents = (struct container_disk_document *)cursor;
    cursor += header->document_count * sizeof *directory->documents;
    directory->tensors = (struct container_disk_tensor *)cursor;
    cursor += header->tensor_count * sizeof *directory->tensors;
    directory->layers = (struct container_disk_layer *)cursor;
    cursor += header->layer_count * sizeof *directory->layers;
    directory->expert_xxh3 = (uint8_t(*)[CONTAINER_HASH_BYTES])cursor;
    cursor += header->expert_count * CONTAINER_HASH_BYTES;
    directory->strings = (char *)cursor;
    return SLUICE_OK;
}

void container_directory_free(struct container_directory *directory)
{
    mem_free(directory->bytes);
    directory->bytes = NULL;
}

const char *container_directory_name(const struct container_directory *directory, struct container_disk_name name)
{
    return directory->strings + name.offset;
}

const struct container_disk_type *container_directory_type(const struct container_directory *directory, uint32_t id)
{
    for (uint32_t i = 0; i < directory->header.type_count; i++)
        if (directory->types[i].id == id)
            return &directory->types[i];
    return NULL;
}

// Printable ASCII without spaces, so that a name can stand in a message or on a terminal as it is.
static bool name_is_valid(const struct container_directory *directory, struct container_disk_name name)
{
    uint64_t end = (uint64_t)name.offset + name.bytes; // of the text; the NUL follows
    if (name.bytes == 0 || name.bytes > CONTAINER_NAME_BYTES_MAX || end >= directory->header.string_bytes)
        return false;
    const char *text = directory->strings + name.offset;
    for (uint32_t i = 0; i < name.bytes; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return text[name.bytes] == '\0';
}

static enum sluice_status bad_entry(const char *path, const char *table, uint32_t index, const char *what)
{
    return error_set(SLUICE_ERR_FORMAT, "%s: entry %" PRIu32 " of the %s table: %s", path, index, table, what);
}

static enum sluice_status check_types(const struct container_directory *d, const char *path)
{
    for (uint32_t i = 0; i < d->header.type_count; i++) {
        if (!name_is_valid(d, d->types[i].name))
            return bad_entry(path, "type", i, "the name is empty, too long or not printable");
        if (i > 0 && d->types[i].id <= d->types[i - 1].id)
            return bad_entry(path, "type", i, "the ids do not ascend");
    }
    return SLUICE_OK;
}

// Consumes an item of `bytes` bytes (and padding) at *cursor; false if it is not exactly there or beyond the end.
static bool take_item(const struct container_directory *d, uint64_t *cursor, uint64_t offset, uint64_t bytes)
{
    uint64_t left = d->header.file_bytes - *cursor;
    if (offset != *cursor || bytes > left || container_padded_bytes(bytes) > left)
        return false;
    *cursor += container_padded_bytes(bytes);
    return true;
}

static bool is_document_repeated(const struct container_directory *d, uint32_t index)
{
    const char *name = container_directory_name(d, d->documents[index].name);
    for (uint32_t i = 0; i < index; i++)
        if (strcmp(container_directory_name(d, d->documents[i].name), name) == 0)
            return true;
    return false;
}

static enum sluice_status check_documents(const struct container_directory *d, const char *path, uint64_t *cursor)
{
    for (uint32_t i = 0; i < d->header.document_count; i++) {
        const struct container_disk_document *document = &d->documents[i];
        if (!name_is_valid(d, document->name))
            return bad_entry(path, "document", i, "the name is empty, too long or not printable");
        if (is_document_repeated(d, i))
            return bad_entry(path, "document", i, "the name occurs twice");
        if (document->bytes > CONTAINER_DOCUMENT_BYTES_MAX)
            return bad_entry(path, "document", i, "it is larger than 256 MiB");
        if (!take_item(d, cursor, document->offset, document->bytes))
            return bad_entry(path, "document", i, "its place in the file is impossible");
    }
    return SLUICE_OK;
}

static enum sluice_status check_tensors(const struct container_directory *d, const char *path, uint64_t *cursor)
{
    for (uint32_t i = 0; i < d->header.tensor_count; i++) {
        const struct container_disk_tensor *tensor = &d->tensors[i];
        uint64_t values;
        if (!name_is_valid(d, tensor->name))
            return bad_entry(path, "tensor", i, "the name is empty, too long or not printable");
        if (!container_directory_type(d, tensor->type_id))
            return bad_entry(path, "tensor", i, "its number format is not declared");
        if (tensor->layout != CONTAINER_LAYOUT_PLAIN && tensor->layout != CONTAINER_LAYOUT_TILES)
            return bad_entry(path, "tensor", i, "its layout is unknown");
        if (__builtin_mul_overflow(tensor->rows, tensor->cols, &values) || values == 0 || values > INT64_MAX)
            return bad_entry(path, "tensor", i, "its shape is impossible");
        if (tensor->bytes == 0 || !take_item(d, cursor, tensor->offset, tensor->bytes))
            return bad_entry(path, "tensor", i, "its place in the file is impossible");
    }
    return SLUICE_OK;
}

static enum sluice_status check_layer(const struct container_directory *d, const char *path, uint32_t i,
                                      uint64_t *cursor)
{
    const struct container_disk_layer *layer = &d->layers[i];
    uint64_t bytes;
    if (i > 0 && layer->layer <= d->layers[i - 1].layer)
        return bad_entry(path, "expert layer", i, "the layers do not ascend");
    if (layer->expert_count == 0 || layer->hidden == 0 || layer->intermediate == 0)
        return bad_entry(path, "expert layer", i, "a count or size is zero");
    if (!container_directory_type(d, layer->gate_up_type_id) || !container_directory_type(d, layer->down_type_id))
        return bad_entry(path, "expert layer", i, "its number format is not declared");
    if (layer->record_bytes == 0 || layer->record_bytes % CONTAINER_ALIGN_BYTES != 0 || layer->down_offset == 0 ||
        layer->down_offset % CONTAINER_DOWN_ALIGN_BYTES != 0 || layer->down_offset >= layer->record_bytes)
        return bad_entry(path, "expert layer", i, "its record size or the offset of down is impossible");
    if (__builtin_mul_overflow(layer->record_bytes, layer->expert_count, &bytes) ||
        !take_item(d, cursor, layer->offset, bytes))
        return bad_entry(path, "expert layer", i, "its place in the file is impossible");
    return SLUICE_OK;
}

static enum sluice_status check_layers(const struct container_directory *d, const char *path, uint64_t *cursor)
{
    uint64_t expert_count = 0;
    for (uint32_t i = 0; i < d->header.layer_count; i++) {
        enum sluice_status status = check_layer(d, path, i, cursor);
        if (status < 0)
            return status;
        expert_count += d->layers[i].expert_count;
    }
    if (expert_count != d->header.expert_count)
        return error_set(SLUICE_ERR_FORMAT, "%s: the layers have %" PRIu64 " experts, the header says %" PRIu64, path,
                         expert_count, d->header.expert_count);
    return SLUICE_OK;
}

enum sluice_status container_directory_check(const struct container_directory *directory, const char *path)
{
    enum sluice_status status;
    const struct container_disk_header *header = &directory->header;
    uint64_t cursor = header->documents_offset;
    TRY(check_types(directory, path));
    TRY(check_documents(directory, path, &cursor));
    bool agrees = cursor == header->tensors_offset;
    TRY(check_tensors(directory, path, &cursor));
    agrees = agrees && cursor == header->experts_offset;
    TRY(check_layers(directory, path, &cursor));
    if (!agrees || cursor != header->file_bytes)
        return error_set(SLUICE_ERR_FORMAT, "%s: the sections do not follow each other as the header says", path);
    return SLUICE_OK;
fail:
    return status;
}
