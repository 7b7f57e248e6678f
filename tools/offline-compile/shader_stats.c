// Compiles every shader variant with the Vulkan driver that the loader offers and prints what its compiler made of it:
// instructions, registers, spills, shared memory, occupancy. Nothing is dispatched, so drivers without hardware do
// (run.sh has AMD's). Exit status 1 if a variant does not compile or breaks a limit below, 77 if there is no device.
//
//   shader_stats VARIANTS.txt
//
// One variant a line: MODULE FILE.spv ID=VALUE..., as the shader build writes it. The modules themselves are the
// embedded ones.
#include "shaders/shader_table.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vulkan.h>

enum {
    EXIT_NO_DEVICE = 77,
    CONSTANTS_MAX = 12,
    BINDINGS_MAX = 32,
    STATISTICS_MAX = 64,
    EXTENSIONS_MAX = 512,
    LINE_BYTES = 512,
    SHARED_BYTES_MAX = 32 * 1024, // what every driver offers, the software driver no more
    OP_CAPABILITY = 17,
    CAPABILITY_COOPERATIVE_MATRIX = 6022,
};

struct variant {
    const struct shader_module *module;
    char constants[LINE_BYTES]; // as written in the list
    VkSpecializationMapEntry entries[CONSTANTS_MAX];
    uint32_t values[CONSTANTS_MAX];
    uint32_t count;
};

// What the compiler reports; UINT64_MAX where it is silent.
struct statistics {
    uint64_t instructions, vgprs, sgprs, vgprs_spilled, sgprs_spilled, scratch_bytes, shared_bytes, waves;
    uint32_t subgroup_size;
};

// RADV's names. Another driver needs a line here for each name of its own.
static const struct {
    const char *name;
    size_t offset;
} statistic_fields[] = {
    {"Instructions", offsetof(struct statistics, instructions)},
    {"VGPRs", offsetof(struct statistics, vgprs)},
    {"SGPRs", offsetof(struct statistics, sgprs)},
    {"Spilled VGPRs", offsetof(struct statistics, vgprs_spilled)},
    {"Spilled SGPRs", offsetof(struct statistics, sgprs_spilled)},
    {"Scratch size", offsetof(struct statistics, scratch_bytes)},
    {"LDS size", offsetof(struct statistics, shared_bytes)},
    {"Subgroups per SIMD", offsetof(struct statistics, waves)},
};
enum { STATISTIC_FIELDS = sizeof statistic_fields / sizeof *statistic_fields };

struct compiler {
    VkInstance instance;
    VkPhysicalDevice physical;
    VkDevice device;
    bool has_cooperative_matrix;
    PFN_vkGetPipelineExecutablePropertiesKHR get_executables;
    PFN_vkGetPipelineExecutableStatisticsKHR get_statistics;
};

static _Noreturn void fail(const char *what, const char *detail)
{
    fprintf(stderr, "shader_stats: %s: %s\n", what, detail);
    exit(1);
}

static void vulkan_check(VkResult result, const char *what)
{
    char text[32];
    snprintf(text, sizeof text, "VkResult %d", (int)result);
    if (result != VK_SUCCESS)
        fail(what, text);
}

// ---- the device

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

static void print_device(VkPhysicalDevice physical)
{
    VkPhysicalDeviceDriverProperties driver = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
    VkPhysicalDeviceProperties2 properties = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                              .pNext = &driver};
    vkGetPhysicalDeviceProperties2(physical, &properties);
    printf("%s, %s %s\n", properties.properties.deviceName, driver.driverName, driver.driverInfo);
}

static void open_instance(struct compiler *c)
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
    print_device(c->physical);
}

// Enables every core feature that the driver has, so that it is the shaders, not this program, that decide.
static void open_device(struct compiler *c)
{
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR executable = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR};
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

    const char *extensions[2] = {VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME};
    uint32_t extension_count = 1;
    if (!executable.pipelineExecutableInfo || !extension_exists(c->physical, extensions[0]))
        fail("this driver reports no statistics", extensions[0]);
    c->has_cooperative_matrix = extension_exists(c->physical, "VK_KHR_cooperative_matrix");
    if (c->has_cooperative_matrix)
        extensions[extension_count++] = "VK_KHR_cooperative_matrix";

    float priority = 1;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, .queueCount = 1, .pQueuePriorities = &priority};
    VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                               .pNext = &features,
                               .queueCreateInfoCount = 1,
                               .pQueueCreateInfos = &queue,
                               .enabledExtensionCount = extension_count,
                               .ppEnabledExtensionNames = extensions};
    vulkan_check(vkCreateDevice(c->physical, &info, NULL, &c->device), "vkCreateDevice");
    c->get_executables = (PFN_vkGetPipelineExecutablePropertiesKHR)vkGetDeviceProcAddr(
        c->device, "vkGetPipelineExecutablePropertiesKHR");
    c->get_statistics = (PFN_vkGetPipelineExecutableStatisticsKHR)vkGetDeviceProcAddr(
        c->device, "vkGetPipelineExecutableStatisticsKHR");
    if (!c->get_executables || !c->get_statistics)
        fail("this driver reports no statistics", extensions[0]);
}

