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

static enum sluice_status create_queries(struct gpu_device *device, struct recording *recording)
{
    recording->samples = mem_alloc(RECORDING_SAMPLES_MAX, sizeof *recording->samples);
    if (!recording->samples)
        return SLUICE_ERR_MEMORY;
    VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                  .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                  .queryCount = RECORDING_SAMPLES_MAX + 1};
    VkResult result = vkCreateQueryPool(device->handle, &info, NULL, &recording->queries);
    if (result >= 0)
        return SLUICE_OK;
    mem_free(recording->samples);
    recording->samples = NULL;
    return vk_error(device, result, "cannot create a query pool");
}

static void write_timestamp(struct recording *recording, uint32_t index)
{
    vkCmdWriteTimestamp(recording->handle, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, recording->queries, index);
}

enum sluice_status timer_begin(struct gpu_device *device, struct recording *recording, bool timed)
{
    recording->timed = timed;
    if (!timed)
        return SLUICE_OK;
    enum sluice_status status = recording->queries ? SLUICE_OK : create_queries(device, recording);
    if (status < 0)
        return status;
    vkCmdResetQueryPool(recording->handle, recording->queries, 0, RECORDING_SAMPLES_MAX + 1);
    write_timestamp(recording, 0);
    return SLUICE_OK;
}

// Operations beyond RECORDING_SAMPLES_MAX in one recording are not measured.
void timer_sample(struct recording *recording, const char *kernel, const char *label)
{
    if (!recording->timed || recording->sample_count == RECORDING_SAMPLES_MAX)
        return;
    recording->samples[recording->sample_count++] = (struct recording_sample){.kernel = kernel, .label = label};
    write_timestamp(recording, recording->sample_count);
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

static void add_samples(struct gpu_device *device, const struct recording *recording)
{
    struct gpu_timers *timers = &device->timers;
    uint64_t values[64], previous = 0;
    for (unsigned i = 0; i <= recording->sample_count; i++) {
        unsigned place = i % 64;
        unsigned left = recording->sample_count + 1 - i;
        unsigned batch = left < 64 ? left : 64;
        if (place == 0 && vkGetQueryPoolResults(device->handle, recording->queries, i, batch, batch * sizeof values[0],
                                                values, sizeof values[0], VK_QUERY_RESULT_64_BIT) != VK_SUCCESS)
            return;
        uint64_t ticks = (values[place] - previous) & timers->mask;
        previous = values[place];
        if (i == 0)
            continue;
        const struct recording_sample *sample = &recording->samples[i - 1];
        uint64_t ns = (uint64_t)((double)ticks * timers->period_ns);
        charge(timers, sample->kernel, true, ns);
        charge(timers, sample->label, false, ns);
    }
}

void timer_resolve(struct gpu_device *device, struct recording *recording)
{
    if (recording->sample_count > 0)
        add_samples(device, recording);
    recording->sample_count = 0;
}

// Times of complete recordings are added when they are used again; here for those that have not been yet.
void gpu_times(struct gpu_device *device, gpu_time_visit *visit, void *user)
{
    recordings_resolve(device);
    for (unsigned i = 0; visit && i < device->timers.count; i++) {
        const struct gpu_timer_entry *entry = &device->timers.entries[i];
        visit(user, entry->label, entry->total_ns, entry->count);
    }
}
