// Command buffers. One is made of a part of a command's list, with the barriers that its operations need, and is either
// used once or kept (replay.c) and submitted again.
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/gpu/gpu_internal.h"

// --- their life -----------------------------------------------------------------------------------------------------

static void recording_destroy(struct gpu_device *device, struct recording *recording)
{
    vkDestroyQueryPool(device->handle, recording->queries, NULL);
    mem_free(recording->samples);
    mem_free(recording);
}

void recordings_finish(struct gpu_device *device)
{
    while (device->recordings) {
        struct recording *recording = device->recordings;
        device->recordings = recording->next;
        recording_destroy(device, recording);
    }
    vkDestroyCommandPool(device->handle, device->command_pool, NULL); // and its command buffers
}

void recordings_resolve(struct gpu_device *device)
{
    uint64_t done = gpu_tick_done(device);
    for (struct recording *recording = device->recordings; recording; recording = recording->next)
        if (recording->tick <= done)
            timer_resolve(device, recording);
}

static enum sluice_status pool_create(struct gpu_device *device)
{
    VkCommandPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                    .queueFamilyIndex = device->queue_family};
    VkResult result = vkCreateCommandPool(device->handle, &info, NULL, &device->command_pool);
    return result < 0 ? vk_error(device, result, "cannot create a command pool") : SLUICE_OK;
}

static enum sluice_status recording_create(struct gpu_device *device, struct recording **out)
{
    enum sluice_status status = device->command_pool ? SLUICE_OK : pool_create(device);
    if (status < 0)
        return status;
    struct recording *recording = mem_alloc(1, sizeof *recording);
    if (!recording)
        return SLUICE_ERR_MEMORY;
    VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                        .commandPool = device->command_pool,
                                        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                        .commandBufferCount = 1};
    VkResult result = vkAllocateCommandBuffers(device->handle, &info, &recording->handle);
    if (result < 0) {
        mem_free(recording);
        return vk_error(device, result, "cannot allocate a command buffer");
    }
    device->usage.command_buffers++;
    *out = recording;
    return SLUICE_OK;
}

// Takes one out of the list whose submission is complete, or makes one.
static enum sluice_status take_idle(struct gpu_device *device, struct recording **out)
{
    gpu_tick_done(device);
    for (struct recording **at = &device->recordings; *at; at = &(*at)->next) {
        if ((*at)->tick > device->tick_done)
            continue;
        *out = *at;
        *at = (*out)->next;
        timer_resolve(device, *out);
        return SLUICE_OK;
    }
    return recording_create(device, out);
}

void recording_put_back(struct gpu_device *device, struct recording *recording)
{
    recording->next = device->recordings;
    device->recordings = recording;
}

// --- what goes into them --------------------------------------------------------------------------------------------

// A recording in the making.
struct encoder {
    struct gpu_device *device;
    struct recording *recording;
    VkPipeline bound; // by the last dispatch
    const char *label;
    const struct gpu_range *array; // of the part, or NULL
    uint64_t tick;                 // of the submission
    bool keep;                     // it will be submitted again
};

static void barrier(struct encoder *e)
{
    const VkPipelineStageFlags stages = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    const VkAccessFlags writes = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
    VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                               .srcAccessMask = writes,
                               .dstAccessMask = writes | VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_TRANSFER_READ_BIT};
    vkCmdPipelineBarrier(e->recording->handle, stages, stages, 0, 1, &barrier, 0, NULL, 0, NULL);
    e->recording->barriers++;
}

static void barrier_to_host(struct encoder *e)
{
    VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                               .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
                               .dstAccessMask = VK_ACCESS_HOST_READ_BIT};
    vkCmdPipelineBarrier(e->recording->handle, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                         VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &barrier, 0, NULL, 0, NULL);
}

static struct hazard_access access_of(struct gpu_range range, bool written)
{
    return (struct hazard_access){
        .buffer = range.buffer, .begin = range.offset, .end = range.offset + range.bytes, .written = written};
}

static void order(struct encoder *e, const struct hazard_access *accesses, unsigned count)
{
    if (hazard_add(&e->device->hazards, accesses, count))
        barrier(e);
}

// `own`: the array among the ranges may become another one.
static enum sluice_status bind(struct encoder *e, const struct gpu_kernel *kernel, const struct gpu_range *ranges,
                               unsigned count, bool own)
{
    struct cached_set *set;
    VkCommandBuffer to = e->recording->handle;
    enum sluice_status status = (own ? set_cache_get_own : set_cache_get)(e->device, ranges, count, e->tick, &set);
    if (status < 0)
        return status;
    if (e->keep)
        replay_hold(e->device, e->recording, set);
    VkDescriptorSet handle = set_cache_handle(set);
    if (e->bound != kernel->pipeline)
        vkCmdBindPipeline(to, VK_PIPELINE_BIND_POINT_COMPUTE, kernel->pipeline);
    e->bound = kernel->pipeline;
    vkCmdBindDescriptorSets(to, VK_PIPELINE_BIND_POINT_COMPUTE, kernel->layout, 0, 1, &handle, 0, NULL);
    return SLUICE_OK;
}

