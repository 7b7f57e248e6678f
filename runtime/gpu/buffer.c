#include "runtime/gpu/buffer.h"

#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/gpu/gpu_internal.h"

static double mebibytes(uint64_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0);
}

// Adds a buffer's bytes to the usage of its kind of memory, or takes them away.
static void count_usage(struct gpu_buffer *buffer, bool add)
{
    struct gpu_usage *usage = &buffer->device->usage;
    bool on_device = buffer->kind == GPU_MEMORY_DEVICE;
    uint64_t *bytes = on_device ? &usage->device_bytes : &usage->host_bytes;
    uint64_t *max = on_device ? &usage->device_bytes_max : &usage->host_bytes_max;
    *bytes = add ? *bytes + buffer->bytes : *bytes - buffer->bytes;
    *max = *bytes > *max ? *bytes : *max;
    buffer->counted = add;
}

static struct gpu_buffer *buffer_new(struct gpu_device *device, enum gpu_memory kind, uint64_t bytes, const char *label)
{
    struct gpu_buffer *buffer = mem_alloc(1, sizeof *buffer);
    if (!buffer)
        return NULL;
    buffer->device = device;
    buffer->kind = kind;
    buffer->bytes = bytes;
    snprintf(buffer->label, sizeof buffer->label, "%s", label ? label : "unnamed");
    device->buffer_count++;
    return buffer;
}

static enum sluice_status create_handle(struct gpu_buffer *buffer, VkBufferUsageFlags usage, const void *next)
{
    VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                               .pNext = next,
                               .size = buffer->bytes,
                               .usage = usage | VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT};
    VkResult result = vkCreateBuffer(buffer->device->handle, &info, NULL, &buffer->handle);
    if (result < 0)
        return vk_error(buffer->device, result, "cannot create buffer '%s' of %.1f MiB", buffer->label,
                        mebibytes(buffer->bytes));
    device_name_object(buffer->device, VK_OBJECT_TYPE_BUFFER, (uint64_t)buffer->handle, buffer->label);
    return SLUICE_OK;
}

static enum sluice_status allocation_failed(struct gpu_buffer *buffer, VkResult result, uint32_t heap)
{
    struct gpu_device *device = buffer->device;
    uint64_t heap_bytes, free_bytes;
    if (result != VK_ERROR_OUT_OF_DEVICE_MEMORY && result != VK_ERROR_OUT_OF_HOST_MEMORY)
        return vk_error(device, result, "cannot allocate memory for buffer '%s'", buffer->label);
    memory_heap_query(device->physical, device->has_budget, heap, &heap_bytes, &free_bytes);
    return error_set(SLUICE_ERR_DEVICE_MEMORY,
                     "%s: out of %s memory: buffer '%s' needs %.1f MiB, %.1f of %.1f MiB are %s; "
                     "close other programs that use the card, or choose a smaller budget or context",
                     device->caps.device_name, buffer->kind == GPU_MEMORY_DEVICE ? "device" : "host-visible",
                     buffer->label, mebibytes(buffer->bytes), mebibytes(free_bytes), mebibytes(heap_bytes),
                     device->has_budget ? "free" : "installed");
}

// Whether a test wants this allocation to fail.
static bool fails_on_purpose(struct gpu_device *device)
{
    return device->buffers_left > 0 && --device->buffers_left == 0;
}

static enum sluice_status allocate(struct gpu_buffer *buffer)
{
    struct gpu_device *device = buffer->device;
    VkMemoryRequirements needed;
    vkGetBufferMemoryRequirements(device->handle, buffer->handle, &needed);
    int type = memory_type_choose(&device->memory, buffer->kind, needed.memoryTypeBits);
    if (type < 0)
        return error_set(SLUICE_ERR_DEVICE, "%s: no memory type for buffer '%s'", device->caps.device_name,
                         buffer->label);
    VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                 .allocationSize = needed.size,
                                 .memoryTypeIndex = (uint32_t)type};
    VkResult result = fails_on_purpose(device) ? VK_ERROR_OUT_OF_DEVICE_MEMORY
                                               : vkAllocateMemory(device->handle, &info, NULL, &buffer->memory);
    return result < 0 ? allocation_failed(buffer, result, device->memory.memoryTypes[type].heapIndex) : SLUICE_OK;
}

