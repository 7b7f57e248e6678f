#include "offload/container_plan.h"

#include <inttypes.h>
#include <string.h>

#include <xxhash.h>

#include "runtime/base/check.h"
#include "runtime/base/integer.h"
#include "runtime/base/mem.h"

// Where the next name and the next item go.
struct layout {
    struct container_directory *directory;
    uint64_t string_bytes;
    uint64_t offset; // in the file; saturates at a value that no file reaches
};

static struct container_disk_name place_name(struct layout *layout, const char *name)
{
    size_t bytes = strlen(name);
    struct container_disk_name placed = {.offset = (uint32_t)layout->string_bytes, .bytes = (uint32_t)bytes};
    memcpy(layout->directory->strings + layout->string_bytes, name, bytes + 1);
    layout->string_bytes += bytes + 1;
    return placed;
}

static uint64_t place_item(struct layout *layout, uint64_t bytes)
{
    uint64_t offset = layout->offset;
    layout->offset = u64_add(offset, container_padded_bytes(bytes));
    return offset;
}

static uint64_t plan_string_bytes(const struct container_plan *plan)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < plan->type_count; i++)
        bytes += strlen(plan->types[i].name) + 1;
    for (uint32_t i = 0; i < plan->document_count; i++)
        bytes += strlen(plan->documents[i].name) + 1;
    for (uint32_t i = 0; i < plan->tensor_count; i++)
        bytes += strlen(plan->tensors[i].name) + 1;
    return bytes;
}

static uint64_t plan_expert_count(const struct container_plan *plan)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < plan->layer_count; i++)
        count += plan->layers[i].expert_count;
    return count;
}

static void place_documents(struct layout *layout, const struct container_plan *plan)
{
    for (uint32_t i = 0; i < plan->document_count; i++) {
        const struct container_plan_document *document = &plan->documents[i];
        layout->directory->documents[i] = (struct container_disk_document){
            .name = place_name(layout, document->name),
            .offset = place_item(layout, document->bytes),
            .bytes = document->bytes,
        };
    }
}

static void place_tensors(struct layout *layout, const struct container_plan *plan)
{
    for (uint32_t i = 0; i < plan->tensor_count; i++) {
        const struct container_plan_tensor *tensor = &plan->tensors[i];
        layout->directory->tensors[i] = (struct container_disk_tensor){
            .name = place_name(layout, tensor->name),
            .type_id = tensor->type_id,
            .layout = (uint32_t)tensor->layout,
            .rows = tensor->rows,
            .cols = tensor->cols,
            .offset = place_item(layout, tensor->bytes),
            .bytes = tensor->bytes,
        };
    }
}

static void place_layers(struct layout *layout, const struct container_plan *plan)
{
    for (uint32_t i = 0; i < plan->layer_count; i++) {
        const struct container_plan_experts *layer = &plan->layers[i];
        uint64_t bytes;
        if (__builtin_mul_overflow(layer->record_bytes, layer->expert_count, &bytes))
            bytes = UINT64_MAX;
        layout->directory->layers[i] = (struct container_disk_layer){
            .layer = layer->layer,
            .expert_count = layer->expert_count,
            .gate_up_type_id = layer->gate_up_type_id,
            .down_type_id = layer->down_type_id,
            .hidden = layer->hidden,
            .intermediate = layer->intermediate,
            .down_offset = layer->down_offset,
            .record_bytes = layer->record_bytes,
            .offset = place_item(layout, bytes),
        };
    }
}

