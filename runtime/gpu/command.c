// Command buffers and their life: free, recording, pending until their tick is complete, free again.
#include "runtime/gpu/command.h"

#include "runtime/base/mem.h"
#include "runtime/gpu/gpu_internal.h"

static void command_destroy(struct gpu_command *command)
{
    VkDevice handle = command->device->handle;
    vkDestroyQueryPool(handle, command->queries, NULL);
    vkDestroyCommandPool(handle, command->pool, NULL);
    mem_free(command->samples);
    mem_free(command);
}

void commands_destroy(struct gpu_device *device)
{
    while (device->commands) {
        struct gpu_command *command = device->commands;
        device->commands = command->next;
        command_destroy(command);
    }
}

static enum sluice_status create_handles(struct gpu_command *command)
{
    struct gpu_device *device = command->device;
    VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .flags = VK_COMMAND_POOL_CREATE_TRANSIENT_BIT,
                                    .queueFamilyIndex = device->queue_family};
    VkResult result = vkCreateCommandPool(device->handle, &pool, NULL, &command->pool);
    if (result < 0)
        return vk_error(device, result, "cannot create a command pool");
    VkCommandBufferAllocateInfo buffer = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                          .commandPool = command->pool,
                                          .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                          .commandBufferCount = 1};
    result = vkAllocateCommandBuffers(device->handle, &buffer, &command->handle);
    return result < 0 ? vk_error(device, result, "cannot allocate a command buffer") : SLUICE_OK;
}

static enum sluice_status command_create(struct gpu_device *device, struct gpu_command **out)
{
    enum sluice_status status;
    struct gpu_command *command = mem_alloc(1, sizeof *command);
    if (!command)
        return SLUICE_ERR_MEMORY;
    command->device = device;
    TRY(create_handles(command));
    command->next = device->commands;
    device->commands = command;
    *out = command;
    return SLUICE_OK;
fail:
    command_destroy(command);
    return status;
}

static bool is_done(const struct gpu_device *device, const struct gpu_command *command)
{
    return command->state == COMMAND_FREE || (command->state == COMMAND_PENDING && command->tick <= device->tick_done);
}

static bool all_done(const struct gpu_device *device, uint64_t first, uint64_t last)
{
    for (const struct gpu_command *command = device->commands; command; command = command->next)
        if (command->number >= first && command->number <= last && !is_done(device, command))
            return false;
    return true;
}

bool commands_are_done(struct gpu_device *device, uint64_t first, uint64_t last)
{
    if (device->lost || all_done(device, first, last))
        return true;
    gpu_tick_done(device); // may have moved on
    return all_done(device, first, last);
}

// Makes a finished command free again.
static void command_recycle(struct gpu_command *command)
{
    if (command->state == COMMAND_PENDING)
        timer_command_resolve(command);
    vkResetCommandPool(command->device->handle, command->pool, 0);
    command->bound = VK_NULL_HANDLE;
    command->sample_count = 0;
    command->hazards.count = 0;
    command->failure.status = SLUICE_OK;
    command->label = NULL;
    command->state = COMMAND_FREE;
}

static struct gpu_command *find_free(struct gpu_device *device)
{
    uint64_t done = gpu_tick_done(device);
    for (struct gpu_command *command = device->commands; command; command = command->next) {
        if (command->state == COMMAND_PENDING && command->tick <= done)
            command_recycle(command);
        if (command->state == COMMAND_FREE)
            return command;
    }
    return NULL;
}

static enum sluice_status device_lost(const struct gpu_device *device)
{
    return error_set(SLUICE_ERR_DEVICE, "%s was lost earlier (it hung, was reset or was removed); start again",
                     device->caps.device_name);
}

enum sluice_status gpu_command_begin(struct gpu_device *device, struct gpu_command **out)
{
    *out = NULL;
    if (device->lost)
        return device_lost(device);
    struct gpu_command *command = find_free(device);
    enum sluice_status status = command ? SLUICE_OK : command_create(device, &command);
    if (status < 0)
        return status;
    VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                     .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    VkResult result = vkBeginCommandBuffer(command->handle, &info);
    if (result < 0)
        return vk_error(device, result, "cannot begin a command buffer");
    command->state = COMMAND_RECORDING;
    command->number = ++device->commands_begun;
    command_barrier(command);
    status = timer_command_begin(command);
    if (status < 0) {
        command_recycle(command);
        return status;
    }
    *out = command;
    return SLUICE_OK;
}

