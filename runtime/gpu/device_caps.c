// What we need of a device, what we use where it is there, and what the driver reports.
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/integer.h"
#include "runtime/base/mem.h"
#include "runtime/gpu/gpu_internal.h"

// The features that the device is created with, if it has them. Kernels unpack 8- and 16-bit numbers from 32-bit words,
// so that they need no storage features; shaders/reflection.c refuses modules that need more than this.
static const struct feature {
    const char *name;
    size_t offset; // of the VkBool32 in struct device_features
    bool required;
} features[] = {
#define FEATURE(member, required)                                   \
    {                                                               \
#member, offsetof(struct device_features, member), required \
    }
    FEATURE(v12.timelineSemaphore, true),                                 // ticks
    FEATURE(core.features.shaderStorageBufferArrayDynamicIndexing, true), // experts in several slabs, one dispatch
    FEATURE(dot.shaderIntegerDotProduct, true),                           // 8-bit activations against quantised weights
    FEATURE(core.features.shaderInt64, false),                            // the same on software drivers
    FEATURE(v12.descriptorBindingStorageBufferUpdateAfterBind, false),    // other slabs in what is recorded
    FEATURE(v12.shaderFloat16, false),                                    // these six for matrix cores
    FEATURE(v12.vulkanMemoryModel, false),
    FEATURE(v12.vulkanMemoryModelDeviceScope, false), // of any atomic, once the memory model is on
    FEATURE(subgroup.subgroupSizeControl, false),
    FEATURE(subgroup.computeFullSubgroups, false),
    FEATURE(matrix.cooperativeMatrix, false),
#undef FEATURE
};

// Least limits that kernels and their tuning are written for.
enum { SHARED_BYTES_MIN = 32 << 10, GROUP_INVOCATIONS_MIN = 256 };

enum { FEATURE_COUNT = sizeof features / sizeof features[0] };

static const char *const extension_names[EXTENSION_COUNT] = {
    [EXTENSION_INTEGER_DOT_PRODUCT] = VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME,
    [EXTENSION_EXTERNAL_MEMORY_HOST] = VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME,
    [EXTENSION_MEMORY_BUDGET] = VK_EXT_MEMORY_BUDGET_EXTENSION_NAME,
    [EXTENSION_COOPERATIVE_MATRIX] = COOPERATIVE_MATRIX_EXTENSION_NAME,
};

const char *device_extension_name(enum device_extension extension)
{
    return extension_names[extension];
}

static void add_missing(struct device_support *support, const char *what)
{
    size_t length = strlen(support->missing);
    snprintf(support->missing + length, sizeof support->missing - length, "%s%s", length ? ", " : "", what);
}

// Optional structs are chained only where the device knows them.
static void features_chain(struct device_features *chain, const struct device_support *support)
{
    bool is_1_3 = support->properties.apiVersion >= VK_API_VERSION_1_3;
    *chain = (struct device_features){
        .core = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &chain->v11},
        .v11 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &chain->v12},
        .v12 =
            {
                .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
            },
        .dot = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES},
        .subgroup = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES},
        .matrix = {.sType = (VkStructureType)COOPERATIVE_MATRIX_FEATURES_TYPE},
    };
    void **tail = &chain->v12.pNext;
    if (is_1_3 || support->extensions[EXTENSION_INTEGER_DOT_PRODUCT]) {
        *tail = &chain->dot;
        tail = &chain->dot.pNext;
    }
    if (is_1_3) {
        *tail = &chain->subgroup;
        tail = &chain->subgroup.pNext;
    }
    if (support->extensions[EXTENSION_COOPERATIVE_MATRIX])
        *tail = &chain->matrix;
}

static VkBool32 *feature_flag(struct device_features *chain, const struct feature *feature)
{
    return (VkBool32 *)((char *)chain + feature->offset);
}

static void query_features(VkPhysicalDevice physical, struct device_support *support)
{
    struct device_features present;
    features_chain(&present, support);
    features_chain(&support->features, support);
    vkGetPhysicalDeviceFeatures2(physical, &present.core);
    for (size_t i = 0; i < FEATURE_COUNT; i++) {
        *feature_flag(&support->features, &features[i]) = *feature_flag(&present, &features[i]);
        if (!*feature_flag(&present, &features[i]) && features[i].required)
            add_missing(support, strrchr(features[i].name, '.') + 1);
    }
    support->features.v12.vulkanMemoryModel &= support->features.v12.vulkanMemoryModelDeviceScope;
    // A GPU's bindings are large enough for an array to hold all slabs, and some read such buffers more slowly.
    if (support->properties.deviceType != VK_PHYSICAL_DEVICE_TYPE_CPU)
        support->features.v12.descriptorBindingStorageBufferUpdateAfterBind = VK_FALSE;
}

