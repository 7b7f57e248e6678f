// A Vulkan layer that writes down the compute pipelines another program makes, in the form that shader_stats reads: so
// that the same compilers, options and method say what that program's kernels cost. peer.sh uses it on llama.cpp.
//
//   RECORDER_DIR   folder for list.txt and the modules; without it the layer does nothing
//
// A pipeline is written when it gets its name (vkSetDebugUtilsObjectNameEXT); those without one are left out. One
// device.
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

enum { LINE_BYTES = 4096, PATH_BYTES = 4096, NAME_BYTES = 256 };

// What was created, by handle. Both lists only grow: the program that is watched is a short one.
struct module {
    struct module *next;
    VkShaderModule handle;
    size_t bytes;
    uint32_t words[];
};
struct pipeline {
    struct pipeline *next;
    VkPipeline handle;
    const struct module *module;
    char constants[LINE_BYTES];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct module *modules;
static struct pipeline *pipelines;
static int written;

static PFN_vkGetInstanceProcAddr next_instance_function;
static PFN_vkGetDeviceProcAddr next_device_function;
static PFN_vkCreateShaderModule next_create_module;
static PFN_vkCreateComputePipelines next_create_pipelines;
static PFN_vkSetDebugUtilsObjectNameEXT next_set_name;

VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *negotiated);

// ---- the chain of layers

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info,
                                                      const VkAllocationCallbacks *allocator, VkInstance *instance)
{
    VkLayerInstanceCreateInfo *link = (void *)info->pNext;
    while (link &&
           (link->sType != VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO || link->function != VK_LAYER_LINK_INFO))
        link = (void *)link->pNext;
    if (!link)
        return VK_ERROR_INITIALIZATION_FAILED;
    next_instance_function = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    PFN_vkCreateInstance next = (PFN_vkCreateInstance)next_instance_function(NULL, "vkCreateInstance");
    return next(info, allocator, instance);
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                                                    const VkAllocationCallbacks *allocator, VkDevice *device)
{
    VkLayerDeviceCreateInfo *link = (void *)info->pNext;
    while (link && (link->sType != VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO || link->function != VK_LAYER_LINK_INFO))
        link = (void *)link->pNext;
    if (!link)
        return VK_ERROR_INITIALIZATION_FAILED;
    PFN_vkGetInstanceProcAddr get = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    next_device_function = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    VkResult result = ((PFN_vkCreateDevice)get(NULL, "vkCreateDevice"))(physical, info, allocator, device);
    if (result != VK_SUCCESS)
        return result;
    next_create_module = (PFN_vkCreateShaderModule)next_device_function(*device, "vkCreateShaderModule");
    next_create_pipelines = (PFN_vkCreateComputePipelines)next_device_function(*device, "vkCreateComputePipelines");
    next_set_name = (PFN_vkSetDebugUtilsObjectNameEXT)next_device_function(*device, "vkSetDebugUtilsObjectNameEXT");
    return result;
}

// ---- what is recorded

static VKAPI_ATTR VkResult VKAPI_CALL create_module(VkDevice device, const VkShaderModuleCreateInfo *info,
                                                    const VkAllocationCallbacks *allocator, VkShaderModule *handle)
{
    VkResult result = next_create_module(device, info, allocator, handle);
    struct module *m = result == VK_SUCCESS ? malloc(sizeof *m + info->codeSize) : NULL;
    if (!m)
        return result;
    m->handle = *handle;
    m->bytes = info->codeSize;
    memcpy(m->words, info->pCode, info->codeSize);
    pthread_mutex_lock(&lock);
    m->next = modules; // the newest first: handles are used again
    modules = m;
    pthread_mutex_unlock(&lock);
    return result;
}

static void add_word(char line[static LINE_BYTES], const char *format, uint32_t a, uint32_t b)
{
    size_t used = strlen(line);
    snprintf(line + used, LINE_BYTES - used, format, a, b);
}

// The stage's constants, subgroup size and flags in the words of the list.
static void describe_stage(const VkPipelineShaderStageCreateInfo *stage, char line[static LINE_BYTES])
{
    const VkSpecializationInfo *constants = stage->pSpecializationInfo;
    for (uint32_t i = 0; constants && i < constants->mapEntryCount; i++) {
        const VkSpecializationMapEntry *entry = &constants->pMapEntries[i];
        uint32_t value = 0;
        memcpy(&value, (const char *)constants->pData + entry->offset,
               entry->size < sizeof value ? entry->size : sizeof value);
        add_word(line, " %" PRIu32 "=%" PRIu32, entry->constantID, value);
    }
    for (const VkBaseInStructure *s = stage->pNext; s; s = s->pNext)
        if (s->sType == VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO)
            add_word(
                line, " subgroup=%" PRIu32,
                ((const VkPipelineShaderStageRequiredSubgroupSizeCreateInfo *)(const void *)s)->requiredSubgroupSize,
                0);
    if (stage->flags & VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT)
        add_word(line, " full-subgroups", 0, 0);
}