void command_keep_failure(struct gpu_command *command, enum sluice_status status)
{
    if (command->failure.status == SLUICE_OK)
        error_save(&command->failure, status);
}

void gpu_command_fail(struct gpu_command *command, enum sluice_status status)
{
    CHECK(command->state == COMMAND_RECORDING && status < 0);
    command_keep_failure(command, status);
}

static void barrier_to_host(struct gpu_command *command)
{
    VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                               .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
                               .dstAccessMask = VK_ACCESS_HOST_READ_BIT};
    vkCmdPipelineBarrier(command->handle, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                         VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &barrier, 0, NULL, 0, NULL);
}

static enum sluice_status submit(struct gpu_command *const *commands, unsigned count)
{
    struct gpu_device *device = commands[0]->device;
    uint64_t ticks[GPU_SUBMIT_COMMANDS_MAX];
    VkTimelineSemaphoreSubmitInfo timelines[GPU_SUBMIT_COMMANDS_MAX];
    VkSubmitInfo infos[GPU_SUBMIT_COMMANDS_MAX] = {0};
    VkResult result = VK_SUCCESS;
    for (unsigned i = 0; i < count && result >= 0; i++) {
        ticks[i] = device->tick_last + 1 + i;
        timelines[i] = (VkTimelineSemaphoreSubmitInfo){.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
                                                       .signalSemaphoreValueCount = 1,
                                                       .pSignalSemaphoreValues = &ticks[i]};
        infos[i] = (VkSubmitInfo){.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                                  .pNext = &timelines[i],
                                  .commandBufferCount = 1,
                                  .pCommandBuffers = &commands[i]->handle,
                                  .signalSemaphoreCount = 1,
                                  .pSignalSemaphores = &device->timeline};
        result = vkEndCommandBuffer(commands[i]->handle);
    }
    if (result >= 0)
        result = vkQueueSubmit(device->queue, count, infos, VK_NULL_HANDLE);
    if (result < 0)
        return vk_error(device, result, "%s: submission %llu", device->caps.device_name,
                        (unsigned long long)device->tick_last + 1);
    for (unsigned i = 0; i < count; i++) {
        commands[i]->tick = ticks[i];
        commands[i]->state = COMMAND_PENDING;
    }
    device->tick_last += count;
    device->usage.submits++;
    return SLUICE_OK;
}

// The first command's failure while recording, if any had one.
static enum sluice_status recorded_failure(struct gpu_command *const *commands, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (commands[i]->failure.status < 0)
            return error_restore(&commands[i]->failure);
    return SLUICE_OK;
}

enum sluice_status gpu_commands_submit(struct gpu_command *const *commands, unsigned count, uint64_t *ticks)
{
    CHECK(count > 0 && count <= GPU_SUBMIT_COMMANDS_MAX);
    for (unsigned i = 0; i < count; i++)
        CHECK(commands[i]->state == COMMAND_RECORDING && commands[i]->device == commands[0]->device);
    enum sluice_status status = recorded_failure(commands, count);
    if (status == SLUICE_OK) {
        for (unsigned i = 0; i < count; i++)
            barrier_to_host(commands[i]);
        status = submit(commands, count);
    }
    for (unsigned i = 0; i < count; i++) {
        if (status < 0)
            command_recycle(commands[i]);
        else if (ticks)
            ticks[i] = commands[i]->tick;
    }
    return status;
}

enum sluice_status gpu_command_submit(struct gpu_command *command, uint64_t *tick)
{
    return gpu_commands_submit(&command, 1, tick);
}

void gpu_command_cancel(struct gpu_command *command)
{
    if (!command)
        return;
    CHECK(command->state == COMMAND_RECORDING);
    command_recycle(command);
}

// Times of finished commands are added when they are reused; here for those that have not been yet.
void gpu_times(struct gpu_device *device, gpu_time_visit *visit, void *user)
{
    uint64_t done = gpu_tick_done(device);
    for (struct gpu_command *command = device->commands; command; command = command->next)
        if (command->state == COMMAND_PENDING && command->tick <= done)
            command_recycle(command);
    for (unsigned i = 0; visit && i < device->timers.count; i++) {
        const struct gpu_timer_entry *entry = &device->timers.entries[i];
        visit(user, entry->label, entry->total_ns, entry->count);
    }
}
