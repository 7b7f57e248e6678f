#include "runtime/gpu/kernel.h"

#include <string.h>

#include <xxhash.h>

#include "runtime/base/mem.h"
#include "runtime/gpu/gpu_internal.h"

static enum sluice_status set_layout_get(struct gpu_device *device, const struct shader_module *module,
                                         VkDescriptorSetLayout *layout)
{
    unsigned count = module->binding_count;
    VkDescriptorSetLayout *known = &device->set_layouts[count + module->array_count - 1];
    VkDescriptorSetLayoutBinding bindings[SHADER_BINDINGS_MAX];
    for (unsigned i = 0; i < count; i++)
        bindings[i] = (VkDescriptorSetLayoutBinding){.binding = i,
                                                     .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                                     .descriptorCount = i == 0 ? module->array_count : 1,
                                                     .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    bool updates = module->array_count > 1 && device->caps.updates_arrays;
    const VkDescriptorBindingFlags flags[SHADER_BINDINGS_MAX] = {VK_DESCRIPTOR_BINDING_UPDATE_AFTER_BIND_BIT};
    VkDescriptorSetLayoutBindingFlagsCreateInfo binding_flags = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_BINDING_FLAGS_CREATE_INFO,
        .bindingCount = count,
        .pBindingFlags = flags};
    VkDescriptorSetLayoutCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .pNext = updates ? &binding_flags : NULL,
        .flags = updates ? VK_DESCRIPTOR_SET_LAYOUT_CREATE_UPDATE_AFTER_BIND_POOL_BIT : 0,
        .bindingCount = count,
        .pBindings = bindings};
    if (!*known) {
        VkResult result = vkCreateDescriptorSetLayout(device->handle, &info, NULL, known);
        if (result < 0)
            return vk_error(device, result, "cannot create a descriptor set layout");
    }
    *layout = *known;
    return SLUICE_OK;
}

static enum sluice_status create_layout(struct gpu_device *device, struct gpu_kernel *kernel)
{
    const struct shader_module *module = kernel->module;
    enum sluice_status status = set_layout_get(device, module, &kernel->set_layout);
    if (status < 0)
        return status;
    VkPushConstantRange push = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = module->push_bytes};
    VkPipelineLayoutCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1,
        .pSetLayouts = &kernel->set_layout,
        .pushConstantRangeCount = module->push_bytes > 0,
        .pPushConstantRanges = &push,
    };
    VkResult result = vkCreatePipelineLayout(device->handle, &info, NULL, &kernel->layout);
    return result < 0 ? vk_error(device, result, "kernel %s: cannot create its layout", module->name) : SLUICE_OK;
}

static VkResult create_pipeline(struct gpu_device *device, struct gpu_kernel *kernel, VkShaderModule module)
{
    VkSpecializationMapEntry entries[GPU_KERNEL_CONSTANTS_MAX];
    for (uint32_t i = 0; i < GPU_KERNEL_CONSTANTS_MAX; i++)
        entries[i] = (VkSpecializationMapEntry){.constantID = i, .offset = i * 4, .size = 4};
    VkSpecializationInfo specialization = {.mapEntryCount = kernel->module->constant_count,
                                           .pMapEntries = entries,
                                           .dataSize = kernel->module->constant_count * 4,
                                           .pData = kernel->constants};
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo subgroup = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = device->caps.matrix_subgroup_size};
    bool sized = kernel->module->uses_matrix_cores;
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .pNext = sized ? &subgroup : NULL,
                  .flags = sized ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT : 0,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main",
                  .pSpecializationInfo = &specialization},
        .layout = kernel->layout,
    };
    return vkCreateComputePipelines(device->handle, device->pipeline_cache, 1, &info, NULL, &kernel->pipeline);
}

static enum sluice_status compile(struct gpu_device *device, struct gpu_kernel *kernel)
{
    VkShaderModuleCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                     .codeSize = kernel->module->word_count * 4,
                                     .pCode = kernel->module->words};
    VkShaderModule module = VK_NULL_HANDLE;
    VkResult result = vkCreateShaderModule(device->handle, &info, NULL, &module);
    if (result >= 0)
        result = create_pipeline(device, kernel, module);
    vkDestroyShaderModule(device->handle, module, NULL);
    if (result < 0)
        return vk_error(device, result, "%s (%s) cannot compile kernel %s", device->caps.device_name,
                        device->caps.driver_name, kernel->module->name);
    device_name_object(device, VK_OBJECT_TYPE_PIPELINE, (uint64_t)kernel->pipeline, kernel->module->name);
    return SLUICE_OK;
}

static void kernel_destroy(struct gpu_device *device, struct gpu_kernel *kernel)
{
    vkDestroyPipeline(device->handle, kernel->pipeline, NULL);
    vkDestroyPipelineLayout(device->handle, kernel->layout, NULL);
    mem_free(kernel);
}

static enum sluice_status kernel_create(struct gpu_device *device, const struct shader_module *module,
                                        const uint32_t *constants, struct gpu_kernel **out)
{
    enum sluice_status status;
    struct gpu_kernel *kernel = mem_alloc(1, sizeof *kernel);
    if (!kernel)
        return SLUICE_ERR_MEMORY;
    kernel->module = module;
    memcpy(kernel->constants, constants, sizeof kernel->constants);
    TRY(create_layout(device, kernel));
    TRY(compile(device, kernel));
    *out = kernel;
    return SLUICE_OK;
fail:
    kernel_destroy(device, kernel);
    return status;
}

static struct gpu_kernel **bucket_of(struct gpu_device *device, const struct shader_module *module,
                                     const uint32_t *constants)
{
    uint64_t hash = XXH3_64bits_withSeed(constants, GPU_KERNEL_CONSTANTS_MAX * sizeof *constants, (uintptr_t)module);
    return &device->kernels[hash % KERNEL_BUCKETS];
}

enum sluice_status gpu_kernel_get(struct gpu_device *device, enum shader_id shader, const uint32_t *constants,
                                  unsigned count, const struct gpu_kernel **out)
{
    CHECK(shader < SHADER_COUNT);
    const struct shader_module *module = shader_module_get(shader);
    CHECK(count <= module->constant_count);
    CHECK(!module->uses_matrix_cores || device->caps.matrix_cores);
    uint32_t all[GPU_KERNEL_CONSTANTS_MAX];
    memcpy(all, module->constants, sizeof all);
    if (count)
        memcpy(all, constants, count * sizeof *constants);
    struct gpu_kernel **bucket = bucket_of(device, module, all), *kernel = *bucket, *made;
    while (kernel && (kernel->module != module || memcmp(kernel->constants, all, sizeof all) != 0))
        kernel = kernel->next;
    *out = kernel;
    if (kernel)
        return SLUICE_OK;
    enum sluice_status status = kernel_create(device, module, all, &made);
    if (status < 0)
        return status;
    made->next = *bucket;
    *out = *bucket = made;
    return SLUICE_OK;
}

void kernels_destroy(struct gpu_device *device)
{
    for (int i = 0; i < KERNEL_BUCKETS; i++)
        while (device->kernels[i]) {
            struct gpu_kernel *kernel = device->kernels[i];
            device->kernels[i] = kernel->next;
            kernel_destroy(device, kernel);
        }
}
