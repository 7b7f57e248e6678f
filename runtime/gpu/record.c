// What can be recorded into a command, with the barriers it needs.
#include "runtime/base/mem.h"
#include "runtime/gpu/gpu_internal.h"

void command_barrier(struct gpu_command *command)
{
    const VkPipelineStageFlags stages = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    const VkAccessFlags writes = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
    VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                               .srcAccessMask = writes,
                               .dstAccessMask = writes | VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_TRANSFER_READ_BIT};
    vkCmdPipelineBarrier(command->handle, stages, stages, 0, 1, &barrier, 0, NULL, 0, NULL);
    command->device->usage.barriers++;
}

static struct hazard_access access_of(struct gpu_range range, bool written)
{
    return (struct hazard_access){
        .buffer = range.buffer, .begin = range.offset, .end = range.offset + range.bytes, .written = written};
}

static void order(struct gpu_command *command, const struct hazard_access *accesses, unsigned count)
{
    if (hazard_add(&command->hazards, accesses, count))
        command_barrier(command);
}

static bool recording(const struct gpu_command *command)
{
    CHECK(command->state == COMMAND_RECORDING);
    return command->failure.status == SLUICE_OK;
}

static void check_range(const struct gpu_command *command, struct gpu_range range)
{
    CHECK(range.buffer && range.buffer->device == command->device);
    CHECK(range.bytes % 4 == 0 && range.offset % 4 == 0);
    CHECK(range.offset <= range.buffer->bytes && range.bytes <= range.buffer->bytes - range.offset);
}

static enum sluice_status add_set_pool(struct gpu_command *command)
{
    struct gpu_device *device = command->device;
    VkDescriptorPool *pools = mem_realloc(command->set_pools, command->set_pool_count + 1, sizeof *pools);
    if (!pools)
        return SLUICE_ERR_MEMORY;
    command->set_pools = pools;
    VkDescriptorPoolSize size = {.type = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                 .descriptorCount = COMMAND_SETS_PER_POOL * SHADER_BINDINGS_MAX};
    VkDescriptorPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                       .maxSets = COMMAND_SETS_PER_POOL,
                                       .poolSizeCount = 1,
                                       .pPoolSizes = &size};
    VkResult result = vkCreateDescriptorPool(device->handle, &info, NULL, &pools[command->set_pool_count]);
    if (result < 0)
        return vk_error(device, result, "cannot create a descriptor pool");
    command->set_pool_count++;
    return SLUICE_OK;
}

// A set from the command's pools, which have room for COMMAND_SETS_PER_POOL sets of any kernel each.
static enum sluice_status allocate_set(struct gpu_command *command, VkDescriptorSetLayout layout, VkDescriptorSet *set)
{
    enum sluice_status status;
    unsigned pool = command->sets_used / COMMAND_SETS_PER_POOL;
    if (pool == command->set_pool_count)
        TRY(add_set_pool(command));
    VkDescriptorSetAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                        .descriptorPool = command->set_pools[pool],
                                        .descriptorSetCount = 1,
                                        .pSetLayouts = &layout};
    VkResult result = vkAllocateDescriptorSets(command->device->handle, &info, set);
    if (result < 0)
        return vk_error(command->device, result, "cannot allocate a descriptor set");
    command->sets_used++;
    return SLUICE_OK;
fail:
    return status;
}

static enum sluice_status bind(struct gpu_command *command, const struct gpu_kernel *kernel,
                               const struct gpu_range *ranges)
{
    VkDescriptorBufferInfo infos[SHADER_BINDINGS_MAX];
    VkWriteDescriptorSet writes[SHADER_BINDINGS_MAX];
    VkDescriptorSet set;
    enum sluice_status status = allocate_set(command, kernel->set_layout, &set);
    if (status < 0)
        return status;
    unsigned count = kernel->module->binding_count;
    for (unsigned i = 0; i < count; i++) {
        infos[i] = (VkDescriptorBufferInfo){
            .buffer = ranges[i].buffer->handle, .offset = ranges[i].offset, .range = ranges[i].bytes};
        writes[i] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                           .dstSet = set,
                                           .dstBinding = i,
                                           .descriptorCount = 1,
                                           .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           .pBufferInfo = &infos[i]};
    }
    vkUpdateDescriptorSets(command->device->handle, count, writes, 0, NULL);
    vkCmdBindPipeline(command->handle, VK_PIPELINE_BIND_POINT_COMPUTE, kernel->pipeline);
    vkCmdBindDescriptorSets(command->handle, VK_PIPELINE_BIND_POINT_COMPUTE, kernel->layout, 0, 1, &set, 0, NULL);
    return SLUICE_OK;
}

static void check_binding(const struct gpu_command *command, struct gpu_range range)
{
    check_range(command, range);
    CHECK(range.bytes > 0 && range.bytes <= command->device->caps.max_buffer_bytes);
    CHECK(range.offset % command->device->caps.buffer_alignment == 0);
    CHECK(!range.buffer->imported);
}

void gpu_dispatch(struct gpu_command *command, const struct gpu_kernel *kernel, const struct gpu_range *ranges,
                  unsigned count, const void *push, size_t push_bytes, uint32_t groups_x, uint32_t groups_y,
                  uint32_t groups_z)
{
    if (!recording(command) || groups_x == 0 || groups_y == 0 || groups_z == 0)
        return;
    const struct shader_module *module = kernel->module;
    const struct gpu_caps *caps = &command->device->caps;
    CHECK(count == module->binding_count && push_bytes == module->push_bytes);
    CHECK(groups_x <= caps->max_groups_x && groups_y <= caps->max_groups_y && groups_z <= caps->max_groups_z);
    struct hazard_access accesses[SHADER_BINDINGS_MAX];
    for (unsigned i = 0; i < count; i++) {
        check_binding(command, ranges[i]);
        accesses[i] = access_of(ranges[i], module->written_mask >> i & 1);
    }
    enum sluice_status status = bind(command, kernel, ranges);
    if (status < 0) {
        command_keep_failure(command, status);
        return;
    }
    order(command, accesses, count);
    if (push_bytes)
        vkCmdPushConstants(command->handle, kernel->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, (uint32_t)push_bytes, push);
    vkCmdDispatch(command->handle, groups_x, groups_y, groups_z);
    command->device->usage.dispatches++;
    timer_command_sample(command, module->name);
}

void gpu_copy(struct gpu_command *command, struct gpu_range from, struct gpu_range to)
{
    check_range(command, from);
    check_range(command, to);
    CHECK(from.bytes == to.bytes);
    CHECK(from.buffer != to.buffer || from.offset + from.bytes <= to.offset || to.offset + to.bytes <= from.offset);
    if (!recording(command) || from.bytes == 0)
        return;
    struct hazard_access accesses[2] = {access_of(from, false), access_of(to, true)};
    order(command, accesses, 2);
    VkBufferCopy region = {.srcOffset = from.offset, .dstOffset = to.offset, .size = from.bytes};
    vkCmdCopyBuffer(command->handle, from.buffer->handle, to.buffer->handle, 1, &region);
    timer_command_sample(command, "copy");
}

void gpu_clear(struct gpu_command *command, struct gpu_range range)
{
    check_range(command, range);
    if (!recording(command) || range.bytes == 0)
        return;
    struct hazard_access access = access_of(range, true);
    order(command, &access, 1);
    vkCmdFillBuffer(command->handle, range.buffer->handle, range.offset, range.bytes, 0);
    timer_command_sample(command, "clear");
}

void gpu_label(struct gpu_command *command, const char *label)
{
    CHECK(command->state == COMMAND_RECORDING);
    command->label = label;
}