static void record_pipeline(const VkComputePipelineCreateInfo *info, VkPipeline handle)
{
    struct pipeline *p = calloc(1, sizeof *p);
    if (!p)
        return;
    p->handle = handle;
    describe_stage(&info->stage, p->constants);
    pthread_mutex_lock(&lock);
    const struct module *m = modules;
    while (m && m->handle != info->stage.module)
        m = m->next;
    p->module = m;
    p->next = pipelines;
    pipelines = p;
    pthread_mutex_unlock(&lock);
}

static VKAPI_ATTR VkResult VKAPI_CALL create_pipelines(VkDevice device, VkPipelineCache cache, uint32_t count,
                                                       const VkComputePipelineCreateInfo *infos,
                                                       const VkAllocationCallbacks *allocator, VkPipeline *handles)
{
    VkResult result = next_create_pipelines(device, cache, count, infos, allocator, handles);
    for (uint32_t i = 0; result == VK_SUCCESS && i < count; i++)
        record_pipeline(&infos[i], handles[i]);
    return result;
}

static bool write_file(const char *folder, const char *name, const char *mode, const void *data, size_t bytes)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, mode);
    bool ok = f && fwrite(data, 1, bytes, f) == bytes;
    if (f && fclose(f) != 0)
        ok = false;
    if (!ok)
        fprintf(stderr, "pipeline_recorder: cannot write %s\n", path);
    return ok;
}

static void write_pipeline(const struct pipeline *p, const char *name)
{
    char file[NAME_BYTES], line[LINE_BYTES + 2 * NAME_BYTES];
    const char *folder = getenv("RECORDER_DIR");
    if (!folder || !p->module)
        return;
    snprintf(file, sizeof file, "%d-%d.spv", (int)getpid(), written++);
    int length = snprintf(line, sizeof line, "%.200s %s%s\n", name, file, p->constants);
    if (write_file(folder, file, "wb", p->module->words, p->module->bytes))
        write_file(folder, "list.txt", "a", line, (size_t)length);
}

static VKAPI_ATTR VkResult VKAPI_CALL set_name(VkDevice device, const VkDebugUtilsObjectNameInfoEXT *info)
{
    if (info->objectType == VK_OBJECT_TYPE_PIPELINE && info->pObjectName) {
        pthread_mutex_lock(&lock);
        const struct pipeline *p = pipelines;
        while (p && (uint64_t)p->handle != info->objectHandle)
            p = p->next;
        if (p)
            write_pipeline(p, info->pObjectName);
        pthread_mutex_unlock(&lock);
    }
    return next_set_name ? next_set_name(device, info) : VK_SUCCESS;
}

// ---- the functions that the loader asks for

static PFN_vkVoidFunction own_function(const char *name)
{
    static const struct {
        const char *name;
        PFN_vkVoidFunction function;
    } own[] = {
        {"vkCreateInstance", (PFN_vkVoidFunction)create_instance},
        {"vkCreateDevice", (PFN_vkVoidFunction)create_device},
        {"vkCreateShaderModule", (PFN_vkVoidFunction)create_module},
        {"vkCreateComputePipelines", (PFN_vkVoidFunction)create_pipelines},
        {"vkSetDebugUtilsObjectNameEXT", (PFN_vkVoidFunction)set_name},
    };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strcmp(own[i].name, name) == 0)
            return own[i].function;
    return NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_function(VkDevice device, const char *name)
{
    PFN_vkVoidFunction own = own_function(name);
    return own ? own : next_device_function(device, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_function(VkInstance instance, const char *name)
{
    PFN_vkVoidFunction own = own_function(name);
    if (strcmp(name, "vkGetDeviceProcAddr") == 0)
        return (PFN_vkVoidFunction)device_function;
    if (strcmp(name, "vkGetInstanceProcAddr") == 0)
        return (PFN_vkVoidFunction)instance_function;
    if (own)
        return own;
    return next_instance_function ? next_instance_function(instance, name) : NULL;
}

VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *negotiated)
{
    negotiated->loaderLayerInterfaceVersion = 2;
    negotiated->pfnGetInstanceProcAddr = instance_function;
    negotiated->pfnGetDeviceProcAddr = device_function;
    negotiated->pfnGetPhysicalDeviceProcAddr = NULL;
    return VK_SUCCESS;
}