static void check_limits(struct device_support *support)
{
    const VkPhysicalDeviceLimits *limits = &support->properties.limits;
    if (limits->maxComputeSharedMemorySize < SHARED_BYTES_MIN)
        add_missing(support, "32 KiB of shared memory");
    if (limits->maxComputeWorkGroupInvocations < GROUP_INVOCATIONS_MIN)
        add_missing(support, "workgroups of 256");
    if (limits->maxPerStageDescriptorStorageBuffers < SHADER_BUFFERS_MAX)
        add_missing(support, "24 storage buffers per kernel");
}

static enum sluice_status query_extensions(VkPhysicalDevice physical, struct device_support *support)
{
    uint32_t count = 0;
    vkEnumerateDeviceExtensionProperties(physical, NULL, &count, NULL);
    VkExtensionProperties *present = mem_alloc(count, sizeof *present);
    if (!present)
        return SLUICE_ERR_MEMORY;
    vkEnumerateDeviceExtensionProperties(physical, NULL, &count, present);
    for (uint32_t i = 0; i < count; i++)
        for (int e = 0; e < EXTENSION_COUNT; e++)
            if (strcmp(present[i].extensionName, extension_names[e]) == 0)
                support->extensions[e] = true;
    mem_free(present);
    return SLUICE_OK;
}

// The first family with compute: on AMD that is the graphics queue, which is the faster one for single streams.
static enum sluice_status query_queues(VkPhysicalDevice physical, struct device_support *support)
{
    uint32_t count = 0;
    vkGetPhysicalDeviceQueueFamilyProperties(physical, &count, NULL);
    VkQueueFamilyProperties *families = mem_alloc(count, sizeof *families);
    if (!families)
        return SLUICE_ERR_MEMORY;
    vkGetPhysicalDeviceQueueFamilyProperties(physical, &count, families);
    uint32_t family = 0;
    while (family < count && !(families[family].queueFlags & VK_QUEUE_COMPUTE_BIT))
        family++;
    support->queue_family = family;
    if (family < count)
        support->timestamp_bits = families[family].timestampValidBits;
    else
        add_missing(support, "a compute queue");
    mem_free(families);
    return SLUICE_OK;
}

enum sluice_status device_support_query(VkPhysicalDevice physical, struct device_support *support)
{
    enum sluice_status status;
    memset(support, 0, sizeof *support);
    vkGetPhysicalDeviceProperties(physical, &support->properties);
    if (support->properties.apiVersion < VK_API_VERSION_1_2) {
        add_missing(support, "Vulkan 1.2");
        return SLUICE_OK;
    }
    TRY(query_extensions(physical, support));
    TRY(query_queues(physical, support));
    query_features(physical, support);
    check_limits(support);
    return SLUICE_OK;
fail:
    return status;
}

struct device_properties {
    VkPhysicalDeviceProperties2 core;
    VkPhysicalDeviceVulkan11Properties v11;
    VkPhysicalDeviceVulkan12Properties v12;
    VkPhysicalDeviceVulkan13Properties v13;
    VkPhysicalDeviceExternalMemoryHostPropertiesEXT import;
    VkPhysicalDeviceSubgroupSizeControlProperties subgroup;
};

static void query_properties(struct device_properties *p, VkPhysicalDevice physical,
                             const struct device_support *support)
{
    *p = (struct device_properties){
        .core = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &p->v11},
        .v11 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES, .pNext = &p->v12},
        .v12 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES},
        .v13 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_PROPERTIES, .maxBufferSize = UINT64_MAX},
        .import = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT},
        .subgroup = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES},
    };
    void **tail = &p->v12.pNext;
    if (support->properties.apiVersion >= VK_API_VERSION_1_3) {
        *tail = &p->v13;
        p->v13.pNext = &p->subgroup;
        tail = &p->subgroup.pNext;
    }
    if (support->extensions[EXTENSION_EXTERNAL_MEMORY_HOST])
        *tail = &p->import;
    vkGetPhysicalDeviceProperties2(physical, &p->core);
}

// Whether the driver says that it can import host memory into a buffer for copies and for `usage`.
static bool import_works(VkPhysicalDevice physical, VkBufferUsageFlags usage)
{
    VkPhysicalDeviceExternalBufferInfo info = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_BUFFER_INFO,
        .usage = usage | VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT,
        .handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT,
    };
    VkExternalBufferProperties properties = {.sType = VK_STRUCTURE_TYPE_EXTERNAL_BUFFER_PROPERTIES};
    vkGetPhysicalDeviceExternalBufferProperties(physical, &info, &properties);
    return properties.externalMemoryProperties.externalMemoryFeatures & VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT;
}

