#include "tools/offline-compile/shader_compiler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BINDINGS_MAX = 32,
    ARRAY_BUFFERS = 16, // binding 0 may be an array of so many, see shaders/reflection.h
    STATISTICS_MAX = 64,
    REPRESENTATIONS_MAX = 16,
    SPIRV_HEADER_WORDS = 5,
    OP_CAPABILITY = 17,
    OP_DECORATE = 71,
    CAPABILITY_COOPERATIVE_MATRIX = 6022,
    DECORATION_BINDING = 33,
};

// The drivers' names. A name that appears twice in the list adds up.
static const struct {
    const char *name;
    size_t offset;
} statistic_fields[] = {
#define FIELD(name, field)                              \
    {                                                   \
        name, offsetof(struct shader_statistics, field) \
    }
    // AMD
    FIELD("Instructions", instructions),
    FIELD("Code size", code_bytes),
    FIELD("VGPRs", registers),
    FIELD("SGPRs", scalar_registers),
    FIELD("Spilled VGPRs", spills),
    FIELD("Spilled SGPRs", spills),
    FIELD("Scratch size", scratch_bytes),
    FIELD("LDS size", shared_bytes),
    FIELD("Subgroups per SIMD", waves),
    FIELD("Latency", cycles),
    // NVIDIA. Spills to reg(isters) of another kind are moves, and count as instructions.
    FIELD("Instruction count", instructions),
    FIELD("Number of GPRs", registers),
    FIELD("Spills to memory", spills),
    FIELD("SLM size", scratch_bytes),
    FIELD("Max warps/SM", waves),
    FIELD("Static cycle count", cycles),
    // Intel
    FIELD("Max live registers", registers),
    FIELD("Spills", spills),
    FIELD("Scratch Memory Size", scratch_bytes),
    FIELD("Workgroup Memory Size", shared_bytes),
    FIELD("Cycles", cycles),
#undef FIELD
};
enum { STATISTIC_FIELDS = sizeof statistic_fields / sizeof *statistic_fields };

_Noreturn void fail(const char *what, const char *detail)
{
    fprintf(stderr, "shader_stats: %s: %s\n", what, detail);
    exit(1);
}

void vulkan_check(VkResult result, const char *what)
{
    char text[32];
    snprintf(text, sizeof text, "VkResult %d", (int)result);
    if (result != VK_SUCCESS)
        fail(what, text);
}

// ---- the module

// Calls for every instruction of the module: its opcode and operands.
typedef void (*instruction_visitor)(uint32_t opcode, const uint32_t *operands, size_t count, uint32_t *state);

static void visit_instructions(const struct shader_source *source, instruction_visitor visit, uint32_t *state)
{
    for (size_t at = SPIRV_HEADER_WORDS; at < source->word_count;) {
        size_t length = source->words[at] >> 16;
        if (length == 0 || length > source->word_count - at)
            fail("not SPIR-V", "an instruction has no length");
        visit(source->words[at] & 0xffff, source->words + at + 1, length - 1, state);
        at += length;
    }
}

static void find_matrix_capability(uint32_t opcode, const uint32_t *operands, size_t count, uint32_t *found)
{
    if (opcode == OP_CAPABILITY && count > 0 && operands[0] == CAPABILITY_COOPERATIVE_MATRIX)
        *found = 1;
}

static void find_last_binding(uint32_t opcode, const uint32_t *operands, size_t count, uint32_t *bindings)
{
    if (opcode == OP_DECORATE && count > 2 && operands[1] == DECORATION_BINDING && operands[2] >= *bindings)
        *bindings = operands[2] + 1;
}

static bool needs_matrix(const struct shader_source *source)
{
    uint32_t needs = 0;
    visit_instructions(source, find_matrix_capability, &needs);
    return needs;
}

const char *compiler_lacks(const struct shader_compiler *c, const struct shader_source *source)
{
    if (source->is_wide && c->subgroup_size <= 32)
        return "for wider subgroups than this driver's";
    if (!needs_matrix(source))
        return NULL;
    if (!c->has_cooperative_matrix)
        return "this driver has no cooperative matrices";
    for (uint32_t i = 0; i < c->shape_count; i++)
        if (source->subgroup_size || source->constant_count < 3 ||
            (source->values[0] == c->shapes[i].m && source->values[1] == c->shapes[i].n &&
             source->values[2] == c->shapes[i].k))
            return NULL;
    return "not a shape of this device";
}

