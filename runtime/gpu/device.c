#include "runtime/gpu/device.h"

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/gpu/gpu_internal.h"

void device_name_object(struct gpu_device *device, VkObjectType type, uint64_t handle, const char *name)
{
    if (!device->set_name)
        return;
    VkDebugUtilsObjectNameInfoEXT info = {.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_OBJECT_NAME_INFO_EXT,
                                          .objectType = type,
                                          .objectHandle = handle,
                                          .pObjectName = name};
    device->set_name(device->handle, &info); // a failure costs the name only
}

static enum sluice_status create_handle(struct gpu_device *device, const struct device_support *support)
{
    const char *extensions[EXTENSION_COUNT];
    uint32_t extension_count = 0;
    for (enum device_extension e = 0; e < EXTENSION_COUNT; e++)
        if (support->extensions[e])
            extensions[extension_count++] = device_extension_name(e);
    const float priority = 1.0f;
    VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                     .queueFamilyIndex = support->queue_family,
                                     .queueCount = 1,
                                     .pQueuePriorities = &priority};
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &support->features.core,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
        .enabledExtensionCount = extension_count,
        .ppEnabledExtensionNames = extensions,
    };
    VkResult result = vkCreateDevice(device->physical, &info, NULL, &device->handle);
    if (result < 0)
        return vk_error(NULL, result, "%s: cannot open the device", support->properties.deviceName);
    device->queue_family = support->queue_family;
    vkGetDeviceQueue(device->handle, device->queue_family, 0, &device->queue);
    return SLUICE_OK;
}

static void load_functions(struct gpu_device *device, bool debug_names)
{
    if (device->caps.can_import)
        device->host_pointer_properties = (PFN_vkGetMemoryHostPointerPropertiesEXT)vkGetDeviceProcAddr(
            device->handle, "vkGetMemoryHostPointerPropertiesEXT");
    if (debug_names)
        device->set_name =
            (PFN_vkSetDebugUtilsObjectNameEXT)vkGetInstanceProcAddr(device->instance, "vkSetDebugUtilsObjectNameEXT");
}

static enum sluice_status create_timeline(struct gpu_device *device)
{
    VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                      .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    VkSemaphoreCreateInfo semaphore = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
    VkResult result = vkCreateSemaphore(device->handle, &semaphore, NULL, &device->timeline);
    if (result < 0)
        return vk_error(device, result, "cannot create the timeline semaphore");
    return SLUICE_OK;
}

enum sluice_status gpu_device_create(const struct gpu_device_options *options, struct gpu_device **out)
{
    enum sluice_status status;
    const struct gpu_device_options defaults = {0};
    struct device_support support;
    bool debug_names = false;
    options = options ? options : &defaults;
    *out = NULL;
    struct gpu_device *device = mem_alloc(1, sizeof *device);
    if (!device)
        return SLUICE_ERR_MEMORY;
    TRY(instance_create(&device->instance, &debug_names));
    TRY(physical_device_select(device->instance, options->name, &device->physical, &support));
    vkGetPhysicalDeviceMemoryProperties(device->physical, &device->memory);
    device->has_budget = support.extensions[EXTENSION_MEMORY_BUDGET];
    device_caps_fill(&device->caps, device->instance, device->physical, &support, options);
    timers_init(&device->timers, &support, options->timestamps);
    device->buffers_left = options->fail_buffer_at;
    TRY(create_handle(device, &support));
    load_functions(device, debug_names);
    TRY(create_timeline(device));
    TRY(pipeline_cache_create(device, options->cache_folder));
    *out = device;
    return SLUICE_OK;
fail:
    gpu_device_destroy(device);
    return status;
}

static void destroy_handle(struct gpu_device *device)
{
    if (device->tick_last > 0)
        vkDeviceWaitIdle(device->handle); // when the device is lost there is nothing to wait for
    commands_destroy(device);
    replay_finish(device);
    recordings_finish(device);
    set_cache_finish(device);
    kernels_destroy(device);
    for (int i = 0; i <= SHADER_BUFFERS_MAX; i++)
        vkDestroyDescriptorSetLayout(device->handle, device->set_layouts[i], NULL);
    pipeline_cache_destroy(device);
    vkDestroySemaphore(device->handle, device->timeline, NULL);
    vkDestroyDevice(device->handle, NULL);
}

void gpu_device_destroy(struct gpu_device *device)
{
    if (!device)
        return;
    CHECK(device->buffer_count == 0);
    if (device->handle)
        destroy_handle(device);
    timers_finish(&device->timers);
    mem_free(device->cache_folder);
    if (device->instance)
        vkDestroyInstance(device->instance, NULL);
    mem_free(device);
}

const struct gpu_caps *gpu_device_caps(const struct gpu_device *device)
{
    return &device->caps;
}

struct gpu_usage gpu_device_usage(const struct gpu_device *device)
{
    return device->usage;
}

void gpu_usage_forget_peaks(struct gpu_device *device)
{
    device->usage.device_bytes_max = device->usage.device_bytes;
    device->usage.host_bytes_max = device->usage.host_bytes;
}

uint64_t gpu_tick_last(const struct gpu_device *device)
{
    return device->tick_last;
}

uint64_t gpu_tick_done(struct gpu_device *device)
{
    uint64_t value = 0;
    if (device->tick_done == device->tick_last)
        return device->tick_done;
    VkResult result = vkGetSemaphoreCounterValue(device->handle, device->timeline, &value);
    if (result < 0)
        vk_error(device, result, "cannot read the timeline");
    else if (value > device->tick_done)
        device->tick_done = value;
    return device->tick_done;
}

bool tick_is_past(struct gpu_device *device, uint64_t tick)
{
    return device->lost || tick > device->tick_last || tick <= device->tick_done || tick <= gpu_tick_done(device);
}

// Polling saves the wake-up (20-60 us on desktop drivers), which matters for the short submissions of decode; a
// software device needs the processor itself.
static bool poll_tick(struct gpu_device *device, uint64_t tick)
{
    enum { POLL_NS = 200000 };
    if (gpu_tick_done(device) >= tick)
        return true;
    uint64_t start_ns = clock_ns();
    while (!device->caps.is_software && !device->lost && clock_ns() - start_ns < POLL_NS)
        if (gpu_tick_done(device) >= tick)
            return true;
    return false;
}

static enum sluice_status wait_tick(struct gpu_device *device, uint64_t tick)
{
    VkSemaphoreWaitInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                                .semaphoreCount = 1,
                                .pSemaphores = &device->timeline,
                                .pValues = &tick};
    VkResult result;
    do // some drivers cut the longest timeout short
        result = vkWaitSemaphores(device->handle, &info, UINT64_MAX);
    while (result == VK_TIMEOUT);
    if (result < 0)
        return vk_error(device, result, "%s: waiting for submission %llu", device->caps.device_name,
                        (unsigned long long)tick);
    if (tick > device->tick_done)
        device->tick_done = tick;
    return SLUICE_OK;
}

enum sluice_status gpu_wait(struct gpu_device *device, uint64_t tick)
{
    CHECK(tick <= device->tick_last);
    if (tick <= device->tick_done)
        return SLUICE_OK;
    uint64_t start_ns = clock_ns(), start_cpu_ns = clock_thread_cpu_ns();
    enum sluice_status status = poll_tick(device, tick) ? SLUICE_OK : wait_tick(device, tick);
    device->usage.wait_ns += clock_ns() - start_ns;
    device->usage.wait_cpu_ns += clock_thread_cpu_ns() - start_cpu_ns;
    return status;
}
