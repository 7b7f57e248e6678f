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

static enum sluice_status bind(struct gpu_command *command, const struct gpu_kernel *kernel,
                               const struct gpu_range *ranges, unsigned count)
{
    VkDescriptorSet set;
    enum sluice_status status = set_cache_get(command, ranges, count, &set);
    if (status < 0)
        return status;
    if (command->bound != kernel->pipeline)
        vkCmdBindPipeline(command->handle, VK_PIPELINE_BIND_POINT_COMPUTE, kernel->pipeline);
    command->bound = kernel->pipeline;
    vkCmdBindDescriptorSets(command->handle, VK_PIPELINE_BIND_POINT_COMPUTE, kernel->layout, 0, 1, &set, 0, NULL);
    return SLUICE_OK;
}

static void check_binding(const struct gpu_command *command, struct gpu_range range)
{
    check_range(command, range);
    CHECK(range.bytes > 0 && range.bytes <= command->device->caps.max_buffer_bytes);
    CHECK(range.offset % command->device->caps.buffer_alignment == 0);
    CHECK(!range.buffer->copies_only);
}

void gpu_dispatch(struct gpu_command *command, const struct gpu_kernel *kernel, const struct gpu_range *ranges,
                  unsigned count, const void *push, size_t push_bytes, uint32_t groups_x, uint32_t groups_y,
                  uint32_t groups_z)
{
    if (!recording(command) || groups_x == 0 || groups_y == 0 || groups_z == 0)
        return;
    const struct shader_module *module = kernel->module;
    const struct gpu_caps *caps = &command->device->caps;
    unsigned more = module->array_count - 1; // ranges of binding 0 beside the first
    CHECK(count == module->binding_count + more && push_bytes == module->push_bytes);
    CHECK(groups_x <= caps->max_groups_x && groups_y <= caps->max_groups_y && groups_z <= caps->max_groups_z);
    struct hazard_access accesses[SHADER_BUFFERS_MAX];
    for (unsigned i = 0; i < count; i++) {
        check_binding(command, ranges[i]);
        accesses[i] = access_of(ranges[i], module->written_mask >> (i > more ? i - more : 0) & 1);
    }
    enum sluice_status status = bind(command, kernel, ranges, count);
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