static void close_device(struct compiler *c)
{
    vkDestroyDevice(c->device, NULL);
    vkDestroyInstance(c->instance, NULL);
}

// ---- one variant

static VkPipelineLayout create_layout(const struct compiler *c, const struct shader_module *module,
                                      VkDescriptorSetLayout *set)
{
    VkDescriptorSetLayoutBinding bindings[BINDINGS_MAX];
    for (uint32_t i = 0; i < module->binding_count && i < BINDINGS_MAX; i++)
        bindings[i] = (VkDescriptorSetLayoutBinding){.binding = i,
                                                     .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                                     .descriptorCount = 1,
                                                     .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    VkDescriptorSetLayoutCreateInfo set_info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                                                .bindingCount = module->binding_count,
                                                .pBindings = bindings};
    vulkan_check(vkCreateDescriptorSetLayout(c->device, &set_info, NULL, set), "vkCreateDescriptorSetLayout");
    VkPushConstantRange push = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = module->push_bytes};
    VkPipelineLayoutCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                       .setLayoutCount = 1,
                                       .pSetLayouts = set,
                                       .pushConstantRangeCount = module->push_bytes > 0,
                                       .pPushConstantRanges = &push};
    VkPipelineLayout layout;
    vulkan_check(vkCreatePipelineLayout(c->device, &info, NULL, &layout), "vkCreatePipelineLayout");
    return layout;
}

static VkResult create_pipeline(const struct compiler *c, const struct variant *v, VkPipelineLayout layout,
                                VkPipeline *pipeline)
{
    VkShaderModuleCreateInfo module_info = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                            .codeSize = v->module->word_count * sizeof *v->module->words,
                                            .pCode = v->module->words};
    VkShaderModule module;
    VkResult result = vkCreateShaderModule(c->device, &module_info, NULL, &module);
    if (result != VK_SUCCESS)
        return result;
    VkSpecializationInfo constants = {.mapEntryCount = v->count,
                                      .pMapEntries = v->entries,
                                      .dataSize = v->count * sizeof *v->values,
                                      .pData = v->values};
    VkComputePipelineCreateInfo info = {.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
                                        .flags = VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR,
                                        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                                                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                                                  .module = module,
                                                  .pName = "main",
                                                  .pSpecializationInfo = &constants},
                                        .layout = layout};
    result = vkCreateComputePipelines(c->device, VK_NULL_HANDLE, 1, &info, NULL, pipeline);
    vkDestroyShaderModule(c->device, module, NULL);
    return result;
}

static uint64_t statistic_value(const VkPipelineExecutableStatisticKHR *statistic)
{
    if (statistic->format == VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_FLOAT64_KHR)
        return (uint64_t)statistic->value.f64;
    return statistic->value.u64;
}

static void read_statistics(const struct compiler *c, VkPipeline pipeline, struct statistics *out)
{
    VkPipelineInfoKHR pipeline_info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR, .pipeline = pipeline};
    VkPipelineExecutablePropertiesKHR executable = {.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR};
    VkPipelineExecutableStatisticKHR list[STATISTICS_MAX];
    uint32_t count = 1, list_count = STATISTICS_MAX;
    memset(out, 0xff, sizeof *out);
    if (c->get_executables(c->device, &pipeline_info, &count, &executable) < 0 || count == 0)
        return;
    out->subgroup_size = executable.subgroupSize;
    for (uint32_t i = 0; i < STATISTICS_MAX; i++)
        list[i] = (VkPipelineExecutableStatisticKHR){.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR};
    VkPipelineExecutableInfoKHR info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, .pipeline = pipeline};
    if (c->get_statistics(c->device, &info, &list_count, list) < 0)
        return;
    for (uint32_t i = 0; i < list_count; i++)
        for (int f = 0; f < STATISTIC_FIELDS; f++)
            if (strcmp(list[i].name, statistic_fields[f].name) == 0) {
                uint64_t value = statistic_value(&list[i]);
                memcpy((char *)out + statistic_fields[f].offset, &value, sizeof value);
            }
}

// The first broken limit in words, or NULL.
static const char *broken_limit(const struct statistics *s)
{
    for (int f = 0; f < STATISTIC_FIELDS; f++) {
        uint64_t value;
        memcpy(&value, (const char *)s + statistic_fields[f].offset, sizeof value);
        if (value == UINT64_MAX)
            return "a statistic is missing: another driver's names?";
    }
    if (s->vgprs_spilled || s->sgprs_spilled)
        return "spills registers";
    if (s->scratch_bytes)
        return "uses scratch memory";
    if (s->shared_bytes > SHARED_BYTES_MAX)
        return "needs more than 32 KiB of shared memory";
    return NULL;
}

