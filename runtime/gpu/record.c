// What can be recorded into a command: checked here and kept as data. recording.c makes a command buffer of it, or
// replay.c finds one that does the same.
#include <string.h>

#include "runtime/gpu/gpu_internal.h"

static bool is_recording(const struct gpu_command *command)
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

static void check_binding(const struct gpu_command *command, struct gpu_range range)
{
    check_range(command, range);
    CHECK(range.bytes > 0 && range.bytes <= command->device->caps.max_buffer_bytes);
    CHECK(range.offset % command->device->caps.buffer_alignment == 0);
    CHECK(!range.buffer->copies_only);
}

static void add(struct gpu_command *command, const struct list_op *op, const struct gpu_range *ranges, const void *push)
{
    for (uint32_t i = 0; i < op->range_count; i++)
        if (!ranges[i].buffer->is_named)
            ranges[i].buffer->is_named = true;
    if (!command_list_add(&command->list, op, ranges, push))
        command_keep_failure(command, SLUICE_ERR_MEMORY);
}

void gpu_dispatch(struct gpu_command *command, const struct gpu_kernel *kernel, const struct gpu_range *ranges,
                  unsigned count, const void *push, size_t push_bytes, uint32_t groups_x, uint32_t groups_y,
                  uint32_t groups_z)
{
    if (!is_recording(command) || groups_x == 0 || groups_y == 0 || groups_z == 0)
        return;
    const struct shader_module *module = kernel->module;
    const struct gpu_caps *caps = &command->device->caps;
    CHECK(count == module->binding_count + module->array_count - 1 && push_bytes == module->push_bytes);
    const struct command_part *part = &command->parts[command->part_count - 1];
    unsigned left_out = 0;
    if (part->has_array && module->array_count > 1) {
        struct list_part list = {command->list.bytes + part->begin, command->list.size - part->begin};
        left_out = SHADER_ARRAY_BUFFERS;
        CHECK(memcmp(ranges, list_part_array(list), left_out * sizeof *ranges) == 0);
    }
    CHECK(groups_x <= caps->max_groups_x && groups_y <= caps->max_groups_y && groups_z <= caps->max_groups_z);
    for (unsigned i = 0; i < count; i++)
        check_binding(command, ranges[i]);
    add(command,
        &(struct list_op){.object = kernel,
                          .kind = LIST_DISPATCH,
                          .range_count = count - left_out,
                          .push_bytes = (uint32_t)push_bytes,
                          .groups = {groups_x, groups_y, groups_z}},
        ranges + left_out, push);
}

void gpu_copy(struct gpu_command *command, struct gpu_range from, struct gpu_range to)
{
    check_range(command, from);
    check_range(command, to);
    CHECK(from.bytes == to.bytes);
    CHECK(from.buffer != to.buffer || from.offset + from.bytes <= to.offset || to.offset + to.bytes <= from.offset);
    if (is_recording(command) && from.bytes > 0)
        add(command, &(struct list_op){.kind = LIST_COPY, .range_count = 2}, (struct gpu_range[]){from, to}, NULL);
}

void gpu_clear(struct gpu_command *command, struct gpu_range range)
{
    check_range(command, range);
    if (is_recording(command) && range.bytes > 0)
        add(command, &(struct list_op){.kind = LIST_CLEAR, .range_count = 1}, &range, NULL);
}

void gpu_label(struct gpu_command *command, const char *label)
{
    if (is_recording(command) && command->timed)
        add(command, &(struct list_op){.object = label, .kind = LIST_LABEL}, NULL, NULL);
}

void gpu_part(struct gpu_command *command)
{
    const struct command_part *last = &command->parts[command->part_count - 1];
    bool plain = !last->known && !last->memo;
    CHECK(command->state == COMMAND_RECORDING);
    if (plain && (last->begin == command->list.size || command->part_count == COMMAND_PARTS_MAX - 1))
        return; // nothing is in it, or only the place of end_parts is left
    command->parts[command->part_count++] = (struct command_part){.begin = command->list.size};
}

// array[SHADER_ARRAY_BUFFERS], of which `count` matter. Where it is known otherwise the rest stays as it was.
static void add_array(struct gpu_command *command, struct command_part *part, struct gpu_range *array, unsigned count,
                      const struct recording *known)
{
    for (unsigned i = 0; i < count; i++)
        check_binding(command, array[i]);
    for (unsigned i = count; known && i < SHADER_ARRAY_BUFFERS; i++)
        array[i] = replay_array(known)[i];
    part->has_array = true;
    add(command, &(struct list_op){.kind = LIST_ARRAY, .range_count = SHADER_ARRAY_BUFFERS}, array, NULL);
}

// array[SHADER_ARRAY_BUFFERS], of which `count` matter, or NULL.
static bool begin_again(struct gpu_command *command, struct gpu_memo *memo, uint64_t key, struct gpu_range *array,
                        unsigned count)
{
    struct replay *replay = &command->device->replay;
    gpu_part(command);
    if (command->timed || !is_recording(command) || command->part_count >= COMMAND_PARTS_MAX - 1)
        return false;
    struct command_part *part = &command->parts[command->part_count - 1];
    struct recording *known = replay_recall(command->device, memo, key, array);
    bool audits = known && ++replay->recalled % REPLAY_AUDIT == 0;
    part->memo = memo;
    if (array)
        add_array(command, part, array, count, audits ? NULL : known);
    if (!known || audits) {
        memo->key = key;
        part->audited = known;
        return false;
    }
    part->known = known;
    known->tick = UINT64_MAX;
    gpu_part(command);
    return true;
}

bool gpu_again(struct gpu_command *command, struct gpu_memo *memo, uint64_t key)
{
    return begin_again(command, memo, key, NULL, 0);
}

bool gpu_again_array(struct gpu_command *command, struct gpu_memo *memo, uint64_t key, const struct gpu_range *ranges,
                     unsigned count)
{
    struct gpu_range array[SHADER_ARRAY_BUFFERS];
    CHECK(count > 0 && count <= SHADER_ARRAY_BUFFERS);
    for (unsigned i = 0; i < SHADER_ARRAY_BUFFERS; i++)
        array[i] = ranges[i < count ? i : count - 1];
    return begin_again(command, memo, key, array, count);
}