static enum sluice_status bind_and_map(struct gpu_buffer *buffer)
{
    struct gpu_device *device = buffer->device;
    VkResult result = vkBindBufferMemory(device->handle, buffer->handle, buffer->memory, 0);
    if (result >= 0 && buffer->kind != GPU_MEMORY_DEVICE)
        result = vkMapMemory(device->handle, buffer->memory, 0, VK_WHOLE_SIZE, 0, &buffer->map);
    return result < 0 ? vk_error(device, result, "cannot map buffer '%s'", buffer->label) : SLUICE_OK;
}

enum sluice_status gpu_buffer_create(struct gpu_device *device, enum gpu_memory memory, uint64_t bytes,
                                     const char *label, struct gpu_buffer **out)
{
    enum sluice_status status;
    *out = NULL;
    CHECK(bytes > 0);
    if (bytes > device->caps.max_buffer_bytes)
        return error_set(SLUICE_ERR_ARGUMENT, "buffer '%s' of %llu bytes is too large: %s allows %llu bytes per buffer",
                         label ? label : "unnamed", (unsigned long long)bytes, device->caps.device_name,
                         (unsigned long long)device->caps.max_buffer_bytes);
    struct gpu_buffer *buffer = buffer_new(device, memory, bytes, label);
    if (!buffer)
        return SLUICE_ERR_MEMORY;
    TRY(create_handle(buffer, VK_BUFFER_USAGE_STORAGE_BUFFER_BIT, NULL));
    TRY(allocate(buffer));
    TRY(bind_and_map(buffer));
    count_usage(buffer, true);
    *out = buffer;
    return SLUICE_OK;
fail:
    gpu_buffer_destroy(buffer);
    return status;
}

static enum sluice_status import_refused(const struct gpu_buffer *buffer, const char *reason)
{
    return error_set(SLUICE_ERR_UNSUPPORTED, "%s cannot import '%s' (%.1f MiB of host memory): %s",
                     buffer->device->caps.device_name, buffer->label, mebibytes(buffer->bytes), reason);
}

// The host's pages are cached by the host: a memory type that says so fits them best where kernels work on them.
static int import_type(const struct gpu_buffer *buffer, uint32_t allowed_bits)
{
    enum gpu_memory wanted = buffer->copies_only ? GPU_MEMORY_UPLOAD : GPU_MEMORY_READBACK;
    return memory_type_choose(&buffer->device->memory, wanted, allowed_bits);
}

// Allocates "memory" that is the host's own pages.
static enum sluice_status import_memory(struct gpu_buffer *buffer, void *host)
{
    struct gpu_device *device = buffer->device;
    const VkExternalMemoryHandleTypeFlagBits handle_type = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT;
    VkMemoryHostPointerPropertiesEXT properties = {.sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
    VkResult result = device->host_pointer_properties(device->handle, handle_type, host, &properties);
    VkMemoryRequirements needed;
    vkGetBufferMemoryRequirements(device->handle, buffer->handle, &needed);
    int type = import_type(buffer, properties.memoryTypeBits & needed.memoryTypeBits);
    if (result < 0 || type < 0 || needed.size > buffer->bytes)
        return import_refused(buffer, result < 0 ? vk_result_text(result) : "no memory type for it");
    VkImportMemoryHostPointerInfoEXT import = {.sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
                                               .handleType = handle_type,
                                               .pHostPointer = host};
    VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                 .pNext = &import,
                                 .allocationSize = buffer->bytes,
                                 .memoryTypeIndex = (uint32_t)type};
    result = fails_on_purpose(device) ? VK_ERROR_OUT_OF_DEVICE_MEMORY
                                      : vkAllocateMemory(device->handle, &info, NULL, &buffer->memory);
    if (result >= 0)
        result = vkBindBufferMemory(device->handle, buffer->handle, buffer->memory, 0);
    return result < 0 ? import_refused(buffer, vk_result_text(result)) : SLUICE_OK;
}

