#include "runtime/model/stager.h"

#include <string.h>

#include "runtime/base/integer.h"

enum sluice_status stager_create(struct gpu_device *device, uint64_t bytes, const char *label, struct stager *stager)
{
    *stager = (struct stager){.device = device, .bytes = bytes};
    return gpu_buffer_create(device, GPU_MEMORY_UPLOAD, bytes, label, &stager->buffer);
}

void stager_finish(struct stager *stager)
{
    if (stager->command)
        gpu_command_cancel(stager->command);
    gpu_buffer_destroy(stager->buffer);
    *stager = (struct stager){.device = NULL};
}

enum sluice_status stager_flush(struct stager *stager)
{
    if (!stager->command)
        return SLUICE_OK;
    uint64_t tick;
    enum sluice_status status = gpu_command_submit(stager->command, &tick);
    stager->command = NULL;
    stager->used = 0;
    return status < 0 ? status : gpu_wait(stager->device, tick);
}

enum sluice_status stager_put(struct stager *stager, const void *data, struct gpu_range to)
{
    enum sluice_status status = SLUICE_OK;
    const uint8_t *from = data;
    while (to.bytes > 0) {
        if (stager->used == stager->bytes)
            TRY(stager_flush(stager));
        if (!stager->command)
            TRY(gpu_command_begin(stager->device, &stager->command));
        uint64_t bytes = u64_min(to.bytes, stager->bytes - stager->used);
        memcpy((uint8_t *)gpu_buffer_map(stager->buffer) + stager->used, from, bytes);
        gpu_copy(stager->command, gpu_range_make(stager->buffer, stager->used, bytes), gpu_range_part(to, 0, bytes));
        stager->used += bytes; // everything is a multiple of 4
        from += bytes;
        to = gpu_range_part(to, bytes, to.bytes - bytes);
    }
fail:
    return status;
}
