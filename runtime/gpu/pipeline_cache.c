// The driver's cache of compiled kernels, kept between runs: a header of ours, then what the driver gave out. Drivers
// check that their part is theirs, but not all of them that it is whole.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/small_file.h"
#include "runtime/gpu/gpu_internal.h"

enum { NAME_BYTES = 64, BYTES_MAX = 64 << 20 };

struct header {
    char magic[8];
    uint64_t data_hash;
};

static const char magic[8] = "SLPIPE1";

// One file per device and driver: a new driver has another version, and another UUID of its caches.
static void file_name(VkPhysicalDevice physical, char name[NAME_BYTES])
{
    VkPhysicalDeviceProperties p;
    vkGetPhysicalDeviceProperties(physical, &p);
    const uint32_t ids[] = {p.vendorID, p.deviceID, p.driverVersion};
    uint64_t hash = XXH3_64bits_withSeed(p.pipelineCacheUUID, sizeof p.pipelineCacheUUID, XXH3_64bits(ids, sizeof ids));
    snprintf(name, NAME_BYTES, "pipelines-%016" PRIx64 ".bin", hash);
}

static bool is_whole(const char *file, size_t bytes)
{
    struct header header;
    if (bytes < sizeof header)
        return false;
    memcpy(&header, file, sizeof header);
    return memcmp(header.magic, magic, sizeof magic) == 0 &&
           header.data_hash == XXH3_64bits(file + sizeof header, bytes - sizeof header);
}

// What an earlier run left, or nothing. *file is released with mem_free.
static void load(const struct gpu_device *device, char **file, size_t *bytes)
{
    char name[NAME_BYTES];
    *file = NULL;
    *bytes = 0;
    if (!device->cache_folder)
        return;
    file_name(device->physical, name);
    if (small_file_read(device->cache_folder, name, BYTES_MAX, file, bytes) < 0)
        return;
    if (is_whole(*file, *bytes)) {
        log_message(LOG_DEBUG, "compiled kernels: %zu bytes from %s/%s", *bytes, device->cache_folder, name);
        return;
    }
    log_message(LOG_DEBUG, "compiled kernels: %s/%s is damaged; compiling anew", device->cache_folder, name);
    mem_free(*file);
    *file = NULL;
}

enum sluice_status pipeline_cache_create(struct gpu_device *device, const char *folder)
{
    char *file;
    size_t bytes;
    if (folder && !(device->cache_folder = mem_strndup(folder, strlen(folder))))
        return SLUICE_ERR_MEMORY;
    load(device, &file, &bytes);
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
    if (file) {
        info.initialDataSize = bytes - sizeof(struct header);
        info.pInitialData = file + sizeof(struct header);
    }
    VkResult result = vkCreatePipelineCache(device->handle, &info, NULL, &device->pipeline_cache);
    mem_free(file);
    device->cache_loaded_bytes = info.initialDataSize;
    return result < 0 ? vk_error(device, result, "cannot create the pipeline cache") : SLUICE_OK;
}

// Only if there is something new in it: what cannot be kept is compiled again.
static void save(const struct gpu_device *device)
{
    char name[NAME_BYTES];
    size_t bytes = 0;
    VkResult result = vkGetPipelineCacheData(device->handle, device->pipeline_cache, &bytes, NULL);
    if (result < 0 || bytes == device->cache_loaded_bytes || bytes > BYTES_MAX - sizeof(struct header))
        return;
    char *file = mem_alloc(sizeof(struct header) + bytes, 1);
    if (!file)
        return;
    result = vkGetPipelineCacheData(device->handle, device->pipeline_cache, &bytes, file + sizeof(struct header));
    struct header header = {.data_hash = XXH3_64bits(file + sizeof header, bytes)};
    memcpy(header.magic, magic, sizeof magic);
    memcpy(file, &header, sizeof header);
    file_name(device->physical, name);
    if (result == VK_SUCCESS && small_file_write(device->cache_folder, name, file, sizeof header + bytes) < 0)
        log_message(LOG_DEBUG, "%s; compiled kernels are not kept", error_message());
    mem_free(file);
}

void pipeline_cache_destroy(struct gpu_device *device)
{
    if (device->pipeline_cache && device->cache_folder && !device->lost)
        save(device);
    vkDestroyPipelineCache(device->handle, device->pipeline_cache, NULL);
}
