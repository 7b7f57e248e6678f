// The device that a compiler belongs to.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/offline-compile/shader_compiler.h"

enum { EXTENSIONS_MAX = 512, PUSH_BYTES_MAX = 256 };

static bool extension_exists(VkPhysicalDevice physical, const char *name)
{
    static VkExtensionProperties extensions[EXTENSIONS_MAX];
    uint32_t count = EXTENSIONS_MAX;
    if (vkEnumerateDeviceExtensionProperties(physical, NULL, &count, extensions) < 0)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(extensions[i].extensionName, name) == 0)
            return true;
    return false;
}

static void describe_device(struct shader_compiler *c, char driver_text[static DRIVER_TEXT_BYTES])
{
    VkPhysicalDeviceSubgroupProperties subgroup = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES};
    VkPhysicalDeviceDriverProperties driver = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES,
                                               .pNext = &subgroup};
    VkPhysicalDeviceProperties2 properties = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                              .pNext = &driver};
    vkGetPhysicalDeviceProperties2(c->physical, &properties);
    c->subgroup_size = subgroup.subgroupSize;
    c->push_bytes = properties.properties.limits.maxPushConstantsSize;
    if (c->push_bytes > PUSH_BYTES_MAX)
        c->push_bytes = PUSH_BYTES_MAX;
    snprintf(driver_text, DRIVER_TEXT_BYTES, "%s, %s %s", properties.properties.deviceName, driver.driverName,
             driver.driverInfo);
}

static void open_instance(struct shader_compiler *c)
{
    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                     .apiVersion = VK_API_VERSION_1_3,
                                     .pApplicationName = "shader_stats"};
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
    uint32_t count = 1;
    if (vkCreateInstance(&info, NULL, &c->instance) != VK_SUCCESS ||
        vkEnumeratePhysicalDevices(c->instance, &count, &c->physical) < 0 || count == 0) {
        fprintf(stderr, "shader_stats: the loader offers no Vulkan device\n");
        exit(EXIT_NO_DEVICE);
    }
}

// Newer than Debian 12's headers.
struct cooperative_matrix_features {
    VkStructureType type;
    void *next;
    VkBool32 matrix, robust_access;
};
enum { COOPERATIVE_MATRIX_FEATURES = 1000506000 };

struct cooperative_matrix_properties {
    VkStructureType type;
    void *next;
    uint32_t m, n, k, a, b, c, result;
    VkBool32 saturating;
    uint32_t scope;
};
enum { COOPERATIVE_MATRIX_PROPERTIES = 1000506001, FLOAT16 = 0, FLOAT32 = 1, SCOPE_SUBGROUP = 3 };

static void find_shapes(struct shader_compiler *c)
{
    typedef VkResult(VKAPI_PTR * query_function)(VkPhysicalDevice, uint32_t *, struct cooperative_matrix_properties *);
    query_function query =
        (query_function)vkGetInstanceProcAddr(c->instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    struct cooperative_matrix_properties list[MATRIX_SHAPES_MAX];
    uint32_t count = MATRIX_SHAPES_MAX;
    for (uint32_t i = 0; i < count; i++)
        list[i] = (struct cooperative_matrix_properties){.type = (VkStructureType)COOPERATIVE_MATRIX_PROPERTIES};
    if (!c->has_cooperative_matrix || !query || query(c->physical, &count, list) < 0)
        return;
    for (uint32_t i = 0; i < count; i++)
        if (list[i].scope == SCOPE_SUBGROUP && list[i].a == FLOAT16 && list[i].b == FLOAT16 && list[i].c == FLOAT32)
            c->shapes[c->shape_count++] = (struct shader_matrix){list[i].m, list[i].n, list[i].k};
}

// Kernels with matrices run in the smallest subgroups (runtime/gpu/device_caps.c).
static void find_subgroup_size(struct shader_compiler *c)
{
    VkPhysicalDeviceSubgroupSizeControlProperties size = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES};
    VkPhysicalDeviceProperties2 properties = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &size};
    vkGetPhysicalDeviceProperties2(c->physical, &properties);
    c->subgroup_size_min = size.minSubgroupSize;
}

static void find_functions(struct shader_compiler *c)
{
    c->get_executables = (PFN_vkGetPipelineExecutablePropertiesKHR)vkGetDeviceProcAddr(
        c->device, "vkGetPipelineExecutablePropertiesKHR");
    c->get_statistics = (PFN_vkGetPipelineExecutableStatisticsKHR)vkGetDeviceProcAddr(
        c->device, "vkGetPipelineExecutableStatisticsKHR");
    c->get_representations = (PFN_vkGetPipelineExecutableInternalRepresentationsKHR)vkGetDeviceProcAddr(
        c->device, "vkGetPipelineExecutableInternalRepresentationsKHR");
    if (!c->get_executables || !c->get_statistics || !c->get_representations)
        fail("this driver reports no statistics", VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME);
}

static void create_device(struct shader_compiler *c, const VkPhysicalDeviceFeatures2 *features)
{
    const char *extensions[2] = {VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME, "VK_KHR_cooperative_matrix"};
    float priority = 1;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, .queueCount = 1, .pQueuePriorities = &priority};
    VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                               .pNext = features,
                               .queueCreateInfoCount = 1,
                               .pQueueCreateInfos = &queue,
                               .enabledExtensionCount = c->has_cooperative_matrix ? 2 : 1,
                               .ppEnabledExtensionNames = extensions};
    vulkan_check(vkCreateDevice(c->physical, &info, NULL, &c->device), "vkCreateDevice");
}

void compiler_open(struct shader_compiler *c, char driver[static DRIVER_TEXT_BYTES])
{
    *c = (struct shader_compiler){0};
    open_instance(c);
    describe_device(c, driver);
    c->has_cooperative_matrix = extension_exists(c->physical, "VK_KHR_cooperative_matrix");

    struct cooperative_matrix_features matrix = {.type = (VkStructureType)COOPERATIVE_MATRIX_FEATURES};
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR executable = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR,
        .pNext = c->has_cooperative_matrix ? &matrix : NULL};
    VkPhysicalDeviceVulkan13Features v13 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES,
                                            .pNext = &executable};
    VkPhysicalDeviceVulkan12Features v12 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
                                            .pNext = &v13};
    VkPhysicalDeviceVulkan11Features v11 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
                                            .pNext = &v12};
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &v11};
    vkGetPhysicalDeviceFeatures2(c->physical, &features);
    features.features.robustBufferAccess = VK_FALSE; // bounds checks would be counted as the shader's own work
    v13.robustImageAccess = VK_FALSE;
    matrix.robust_access = VK_FALSE;
    if (!executable.pipelineExecutableInfo)
        fail("this driver reports no statistics", VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME);
    create_device(c, &features);
    find_functions(c);
    find_shapes(c);
    find_subgroup_size(c);
}

void compiler_close(struct shader_compiler *c)
{
    vkDestroyDevice(c->device, NULL);
    vkDestroyInstance(c->instance, NULL);
}