// ---- the pipeline

static VkPipelineLayout create_layout(const struct shader_compiler *c, const struct shader_source *source,
                                      VkDescriptorSetLayout *set)
{
    VkDescriptorSetLayoutBinding bindings[BINDINGS_MAX];
    uint32_t binding_count = 0;
    visit_instructions(source, find_last_binding, &binding_count);
    if (binding_count > BINDINGS_MAX)
        fail("the module has too many bindings", "at most 32 are expected");
    for (uint32_t i = 0; i < binding_count; i++)
        bindings[i] = (VkDescriptorSetLayoutBinding){.binding = i,
                                                     .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                                     .descriptorCount = i == 0 ? ARRAY_BUFFERS : 1,
                                                     .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    VkDescriptorSetLayoutCreateInfo set_info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                                                .bindingCount = binding_count,
                                                .pBindings = bindings};
    vulkan_check(vkCreateDescriptorSetLayout(c->device, &set_info, NULL, set), "vkCreateDescriptorSetLayout");
    VkPushConstantRange push = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = c->push_bytes};
    VkPipelineLayoutCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                       .setLayoutCount = 1,
                                       .pSetLayouts = set,
                                       .pushConstantRangeCount = 1,
                                       .pPushConstantRanges = &push};
    VkPipelineLayout layout;
    vulkan_check(vkCreatePipelineLayout(c->device, &info, NULL, &layout), "vkCreatePipelineLayout");
    return layout;
}

static VkResult create_pipeline(const struct shader_compiler *c, const struct shader_source *source,
                                VkPipelineLayout layout, VkPipeline *pipeline)
{
    VkShaderModuleCreateInfo module_info = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                            .codeSize = source->word_count * sizeof *source->words,
                                            .pCode = source->words};
    VkShaderModule module;
    VkResult result = vkCreateShaderModule(c->device, &module_info, NULL, &module);
    if (result != VK_SUCCESS)
        return result;
    VkSpecializationInfo constants = {.mapEntryCount = source->constant_count,
                                      .pMapEntries = source->entries,
                                      .dataSize = source->constant_count * sizeof *source->values,
                                      .pData = source->values};
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo size = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize =
            source->subgroup_size || !needs_matrix(source) ? source->subgroup_size : c->subgroup_size_min};
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .flags =
            VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR | VK_PIPELINE_CREATE_CAPTURE_INTERNAL_REPRESENTATIONS_BIT_KHR,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .pNext = size.requiredSubgroupSize ? &size : NULL,
                  .flags = source->full_subgroups ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT : 0,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main",
                  .pSpecializationInfo = &constants},
        .layout = layout};
    result = vkCreateComputePipelines(c->device, VK_NULL_HANDLE, 1, &info, NULL, pipeline);
    vkDestroyShaderModule(c->device, module, NULL);
    return result;
}

// ---- what the compiler says

static void add_statistic(struct shader_statistics *out, const VkPipelineExecutableStatisticKHR *statistic)
{
    uint64_t value = statistic->format == VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_FLOAT64_KHR
                         ? (uint64_t)statistic->value.f64
                         : statistic->value.u64;
    for (int f = 0; f < STATISTIC_FIELDS; f++)
        if (strcmp(statistic->name, statistic_fields[f].name) == 0) {
            uint64_t sum;
            char *field = (char *)out + statistic_fields[f].offset;
            memcpy(&sum, field, sizeof sum);
            sum = sum == UINT64_MAX ? value : sum + value;
            memcpy(field, &sum, sizeof sum);
        }
}

// Intel's compiler may keep several SIMD widths of one shader; the driver runs the last one.
static uint32_t last_executable(const struct shader_compiler *c, VkPipeline pipeline, uint32_t *subgroup_size)
{
    VkPipelineExecutablePropertiesKHR executables[4];
    VkPipelineInfoKHR info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR, .pipeline = pipeline};
    uint32_t count = sizeof executables / sizeof *executables;
    for (uint32_t i = 0; i < count; i++)
        executables[i] =
            (VkPipelineExecutablePropertiesKHR){.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR};
    if (c->get_executables(c->device, &info, &count, executables) < 0 || count == 0)
        fail("this driver reports no statistics", "the pipeline has no executable");
    *subgroup_size = executables[count - 1].subgroupSize;
    return count - 1;
}