static void fill_memory(struct gpu_caps *caps, VkPhysicalDevice physical, const struct device_support *support)
{
    VkPhysicalDeviceMemoryProperties memory;
    vkGetPhysicalDeviceMemoryProperties(physical, &memory);
    int type = memory_type_choose(&memory, GPU_MEMORY_DEVICE, UINT32_MAX);
    if (type >= 0)
        memory_heap_query(physical, support->extensions[EXTENSION_MEMORY_BUDGET], memory.memoryTypes[type].heapIndex,
                          &caps->device_local_bytes, &caps->device_budget_bytes);
}

// Kernels read 16 bytes at a time, so ranges start at multiples of 16 even where the driver would allow less.
static uint64_t buffer_alignment(const VkPhysicalDeviceLimits *limits)
{
    return limits->minStorageBufferOffsetAlignment > 16 ? limits->minStorageBufferOffsetAlignment : 16;
}

// Matrix cores need a subgroup size that we can rely on: the smallest, which is what Intel's drivers do them in.
static void fill_matrix_cores(struct gpu_caps *caps, VkInstance instance, VkPhysicalDevice physical,
                              const struct device_support *support, const struct device_properties *p)
{
    const struct device_features *f = &support->features;
    uint32_t size = p->subgroup.minSubgroupSize;
    bool sized = f->subgroup.subgroupSizeControl && f->subgroup.computeFullSubgroups &&
                 (p->subgroup.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT) && size > 0;
    if (!f->matrix.cooperativeMatrix || !f->v12.shaderFloat16 || !f->v12.vulkanMemoryModel || !sized)
        return;
    caps->matrix_shape = matrix_shape_query(instance, physical);
    caps->matrix_cores = caps->matrix_shape.m > 0;
    caps->matrix_subgroup_size = caps->matrix_cores ? size : 0;
}

void device_caps_fill(struct gpu_caps *caps, VkInstance instance, VkPhysicalDevice physical,
                      const struct device_support *support, const struct gpu_device_options *options)
{
    struct device_properties p;
    query_properties(&p, physical, support);
    const VkPhysicalDeviceLimits *limits = &p.core.properties.limits;
    snprintf(caps->device_name, sizeof caps->device_name, "%s", p.core.properties.deviceName);
    snprintf(caps->driver_name, sizeof caps->driver_name, "%.100s %.100s", p.v12.driverName, p.v12.driverInfo);
    memcpy(caps->device_uuid, p.v11.deviceUUID, sizeof caps->device_uuid);
    memcpy(caps->driver_uuid, p.v11.driverUUID, sizeof caps->driver_uuid);
    caps->driver_version = p.core.properties.driverVersion;
    caps->is_software = p.core.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
    caps->integrated = p.core.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU || caps->is_software;
    caps->has_int64 = support->features.core.features.shaderInt64;
    caps->updates_arrays =
        support->features.v12.descriptorBindingStorageBufferUpdateAfterBind && !options->no_array_updates;
    caps->can_import =
        support->extensions[EXTENSION_EXTERNAL_MEMORY_HOST] && !options->no_import && import_works(physical, 0);
    caps->can_bind_imports = caps->can_import && import_works(physical, VK_BUFFER_USAGE_STORAGE_BUFFER_BIT);
    caps->import_alignment = caps->can_import ? p.import.minImportedHostPointerAlignment : 0;
    caps->buffer_alignment = buffer_alignment(limits);
    caps->import_max_bytes = u64_min(p.v11.maxMemoryAllocationSize, p.v13.maxBufferSize);
    caps->max_buffer_bytes = u64_min(caps->import_max_bytes, limits->maxStorageBufferRange);
    if (options->max_buffer_bytes)
        caps->max_buffer_bytes = u64_min(caps->max_buffer_bytes, options->max_buffer_bytes);
    caps->max_buffer_bytes -= caps->max_buffer_bytes % caps->buffer_alignment;
    caps->shared_bytes = limits->maxComputeSharedMemorySize;
    caps->subgroup_size = p.v11.subgroupSize;
    caps->max_groups_x = limits->maxComputeWorkGroupCount[0];
    caps->max_groups_y = limits->maxComputeWorkGroupCount[1];
    caps->max_groups_z = limits->maxComputeWorkGroupCount[2];
    caps->max_invocations = limits->maxComputeWorkGroupInvocations;
    fill_memory(caps, physical, support);
    fill_matrix_cores(caps, instance, physical, support, &p);
}
