#include <stdarg.h>
#include <stdio.h>

#include "runtime/gpu/gpu_internal.h"

const char *vk_result_text(VkResult result)
{
    switch (result) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        return "out of host memory";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
        return "out of device memory";
    case VK_ERROR_INITIALIZATION_FAILED:
        return "initialization failed";
    case VK_ERROR_DEVICE_LOST:
        return "the device was lost (it hung, was reset or was removed)";
    case VK_ERROR_MEMORY_MAP_FAILED:
        return "mapping memory failed";
    case VK_ERROR_EXTENSION_NOT_PRESENT:
        return "extension not present";
    case VK_ERROR_FEATURE_NOT_PRESENT:
        return "feature not present";
    case VK_ERROR_INCOMPATIBLE_DRIVER:
        return "no compatible driver";
    case VK_ERROR_TOO_MANY_OBJECTS:
        return "too many objects";
    case VK_ERROR_INVALID_EXTERNAL_HANDLE:
        return "the driver refuses this kind of memory or handle";
    default:
        return "unexpected result";
    }
}

static enum sluice_status status_of(VkResult result)
{
    if (result == VK_ERROR_OUT_OF_HOST_MEMORY)
        return SLUICE_ERR_MEMORY;
    if (result == VK_ERROR_OUT_OF_DEVICE_MEMORY)
        return SLUICE_ERR_DEVICE_MEMORY;
    return SLUICE_ERR_DEVICE;
}

// What the user can do.
static const char *advice(VkResult result)
{
    switch (result) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        return "; close other programs";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
        return "; close other programs that use the card, or choose a smaller budget or context";
    case VK_ERROR_DEVICE_LOST:
        return "; run it again, and if it happens again look for the driver's messages in the system's log (`dmesg`)";
    default:
        return "";
    }
}

enum sluice_status vk_error(struct gpu_device *device, VkResult result, const char *format, ...)
{
    char what[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    if (device && result == VK_ERROR_DEVICE_LOST)
        device->lost = true;
    return error_set(status_of(result), "%s: %s (Vulkan result %d)%s", what, vk_result_text(result), (int)result,
                     advice(result));
}
