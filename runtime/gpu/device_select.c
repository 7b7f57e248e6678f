// The Vulkan instance, the list of devices and the choice among them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/gpu/gpu_internal.h"

static bool has_instance_extension(const char *name)
{
    VkExtensionProperties present[64]; // a longer list is cut: names for tools are not worth an allocation
    uint32_t count = sizeof present / sizeof present[0];
    if (vkEnumerateInstanceExtensionProperties(NULL, &count, present) < 0)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(present[i].extensionName, name) == 0)
            return true;
    return false;
}

enum sluice_status instance_create(VkInstance *instance, bool *debug_names)
{
    const char *const debug_utils = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    *debug_names = has_instance_extension(debug_utils);
    // 1.2 is what we need; 1.3 here lets us use integer dot products where a driver has them as a core feature.
    VkApplicationInfo application = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .pEngineName = "Sluice", .apiVersion = VK_API_VERSION_1_3};
    VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pApplicationInfo = &application,
        .enabledExtensionCount = *debug_names ? 1 : 0,
        .ppEnabledExtensionNames = &debug_utils,
    };
    VkResult result = vkCreateInstance(&info, NULL, instance);
    if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
        return error_set(SLUICE_ERR_DEVICE, "no Vulkan driver found: install the one for your graphics card "
                                            "(Mesa's or the manufacturer's)");
    return result < 0 ? vk_error(NULL, result, "cannot start Vulkan") : SLUICE_OK;
}

// The driver's own start fails here, for want of memory as well.
static enum sluice_status listing_failed(VkResult result)
{
    enum sluice_status status = vk_error(NULL, result, "cannot list Vulkan devices");
    return error_set(status,
                     "%s; the driver does not start: see whether `vulkaninfo` works, and what `ulimit -v` allows",
                     error_message());
}

// Physical devices of an instance; *devices is released with mem_free.
static enum sluice_status enumerate(VkInstance instance, VkPhysicalDevice **devices, uint32_t *count)
{
    *count = 0;
    *devices = NULL;
    VkResult result = vkEnumeratePhysicalDevices(instance, count, NULL);
    if (result < 0)
        return listing_failed(result);
    *devices = mem_alloc(*count, sizeof **devices);
    if (!*devices)
        return SLUICE_ERR_MEMORY;
    result = vkEnumeratePhysicalDevices(instance, count, *devices);
    if (result < 0) {
        mem_free(*devices);
        *devices = NULL;
        return listing_failed(result);
    }
    return SLUICE_OK;
}

enum sluice_status gpu_device_list(gpu_device_visit *visit, void *user, unsigned *count)
{
    enum sluice_status status;
    VkInstance instance = VK_NULL_HANDLE;
    VkPhysicalDevice *devices = NULL;
    struct device_support support;
    bool debug_names;
    uint32_t found = 0;
    TRY(instance_create(&instance, &debug_names));
    TRY(enumerate(instance, &devices, &found));
    for (uint32_t i = 0; i < found; i++) {
        TRY(device_support_query(devices[i], &support));
        if (visit)
            visit(user, i, support.properties.deviceName, !support.missing[0], support.missing);
    }
    status = SLUICE_OK;
fail:
    mem_free(devices);
    vkDestroyInstance(instance, NULL);
    if (count)
        *count = status == SLUICE_OK ? found : 0;
    return status;
}

static unsigned type_rank(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return 4;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return 3;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return 2;
    default:
        return 1;
    }
}

// Whether the user's `name` means the device: its index, or part of its name.
static bool name_matches(const char *name, uint32_t index, const char *device_name)
{
    char *end;
    unsigned long number = strtoul(name, &end, 10);
    if (end != name && *end == '\0')
        return number == index;
    return strcasestr(device_name, name) != NULL;
}

static void describe(char *text, size_t capacity, uint32_t index, const struct device_support *support)
{
    size_t length = strlen(text);
    snprintf(text + length, capacity - length, "\n  %u: %.100s%s%.200s", index, support->properties.deviceName,
             support->missing[0] ? ", unusable: lacks " : "", support->missing);
}

static enum sluice_status none_chosen(const char *name, const char *found)
{
    if (!found[0])
        return error_set(SLUICE_ERR_DEVICE, "no Vulkan device found: is the graphics driver installed and /dev/dri "
                                            "accessible to this user?");
    if (name)
        return error_set(SLUICE_ERR_ARGUMENT, "no usable device matches '%s'; found:%s", name, found);
    return error_set(SLUICE_ERR_DEVICE, "no usable Vulkan device; found:%s", found);
}

enum sluice_status physical_device_select(VkInstance instance, const char *name, VkPhysicalDevice *physical,
                                          struct device_support *support)
{
    enum sluice_status status;
    VkPhysicalDevice *devices = NULL;
    uint32_t count = 0;
    unsigned best = 0;
    char found[ERROR_MESSAGE_BYTES / 2] = "";
    TRY(enumerate(instance, &devices, &count));
    for (uint32_t i = 0; i < count; i++) {
        TRY(device_support_query(devices[i], support));
        describe(found, sizeof found, i, support);
        unsigned rank = type_rank(support->properties.deviceType);
        bool wanted = !name || name_matches(name, i, support->properties.deviceName);
        if (wanted && !support->missing[0] && rank > best) {
            best = rank;
            *physical = devices[i];
        }
    }
    TRY(best ? device_support_query(*physical, support) : none_chosen(name, found));
    status = SLUICE_OK;
fail:
    mem_free(devices);
    return status;
}