// The one thing that container_directory_check leaves to others: the reader finds repeated names while it sorts them.
static enum sluice_status check_unique_tensors(const struct container_plan *plan)
{
    uint64_t entries = 64;
    while (entries < 2 * (uint64_t)plan->tensor_count)
        entries *= 2;
    uint32_t *set = mem_alloc(entries, sizeof *set); // index + 1, open addressing
    if (!set)
        return SLUICE_ERR_MEMORY;
    enum sluice_status status = SLUICE_OK;
    for (uint32_t i = 0; i < plan->tensor_count; i++) {
        const char *name = plan->tensors[i].name;
        uint64_t at = XXH3_64bits(name, strlen(name)) & (entries - 1);
        for (; set[at] != 0; at = (at + 1) & (entries - 1))
            if (strcmp(plan->tensors[set[at] - 1].name, name) == 0)
                status = error_set(SLUICE_ERR_ARGUMENT, "container plan: there are two tensors '%s'", name);
        set[at] = i + 1;
    }
    mem_free(set);
    return status;
}

static void place_everything(struct layout *layout, const struct container_plan *plan)
{
    struct container_directory *directory = layout->directory;
    for (uint32_t i = 0; i < plan->type_count; i++)
        directory->types[i] = (struct container_disk_type){
            .id = plan->types[i].id,
            .name = place_name(layout, plan->types[i].name),
        };
    place_documents(layout, plan);
    directory->header.tensors_offset = layout->offset;
    place_tensors(layout, plan);
    directory->header.experts_offset = layout->offset;
    place_layers(layout, plan);
    directory->header.file_bytes = layout->offset;
    CHECK(layout->string_bytes == directory->header.string_bytes);
}

static void fill_header(struct container_disk_header *header, const struct container_plan *plan,
                        const uint8_t fingerprint[16])
{
    *header = (struct container_disk_header){
        .version = CONTAINER_VERSION,
        .header_bytes = CONTAINER_HEADER_BYTES,
        .directory_offset = CONTAINER_HEADER_BYTES,
        .type_count = plan->type_count,
        .document_count = plan->document_count,
        .tensor_count = plan->tensor_count,
        .layer_count = plan->layer_count,
        .expert_count = plan_expert_count(plan),
        .string_bytes = plan_string_bytes(plan),
    };
    memcpy(header->magic, CONTAINER_MAGIC, sizeof header->magic);
    memcpy(header->fingerprint, fingerprint, sizeof header->fingerprint);
}

enum sluice_status container_plan_directory(const struct container_plan *plan, const uint8_t fingerprint[16],
                                            struct container_directory *directory)
{
    struct container_disk_header *header = &directory->header;
    enum sluice_status status;
    memset(directory, 0, sizeof *directory);
    fill_header(header, plan, fingerprint);
    if (!container_directory_size(header, &header->directory_bytes))
        return error_set(SLUICE_ERR_ARGUMENT, "container plan: the directory would be larger than %d MiB",
                         CONTAINER_DIRECTORY_BYTES_MAX >> 20);
    header->documents_offset = CONTAINER_HEADER_BYTES + container_padded_bytes(header->directory_bytes);
    TRY(check_unique_tensors(plan));
    TRY(container_directory_alloc(directory));
    place_everything(&(struct layout){.directory = directory, .offset = header->documents_offset}, plan);
    if (header->file_bytes > INT64_MAX)
        TRY(error_set(SLUICE_ERR_ARGUMENT, "container plan: the file would be too large"));
    if (container_directory_check(directory, "container plan") < 0)
        TRY(SLUICE_ERR_ARGUMENT); // with the message of the check
    for (uint32_t i = 0; i < plan->document_count; i++)
        container_hash_padded(plan->documents[i].text, plan->documents[i].bytes, directory->documents[i].xxh3);
    return SLUICE_OK;
fail:
    container_directory_free(directory);
    return status;
}

enum sluice_status container_plan_bytes(const struct container_plan *plan, uint64_t *bytes)
{
    static const uint8_t no_fingerprint[16];
    struct container_directory directory;
    enum sluice_status status = container_plan_directory(plan, no_fingerprint, &directory);
    if (status < 0)
        return status;
    *bytes = directory.header.file_bytes;
    container_directory_free(&directory);
    return SLUICE_OK;
}