static enum sluice_status encode_dispatch(struct encoder *e, const struct list_op *op)
{
    const struct gpu_kernel *kernel = op->object;
    const struct shader_module *module = kernel->module;
    unsigned more = module->array_count - 1; // ranges of binding 0 beside the first
    bool from_array = op->range_count < module->binding_count;
    unsigned count = 0, first = from_array ? SHADER_ARRAY_BUFFERS : 0; // of the ranges, those that need no barriers
    struct gpu_range ranges[SHADER_BUFFERS_MAX];
    struct hazard_access accesses[SHADER_BUFFERS_MAX];
    CHECK(!from_array || !(module->written_mask & 1));
    if (from_array)
        memcpy(ranges, e->array, SHADER_ARRAY_BUFFERS * sizeof *ranges);
    memcpy(ranges + first, list_op_ranges(op), op->range_count * sizeof *ranges);
    for (unsigned i = first; i < first + op->range_count; i++)
        accesses[count++] = access_of(ranges[i], module->written_mask >> (i > more ? i - more : 0) & 1);
    enum sluice_status status =
        bind(e, kernel, ranges, first + op->range_count, from_array && e->keep && e->device->caps.updates_arrays);
    if (status < 0)
        return status;
    order(e, accesses, count);
    VkCommandBuffer to = e->recording->handle;
    if (op->push_bytes)
        vkCmdPushConstants(to, kernel->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, op->push_bytes, list_op_push(op));
    vkCmdDispatch(to, op->groups[0], op->groups[1], op->groups[2]);
    e->recording->dispatches++;
    timer_sample(e->recording, module->name, e->label);
    return SLUICE_OK;
}

static void encode_copy(struct encoder *e, struct gpu_range from, struct gpu_range to)
{
    order(e, (struct hazard_access[]){access_of(from, false), access_of(to, true)}, 2);
    VkBufferCopy region = {.srcOffset = from.offset, .dstOffset = to.offset, .size = from.bytes};
    vkCmdCopyBuffer(e->recording->handle, from.buffer->handle, to.buffer->handle, 1, &region);
    timer_sample(e->recording, "copy", e->label);
}

static void encode_clear(struct encoder *e, struct gpu_range range)
{
    struct hazard_access access = access_of(range, true);
    order(e, &access, 1);
    vkCmdFillBuffer(e->recording->handle, range.buffer->handle, range.offset, range.bytes, 0);
    timer_sample(e->recording, "clear", e->label);
}

static enum sluice_status encode(struct encoder *e, struct list_part part)
{
    enum sluice_status status = SLUICE_OK;
    size_t at = 0;
    e->device->hazards.count = 0;
    barrier(e); // behind everything that was submitted before
    for (const struct list_op *op = list_part_next(part, &at); op; op = list_part_next(part, &at)) {
        const struct gpu_range *ranges = list_op_ranges(op);
        switch ((enum list_op_kind)op->kind) {
        case LIST_DISPATCH:
            TRY(encode_dispatch(e, op));
            break;
        case LIST_COPY:
            encode_copy(e, ranges[0], ranges[1]);
            break;
        case LIST_CLEAR:
            encode_clear(e, ranges[0]);
            break;
        case LIST_LABEL:
            e->label = op->object;
            break;
        case LIST_ARRAY:
            e->array = ranges;
            break;
        case LIST_TO_HOST:
            barrier_to_host(e);
            break;
        }
    }
fail:
    return status;
}

static enum sluice_status begin_encode_end(struct encoder *e, struct list_part part, bool timed)
{
    enum sluice_status status;
    struct gpu_device *device = e->device;
    struct recording *recording = e->recording;
    VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                     .flags = e->keep ? 0 : VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    VkResult result = vkBeginCommandBuffer(recording->handle, &info);
    if (result < 0)
        return vk_error(device, result, "cannot begin a command buffer");
    recording->dispatches = recording->barriers = 0;
    TRY(timer_begin(device, recording, timed));
    TRY(encode(e, part));
    result = vkEndCommandBuffer(recording->handle);
    if (result < 0)
        TRY(vk_error(device, result, "cannot record %u dispatches", recording->dispatches));
    return SLUICE_OK;
fail:
    vkResetCommandBuffer(recording->handle, 0);
    recording->sample_count = 0;
    return status;
}

static enum sluice_status record(struct gpu_device *device, struct list_part part, bool timed, bool keep, uint64_t tick,
                                 struct recording **out)
{
    enum sluice_status status;
    struct recording *recording = NULL;
    TRY(take_idle(device, &recording));
    keep = keep && replay_prepare(recording, part);
    struct encoder encoder = {.device = device, .recording = recording, .keep = keep, .tick = tick};
    status = begin_encode_end(&encoder, part, timed);
    if (status < 0)
        replay_release(device, recording);
    if (status < 0 || !keep)
        recording_put_back(device, recording);
    else
        replay_keep(device, recording);
    *out = recording;
fail:
    return status;
}

void recording_use(struct gpu_device *device, struct recording *recording, uint64_t tick)
{
    recording->tick = tick;
    device->usage.dispatches += recording->dispatches;
    device->usage.barriers += recording->barriers;
}

enum sluice_status recording_get(struct gpu_device *device, struct list_part part, bool timed, uint64_t tick,
                                 struct recording **out)
{
    enum sluice_status status = SLUICE_OK;
    bool keep = false;
    *out = timed ? NULL : replay_find(device, part, &keep);
    if (*out) {
        device->usage.replayed++;
    } else {
        TRY(record(device, part, timed, keep, tick, out));
        device->usage.recorded++;
    }
    recording_use(device, *out, tick);
fail:
    return status;
}
