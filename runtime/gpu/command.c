// Commands: what is to be done, in host memory, until it is submitted. Command buffers are recording.c's matter.
#include "runtime/gpu/command.h"

#include "runtime/base/mem.h"
#include "runtime/gpu/gpu_internal.h"

void commands_destroy(struct gpu_device *device)
{
    while (device->commands) {
        struct gpu_command *command = device->commands;
        device->commands = command->next;
        command_list_finish(&command->list);
        mem_free(command);
    }
}

static bool command_names(const struct gpu_command *command, const struct gpu_buffer *buffer)
{
    for (unsigned i = 0; i < command->part_count; i++) {
        const struct recording *known = command->parts[i].known;
        if (known && list_part_names((struct list_part){known->content, known->content_bytes}, buffer))
            return true;
    }
    return list_part_names((struct list_part){command->list.bytes, command->list.size}, buffer);
}

bool commands_name(const struct gpu_device *device, const struct gpu_buffer *buffer)
{
    for (const struct gpu_command *command = device->commands; command; command = command->next)
        if (command->state == COMMAND_RECORDING && command_names(command, buffer))
            return true;
    return false;
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
    struct gpu_command *command = device->commands;
    while (command && command->state != COMMAND_FREE)
        command = command->next;
    if (!command) {
        command = mem_alloc(1, sizeof *command);
        if (!command)
            return SLUICE_ERR_MEMORY;
        command->device = device;
        command->next = device->commands;
        device->commands = command;
    }
    command->state = COMMAND_RECORDING;
    command->timed = device->timers.enabled;
    command->parts[0] = (struct command_part){0};
    command->part_count = 1;
    *out = command;
    return SLUICE_OK;
}

static void command_recycle(struct gpu_command *command)
{
    for (unsigned i = 0; i < command->part_count; i++) {
        struct recording *known = command->parts[i].known;
        if (known && known->tick == UINT64_MAX) // it was not submitted
            known->tick = 0;
    }
    command->list.size = 0;
    command->failure.status = SLUICE_OK;
    command->state = COMMAND_FREE;
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

void gpu_command_cancel(struct gpu_command *command)
{
    if (!command)
        return;
    CHECK(command->state == COMMAND_RECORDING);
    command_recycle(command);
}

// --- submitting -----------------------------------------------------------------------------------------------------

// The first command's failure while recording, if any had one.
static enum sluice_status recorded_failure(struct gpu_command *const *commands, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (commands[i]->failure.status < 0)
            return error_restore(&commands[i]->failure);
    return SLUICE_OK;
}

// The last part makes everything visible to the host.
static enum sluice_status end_parts(struct gpu_command *command)
{
    struct command_part *last = &command->parts[command->part_count - 1];
    if (command->part_count > 1 && !last->known && !last->memo && last->begin == command->list.size) {
        command->part_count--;
        last--;
    }
    if (last->known && last->known->to_host)
        return SLUICE_OK;
    if (last->known)
        command->parts[command->part_count++] = (struct command_part){.begin = command->list.size};
    return command_list_add(&command->list, &(struct list_op){.kind = LIST_TO_HOST}, NULL, NULL) ? SLUICE_OK
                                                                                                 : SLUICE_ERR_MEMORY;
}

static enum sluice_status find_part(struct gpu_command *command, struct command_part *part, uint64_t tick,
                                    struct recording **recording)
{
    struct gpu_device *device = command->device;
    struct list_part content = {.bytes = command->list.bytes + part->begin, .size = part[1].begin - part->begin};
    *recording = part->known;
    if (part->known) {
        replay_use(device, part->known, content);
        recording_use(device, part->known, tick);
        device->usage.replayed++;
        return SLUICE_OK;
    }
    enum sluice_status status = recording_get(device, content, command->timed, tick, recording);
    if (status == SLUICE_OK && part->memo)
        replay_remember(part->memo, part, content, *recording);
    return status;
}

// Command buffers of the command's parts: handles[part_count].
static enum sluice_status find_parts(struct gpu_command *command, uint64_t tick, VkCommandBuffer *handles)
{
    enum sluice_status status;
    TRY(end_parts(command));
    command->parts[command->part_count].begin = command->list.size;
    for (unsigned i = 0; i < command->part_count; i++) {
        struct recording *recording;
        TRY(find_part(command, &command->parts[i], tick, &recording));
        handles[i] = recording->handle;
    }
fail:
    return status;
}

void gpu_submit_fail(struct gpu_device *device, uint64_t index, uint32_t count)
{
    device->submits_before_faults = index;
    device->submit_faults = count;
}

static bool fails_on_purpose(struct gpu_device *device)
{
    if (device->submit_faults == 0)
        return false;
    if (device->submits_before_faults > 0) {
        device->submits_before_faults--;
        return false;
    }
    device->submit_faults--;
    return true;
}

static enum sluice_status submit(struct gpu_command *const *commands, unsigned count)
{
    enum sluice_status status;
    struct gpu_device *device = commands[0]->device;
    uint64_t ticks[GPU_SUBMIT_COMMANDS_MAX];
    VkTimelineSemaphoreSubmitInfo timelines[GPU_SUBMIT_COMMANDS_MAX];
    VkSubmitInfo infos[GPU_SUBMIT_COMMANDS_MAX] = {0};
    VkCommandBuffer handles[GPU_SUBMIT_COMMANDS_MAX][COMMAND_PARTS_MAX];
    for (unsigned i = 0; i < count; i++) {
        ticks[i] = device->tick_last + 1 + i;
        TRY(find_parts(commands[i], ticks[i], handles[i]));
        timelines[i] = (VkTimelineSemaphoreSubmitInfo){.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
                                                       .signalSemaphoreValueCount = 1,
                                                       .pSignalSemaphoreValues = &ticks[i]};
        infos[i] = (VkSubmitInfo){.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                                  .pNext = &timelines[i],
                                  .commandBufferCount = commands[i]->part_count,
                                  .pCommandBuffers = handles[i],
                                  .signalSemaphoreCount = 1,
                                  .pSignalSemaphores = &device->timeline};
    }
    VkResult result = fails_on_purpose(device) ? VK_ERROR_OUT_OF_DEVICE_MEMORY
                                               : vkQueueSubmit(device->queue, count, infos, VK_NULL_HANDLE);
    if (result < 0)
        return vk_error(device, result, "%s: submission %llu", device->caps.device_name,
                        (unsigned long long)device->tick_last + 1);
    device->tick_last += count;
    device->usage.submits++;
    return SLUICE_OK;
fail:
    return status;
}

enum sluice_status gpu_commands_submit(struct gpu_command *const *commands, unsigned count, uint64_t *ticks)
{
    CHECK(count > 0 && count <= GPU_SUBMIT_COMMANDS_MAX);
    struct gpu_device *device = commands[0]->device;
    for (unsigned i = 0; i < count; i++)
        CHECK(commands[i]->state == COMMAND_RECORDING && commands[i]->device == device);
    enum sluice_status status = recorded_failure(commands, count);
    if (status == SLUICE_OK)
        status = submit(commands, count);
    for (unsigned i = 0; i < count; i++) {
        command_recycle(commands[i]);
        if (status == SLUICE_OK && ticks)
            ticks[i] = device->tick_last - count + 1 + i;
    }
    return status;
}

enum sluice_status gpu_command_submit(struct gpu_command *command, uint64_t *tick)
{
    return gpu_commands_submit(&command, 1, tick);
}
