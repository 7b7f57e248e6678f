// GPU time. A timestamp is written behind every operation, when it and everything before it is complete; the time
// between two neighbours is charged to the later one. So the times add up to the whole even where operations overlap,
// and measuring adds no barriers.
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/gpu/gpu_internal.h"

void timers_init(struct gpu_timers *timers, const struct device_support *support, bool wanted)
{
    uint32_t bits = support->timestamp_bits;
    timers->possible = bits > 0;
    timers->enabled = wanted && bits > 0;
    timers->period_ns = (double)support->properties.limits.timestampPeriod;
    timers->mask = bits < 64 ? (UINT64_C(1) << bits) - 1 : UINT64_MAX;
    if (wanted && !timers->enabled)
        log_message(LOG_WARNING, "%s has no timestamps on its compute queue: no kernel times",
                    support->properties.deviceName);
}

void timers_finish(struct gpu_timers *timers)
{
    mem_free(timers->entries);
}

bool gpu_times_enable(struct gpu_device *device, bool enable)
{
    device->timers.enabled = enable && device->timers.possible;
    return device->timers.enabled;
}

bool gpu_times_enabled(const struct gpu_device *device)
{
    return device->timers.enabled;
}

void gpu_times_reset(struct gpu_device *device)
{
    gpu_times(device, NULL, NULL);
    device->timers.count = 0;
}

static enum sluice_status create_queries(struct gpu_command *command)
{
    struct gpu_device *device = command->device;
    command->samples = mem_alloc(COMMAND_SAMPLES_MAX, sizeof *command->samples);
    if (!command->samples)
        return SLUICE_ERR_MEMORY;
    VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                  .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                  .queryCount = COMMAND_SAMPLES_MAX + 1};
    VkResult result = vkCreateQueryPool(device->handle, &info, NULL, &command->queries);
    if (result >= 0)
        return SLUICE_OK;
    mem_free(command->samples);
    command->samples = NULL;
    return vk_error(device, result, "cannot create a query pool");
}

static void write_timestamp(struct gpu_command *command, uint32_t index)
{
    vkCmdWriteTimestamp(command->handle, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, command->queries, index);
}

enum sluice_status timer_command_begin(struct gpu_command *command)
{
    command->timed = command->device->timers.enabled;
    if (!command->timed)
        return SLUICE_OK;
    enum sluice_status status = command->queries ? SLUICE_OK : create_queries(command);
    if (status < 0)
        return status;
    vkCmdResetQueryPool(command->handle, command->queries, 0, COMMAND_SAMPLES_MAX + 1);
    write_timestamp(command, 0);
    return SLUICE_OK;
}

// Operations beyond COMMAND_SAMPLES_MAX in one command are not measured.
void timer_command_sample(struct gpu_command *command, const char *kernel)
{
    if (!command->timed || command->sample_count == COMMAND_SAMPLES_MAX)
        return;
    command->samples[command->sample_count++] = (struct command_sample){.kernel = kernel, .label = command->label};
    write_timestamp(command, command->sample_count);
}

// The entry for a label; NULL when memory is out (the sample is then lost, which is no reason to fail).
static struct gpu_timer_entry *entry_get(struct gpu_timers *timers, const char *label, bool is_kernel)
{
    for (unsigned i = 0; i < timers->count; i++)
        if (timers->entries[i].is_kernel == is_kernel && strcmp(timers->entries[i].label, label) == 0)
            return &timers->entries[i];
    if (timers->count == timers->capacity) {
        unsigned capacity = timers->capacity ? timers->capacity * 2 : 64;
        struct gpu_timer_entry *entries = mem_realloc(timers->entries, capacity, sizeof *entries);
        if (!entries)
            return NULL;
        timers->entries = entries;
        timers->capacity = capacity;
    }
    struct gpu_timer_entry *entry = &timers->entries[timers->count++];
    *entry = (struct gpu_timer_entry){.label = label, .is_kernel = is_kernel};
    return entry;
}

static void charge(struct gpu_timers *timers, const char *label, bool is_kernel, uint64_t ns)
{
    struct gpu_timer_entry *entry = label ? entry_get(timers, label, is_kernel) : NULL;
    if (!entry)
        return;
    entry->total_ns += ns;
    entry->count++;
}

void timer_command_resolve(struct gpu_command *command)
{
    struct gpu_timers *timers = &command->device->timers;
    uint64_t values[64], previous = 0;
    if (command->sample_count == 0)
        return;
    for (unsigned i = 0; i <= command->sample_count; i++) {
        unsigned place = i % 64;
        unsigned left = command->sample_count + 1 - i;
        unsigned batch = left < 64 ? left : 64;
        if (place == 0 &&
            vkGetQueryPoolResults(command->device->handle, command->queries, i, batch, batch * sizeof values[0], values,
                                  sizeof values[0], VK_QUERY_RESULT_64_BIT) != VK_SUCCESS)
            return;
        uint64_t ticks = (values[place] - previous) & timers->mask;
        previous = values[place];
        if (i == 0)
            continue;
        const struct command_sample *sample = &command->samples[i - 1];
        uint64_t ns = (uint64_t)((double)ticks * timers->period_ns);
        charge(timers, sample->kernel, true, ns);
        charge(timers, sample->label, false, ns);
    }
}