static bool needs_cooperative_matrix(const struct shader_module *module)
{
    for (size_t at = 5; at + 1 < module->word_count && module->words[at] >> 16 > 0; at += module->words[at] >> 16)
        if ((module->words[at] & 0xffff) == OP_CAPABILITY && module->words[at + 1] == CAPABILITY_COOPERATIVE_MATRIX)
            return true;
    return false;
}

// Compiles the variant and prints its row; false if it must not ship like this.
static bool check_variant(const struct compiler *c, const struct variant *v)
{
    printf("%-28s %-34s ", v->module->name, v->constants);
    fflush(stdout); // a compiler that crashes leaves the name of its victim
    if (needs_cooperative_matrix(v->module) && !c->has_cooperative_matrix) {
        printf("skipped: this driver has no cooperative matrices\n");
        return true;
    }
    VkDescriptorSetLayout set;
    VkPipelineLayout layout = create_layout(c, v->module, &set);
    VkPipeline pipeline = VK_NULL_HANDLE;
    VkResult result = create_pipeline(c, v, layout, &pipeline);
    const char *broken = "does not compile";
    if (result == VK_SUCCESS) {
        struct statistics s;
        read_statistics(c, pipeline, &s);
        broken = broken_limit(&s);
        printf("%6" PRIu64 " %5" PRIu64 " %5" PRIu64 " %6" PRIu64 " %8" PRIu64 " %7" PRIu64 " %5" PRIu64 " %5" PRIu32,
               s.instructions, s.vgprs, s.sgprs, s.vgprs_spilled + s.sgprs_spilled, s.scratch_bytes, s.shared_bytes,
               s.waves, s.subgroup_size);
    }
    printf("%s%s\n", broken ? "  <-- " : "", broken ? broken : "");
    vkDestroyPipeline(c->device, pipeline, NULL);
    vkDestroyPipelineLayout(c->device, layout, NULL);
    vkDestroyDescriptorSetLayout(c->device, set, NULL);
    return broken == NULL;
}

// ---- the list

static const struct shader_module *find_module(const char *name)
{
    for (int i = 0; i < (int)SHADER_COUNT; i++)
        if (strcmp(shader_module_get((enum shader_id)i)->name, name) == 0)
            return shader_module_get((enum shader_id)i);
    return NULL;
}

static void add_constant(struct variant *v, const char *text)
{
    char *end, *value_end;
    unsigned long id = strtoul(text, &end, 0);
    unsigned long value = *end == '=' ? strtoul(end + 1, &value_end, 0) : 0;
    if (end == text || *end != '=' || value_end == end + 1 || *value_end || value > UINT32_MAX || id > UINT32_MAX)
        fail("expected ID=VALUE in the list", text);
    if (v->count == CONSTANTS_MAX)
        fail("too many constants in the list", text);
    v->entries[v->count] =
        (VkSpecializationMapEntry){(uint32_t)id, v->count * (uint32_t)sizeof *v->values, sizeof *v->values};
    v->values[v->count++] = (uint32_t)value;
    size_t used = strlen(v->constants);
    snprintf(v->constants + used, sizeof v->constants - used, "%s%s", used ? " " : "", text);
}

// Takes a line of the list apart; false if it is empty.
static bool parse_variant(struct variant *v, char *line)
{
    char *rest = NULL;
    const char *name = strtok_r(line, " \n", &rest);
    *v = (struct variant){.module = NULL};
    if (!name)
        return false;
    v->module = find_module(name);
    if (!v->module)
        fail("the list names a module that is not embedded (rebuild)", name);
    if (!strtok_r(NULL, " \n", &rest))
        fail("no file name in the list for", name);
    for (const char *word; (word = strtok_r(NULL, " \n", &rest));)
        add_constant(v, word);
    return true;
}

int main(int argc, char **argv)
{
    FILE *list = argc == 2 ? fopen(argv[1], "r") : NULL;
    if (!list)
        fail("usage: shader_stats VARIANTS.txt; cannot read", argc == 2 ? argv[1] : "(no list)");
    struct compiler c = {0};
    open_instance(&c);
    open_device(&c);
    printf("%-28s %-34s %6s %5s %5s %6s %8s %7s %5s %5s\n", "kernel", "constants", "instr", "VGPR", "SGPR", "spills",
           "scratch", "LDS", "waves", "size");
    char line[LINE_BYTES];
    int count = 0, bad = 0;
    while (fgets(line, sizeof line, list)) {
        struct variant v;
        if (!parse_variant(&v, line))
            continue;
        count++;
        bad += !check_variant(&c, &v);
    }
    fclose(list);
    close_device(&c);
    printf("%d variants, %d bad\n", count, bad);
    return bad || count == 0;
}