static void read_statistics(const struct shader_compiler *c, const VkPipelineExecutableInfoKHR *info,
                            struct shader_statistics *out)
{
    VkPipelineExecutableStatisticKHR list[STATISTICS_MAX];
    uint32_t count = STATISTICS_MAX;
    for (uint32_t i = 0; i < STATISTICS_MAX; i++)
        list[i] = (VkPipelineExecutableStatisticKHR){.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR};
    vulkan_check(c->get_statistics(c->device, info, &count, list), "vkGetPipelineExecutableStatisticsKHR");
    for (uint32_t i = 0; i < count; i++)
        add_statistic(out, &list[i]);
}

// NVIDIA's driver does not report shared memory, but the shader's intermediate form begins with it.
static void read_shared_bytes(const char *text, struct shader_statistics *out)
{
    static const char *const labels[] = {"\nshared-size: ", "\nshared_size: ", "\nshared: "};
    if (out->shared_bytes != UINT64_MAX)
        return;
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++) {
        const char *found = strstr(text, labels[i]);
        if (found) {
            out->shared_bytes = strtoull(found + strlen(labels[i]), NULL, 10);
            return;
        }
    }
    if (strstr(text, "\nworkgroup_size: ")) // such a head, and no line about shared memory
        out->shared_bytes = 0;
}

// Reads all representations; returns the last one, the machine's.
static char *read_representations(const struct shader_compiler *c, const VkPipelineExecutableInfoKHR *info,
                                  struct shader_statistics *out)
{
    VkPipelineExecutableInternalRepresentationKHR list[REPRESENTATIONS_MAX];
    uint32_t count = REPRESENTATIONS_MAX;
    for (uint32_t i = 0; i < REPRESENTATIONS_MAX; i++)
        list[i] = (VkPipelineExecutableInternalRepresentationKHR){
            .sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INTERNAL_REPRESENTATION_KHR};
    if (c->get_representations(c->device, info, &count, list) < 0 || count == 0)
        return NULL;
    for (uint32_t i = 0; i < count; i++) {
        list[i].pData = calloc(1, list[i].dataSize + 1);
        if (!list[i].pData)
            fail("out of memory", list[i].name);
    }
    vulkan_check(c->get_representations(c->device, info, &count, list),
                 "vkGetPipelineExecutableInternalRepresentationsKHR");
    for (uint32_t i = 0; i < count; i++)
        if (list[i].isText)
            read_shared_bytes(list[i].pData, out);
    for (uint32_t i = 0; i + 1 < count; i++)
        free(list[i].pData);
    return list[count - 1].pData;
}

static void read_compiled(const struct shader_compiler *c, VkPipeline pipeline, struct shader_statistics *out,
                          char **assembly)
{
    VkPipelineExecutableInfoKHR info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, .pipeline = pipeline};
    memset(out, 0xff, sizeof *out);
    info.executableIndex = last_executable(c, pipeline, &out->subgroup_size);
    read_statistics(c, &info, out);
    char *text = read_representations(c, &info, out);
    if (assembly)
        *assembly = text;
    else
        free(text);
}

bool compiler_run(const struct shader_compiler *c, const struct shader_source *source, struct shader_statistics *out,
                  char **assembly)
{
    VkDescriptorSetLayout set;
    VkPipelineLayout layout = create_layout(c, source, &set);
    VkPipeline pipeline = VK_NULL_HANDLE;
    VkResult result = create_pipeline(c, source, layout, &pipeline);
    if (result == VK_SUCCESS)
        read_compiled(c, pipeline, out, assembly);
    vkDestroyPipeline(c->device, pipeline, NULL);
    vkDestroyPipelineLayout(c->device, layout, NULL);
    vkDestroyDescriptorSetLayout(c->device, set, NULL);
    return result == VK_SUCCESS;
}