static bool can_import(const struct gpu_device *device, enum gpu_memory memory, const void *host, uint64_t bytes)
{
    const struct gpu_caps *caps = &device->caps;
    if (!device->host_pointer_properties || bytes > caps->import_max_bytes ||
        (uintptr_t)host % caps->import_alignment != 0 || bytes % caps->import_alignment != 0)
        return false;
    return memory == GPU_MEMORY_UPLOAD || (caps->can_bind_imports && bytes <= caps->max_buffer_bytes);
}

enum sluice_status gpu_buffer_import(struct gpu_device *device, enum gpu_memory memory, void *host, uint64_t bytes,
                                     const char *label, struct gpu_buffer **out)
{
    enum sluice_status status;
    *out = NULL;
    CHECK(host && bytes > 0 && memory != GPU_MEMORY_READBACK);
    if (!can_import(device, memory, host, bytes))
        return error_set(SLUICE_ERR_UNSUPPORTED, "%s cannot import %.1f MiB of host memory", device->caps.device_name,
                         mebibytes(bytes));
    struct gpu_buffer *buffer = buffer_new(device, memory, bytes, label);
    if (!buffer)
        return SLUICE_ERR_MEMORY;
    buffer->copies_only = memory == GPU_MEMORY_UPLOAD;
    VkExternalMemoryBufferCreateInfo external = {.sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
                                                 .handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT};
    TRY(create_handle(buffer, buffer->copies_only ? 0 : VK_BUFFER_USAGE_STORAGE_BUFFER_BIT, &external));
    TRY(import_memory(buffer, host));
    buffer->map = host;
    if (!buffer->copies_only)
        count_usage(buffer, true);
    *out = buffer;
    return SLUICE_OK;
fail:
    gpu_buffer_destroy(buffer);
    return status;
}

// Nothing that will be submitted names it from now on.
static void forget(const struct gpu_buffer *buffer)
{
    struct gpu_device *device = buffer->device;
    CHECK(!commands_name(device, buffer));
    replay_forget(device, buffer);
    set_cache_forget(device, buffer);
}

void gpu_buffer_destroy(struct gpu_buffer *buffer)
{
    if (!buffer)
        return;
    VkDevice handle = buffer->device->handle;
    if (buffer->is_named)
        forget(buffer);
    if (buffer->counted)
        count_usage(buffer, false);
    vkDestroyBuffer(handle, buffer->handle, NULL);
    vkFreeMemory(handle, buffer->memory, NULL); // unmaps
    buffer->device->buffer_count--;
    mem_free(buffer);
}

uint64_t gpu_buffer_bytes(const struct gpu_buffer *buffer)
{
    return buffer->bytes;
}

void *gpu_buffer_map(const struct gpu_buffer *buffer)
{
    CHECK(buffer->map);
    return buffer->map;
}

struct gpu_range gpu_range_make(struct gpu_buffer *buffer, uint64_t offset, uint64_t bytes)
{
    CHECK(offset <= buffer->bytes && bytes <= buffer->bytes - offset);
    return (struct gpu_range){.buffer = buffer, .offset = offset, .bytes = bytes};
}

struct gpu_range gpu_range_all(struct gpu_buffer *buffer)
{
    return gpu_range_make(buffer, 0, buffer->bytes);
}

struct gpu_range gpu_range_part(struct gpu_range range, uint64_t offset, uint64_t bytes)
{
    CHECK(offset <= range.bytes && bytes <= range.bytes - offset);
    return (struct gpu_range){.buffer = range.buffer, .offset = range.offset + offset, .bytes = bytes};
}
