// Descriptor sets, kept from recording to recording. A decode binds the same ranges token after token, and allocating
// and filling a set costs more than everything else about a dispatch (lavapipe allocates memory for each). So a set is
// looked up by the ranges that it names, and filled only when no set names them.
//
//   cache -> shelf per number of buffers -> pools of SETS_PER_POOL sets, in one list by last use
//   cache -> buckets by hash of the ranges: the sets that name something
//
// A set may be filled anew only when no submission that binds it is pending, and none can come: a set keeps the tick of
// the last one, and recordings that will be submitted again hold theirs, which are on no shelf meanwhile.
#include <string.h>

#include <xxhash.h>

#include "runtime/base/mem.h"
#include "runtime/gpu/gpu_internal.h"

enum { SETS_PER_POOL = 256 };

struct cached_set {
    VkDescriptorSet handle;
    struct gpu_range *ranges; // [buffers] what it names, in the pool
    unsigned buffers;
    bool is_named; // it is in a bucket; else it names nothing that exists
    uint64_t hash;
    uint64_t last_use; // tick of the last submission that bound it
    unsigned holds;    // by recordings that are kept; while there are any it is not on the shelf
    struct cached_set *bucket_next;
    struct cached_set *older, *newer; // on the shelf
};

struct set_pool {
    VkDescriptorPool handle;
    struct cached_set *sets;  // [SETS_PER_POOL], owned
    struct gpu_range *ranges; // [SETS_PER_POOL][buffers], owned
};

// --- lists ----------------------------------------------------------------------------------------------------------

static void shelf_take_out(struct set_shelf *shelf, struct cached_set *set)
{
    *(set->older ? &set->older->newer : &shelf->oldest) = set->newer;
    *(set->newer ? &set->newer->older : &shelf->newest) = set->older;
}

static void shelf_put_newest(struct set_shelf *shelf, struct cached_set *set)
{
    set->older = shelf->newest;
    set->newer = NULL;
    *(shelf->newest ? &shelf->newest->newer : &shelf->oldest) = set;
    shelf->newest = set;
}

static void shelf_put_oldest(struct set_shelf *shelf, struct cached_set *set)
{
    set->older = NULL;
    set->newer = shelf->oldest;
    *(shelf->oldest ? &shelf->oldest->older : &shelf->newest) = set;
    shelf->oldest = set;
}

static struct cached_set **bucket_of(struct set_cache *cache, uint64_t hash)
{
    return &cache->buckets[hash % SET_CACHE_BUCKETS];
}

static void give_name(struct set_cache *cache, struct cached_set *set, uint64_t hash)
{
    struct cached_set **bucket = bucket_of(cache, hash);
    set->hash = hash;
    set->is_named = true;
    set->bucket_next = *bucket;
    *bucket = set;
}

static void take_name(struct set_cache *cache, struct cached_set *set)
{
    struct cached_set **at = bucket_of(cache, set->hash);
    while (*at != set)
        at = &(*at)->bucket_next;
    *at = set->bucket_next;
    set->is_named = false;
}

// Whether binding 0 of sets of so many buffers is an array: see gpu_device.set_layouts.
static bool has_array(unsigned buffers)
{
    return buffers > SHADER_BINDINGS_MAX;
}

// --- pools ----------------------------------------------------------------------------------------------------------

static void pool_finish(struct gpu_device *device, struct set_pool *pool)
{
    vkDestroyDescriptorPool(device->handle, pool->handle, NULL);
    mem_free(pool->sets);
    mem_free(pool->ranges);
}

static enum sluice_status pool_init(struct gpu_device *device, unsigned buffers, struct set_pool *pool)
{
    *pool = (struct set_pool){.sets = mem_alloc(SETS_PER_POOL, sizeof *pool->sets),
                              .ranges = mem_alloc((size_t)SETS_PER_POOL * buffers, sizeof *pool->ranges)};
    if (!pool->sets || !pool->ranges)
        return SLUICE_ERR_MEMORY;
    VkDescriptorPoolSize size = {.type = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, .descriptorCount = SETS_PER_POOL * buffers};
    bool updates = has_array(buffers) && device->caps.updates_arrays;
    VkDescriptorPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                       .flags = updates ? VK_DESCRIPTOR_POOL_CREATE_UPDATE_AFTER_BIND_BIT : 0,
                                       .maxSets = SETS_PER_POOL,
                                       .poolSizeCount = 1,
                                       .pPoolSizes = &size};
    VkResult result = vkCreateDescriptorPool(device->handle, &info, NULL, &pool->handle);
    return result < 0 ? vk_error(device, result, "cannot create a descriptor pool") : SLUICE_OK;
}

static enum sluice_status add_pool(struct gpu_device *device, unsigned buffers)
{
    struct set_shelf *shelf = &device->sets.shelves[buffers];
    struct set_pool *pools = mem_realloc(shelf->pools, shelf->pool_count + 1, sizeof *pools);
    if (!pools)
        return SLUICE_ERR_MEMORY;
    shelf->pools = pools;
    enum sluice_status status = pool_init(device, buffers, &pools[shelf->pool_count]);
    if (status < 0)
        pool_finish(device, &pools[shelf->pool_count]);
    else
        shelf->pool_count++;
    return status;
}

// One more set, from the shelf's last pool.
static enum sluice_status add_set(struct gpu_device *device, unsigned buffers, struct cached_set **out)
{
    enum sluice_status status;
    struct set_shelf *shelf = &device->sets.shelves[buffers];
    if (shelf->count == shelf->pool_count * SETS_PER_POOL)
        TRY(add_pool(device, buffers));
    struct set_pool *pool = &shelf->pools[shelf->pool_count - 1];
    unsigned place = shelf->count % SETS_PER_POOL;
    struct cached_set *set = &pool->sets[place];
    VkDescriptorSetAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                        .descriptorPool = pool->handle,
                                        .descriptorSetCount = 1,
                                        .pSetLayouts = &device->set_layouts[buffers]};
    VkResult result = vkAllocateDescriptorSets(device->handle, &info, &set->handle);
    if (result < 0)
        return vk_error(device, result, "cannot allocate a descriptor set");
    set->ranges = &pool->ranges[(size_t)place * buffers];
    set->buffers = buffers;
    shelf->count++;
    device->sets.count++;
    *out = set;
    return SLUICE_OK;
fail:
    return status;
}

// --- finding and filling --------------------------------------------------------------------------------------------

static struct cached_set *find(struct set_cache *cache, const struct gpu_range *ranges, unsigned buffers, uint64_t hash)
{
    for (struct cached_set *set = *bucket_of(cache, hash); set; set = set->bucket_next)
        if (set->hash == hash && set->buffers == buffers && memcmp(set->ranges, ranges, buffers * sizeof *ranges) == 0)
            return set;
    return NULL;
}

static VkDescriptorBufferInfo buffer_info(const struct gpu_range *range)
{
    return (VkDescriptorBufferInfo){.buffer = range->buffer->handle, .offset = range->offset, .range = range->bytes};
}

static void fill(struct gpu_device *device, struct cached_set *set, const struct gpu_range *ranges, unsigned buffers)
{
    VkDescriptorBufferInfo infos[SHADER_BUFFERS_MAX];
    VkWriteDescriptorSet writes[SHADER_BINDINGS_MAX];
    unsigned more = has_array(buffers) ? SHADER_ARRAY_BUFFERS - 1 : 0; // of binding 0 beside the first
    for (unsigned i = 0; i < buffers; i++)
        infos[i] = buffer_info(&ranges[i]);
    for (unsigned i = 0; i < buffers - more; i++)
        writes[i] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                           .dstSet = set->handle,
                                           .dstBinding = i,
                                           .descriptorCount = i == 0 ? 1 + more : 1,
                                           .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           .pBufferInfo = &infos[i == 0 ? 0 : i + more]};
    vkUpdateDescriptorSets(device->handle, buffers - more, writes, 0, NULL);
    memcpy(set->ranges, ranges, buffers * sizeof *ranges);
    device->usage.sets_filled++;
}

// Sets with an array are few, or never the same again (runtime/model/moe_group.c): filling one anew is much cheaper
// than a new one.
static bool is_full(const struct set_cache *cache, unsigned buffers)
{
    return cache->count >= SET_CACHE_SETS_MAX ||
           (has_array(buffers) && cache->shelves[buffers].count >= SET_CACHE_ARRAYS_MAX);
}

// A set to fill: one whose buffers are gone, else a new one, else the one that was not used for longest. If that is in
// use there are more sets for the time being: as many as the submissions under way bind.
static enum sluice_status take_set(struct gpu_device *device, unsigned buffers, struct cached_set **set)
{
    struct set_cache *cache = &device->sets;
    struct set_shelf *shelf = &cache->shelves[buffers];
    struct cached_set *oldest = shelf->oldest;
    if (!oldest || (oldest->is_named && !is_full(cache, buffers)) || oldest->last_use > device->tick_done)
        return add_set(device, buffers, set);
    if (oldest->is_named)
        take_name(cache, oldest);
    shelf_take_out(shelf, oldest);
    *set = oldest;
    return SLUICE_OK;
}

enum sluice_status set_cache_get(struct gpu_device *device, const struct gpu_range *ranges, unsigned buffers,
                                 uint64_t tick, struct cached_set **out)
{
    struct set_cache *cache = &device->sets;
    struct set_shelf *shelf = &cache->shelves[buffers];
    CHECK(buffers > 0 && buffers <= SHADER_BUFFERS_MAX);
    uint64_t hash = XXH3_64bits(ranges, buffers * sizeof *ranges);
    struct cached_set *set = find(cache, ranges, buffers, hash);
    if (!set) {
        enum sluice_status status = take_set(device, buffers, &set);
        if (status < 0)
            return status;
        fill(device, set, ranges, buffers);
        give_name(cache, set, hash);
        shelf_put_newest(shelf, set);
    } else if (set->holds == 0) {
        shelf_take_out(shelf, set);
        shelf_put_newest(shelf, set);
    }
    set->last_use = tick;
    *out = set;
    return SLUICE_OK;
}

enum sluice_status set_cache_get_own(struct gpu_device *device, const struct gpu_range *ranges, unsigned buffers,
                                     uint64_t tick, struct cached_set **out)
{
    enum sluice_status status = take_set(device, buffers, out);
    if (status < 0)
        return status;
    fill(device, *out, ranges, buffers);
    (*out)->last_use = tick;
    shelf_put_newest(&device->sets.shelves[buffers], *out);
    return SLUICE_OK;
}

static bool is_same(const struct gpu_range *a, const struct gpu_range *b)
{
    return a->buffer == b->buffer && a->offset == b->offset && a->bytes == b->bytes;
}

void set_cache_put_array(struct gpu_device *device, struct cached_set *set, const struct gpu_range *array)
{
    if (!has_array(set->buffers) || set->is_named)
        return;
    VkDescriptorBufferInfo infos[SHADER_ARRAY_BUFFERS];
    unsigned first = 0, end = SHADER_ARRAY_BUFFERS;
    while (first < end && is_same(&array[first], &set->ranges[first]))
        first++;
    while (first < end && is_same(&array[end - 1], &set->ranges[end - 1]))
        end--;
    if (first == end)
        return;
    for (unsigned i = first; i < end; i++)
        infos[i] = buffer_info(&array[i]);
    VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                  .dstSet = set->handle,
                                  .dstArrayElement = first,
                                  .descriptorCount = end - first,
                                  .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                  .pBufferInfo = infos + first};
    vkUpdateDescriptorSets(device->handle, 1, &write, 0, NULL);
    memcpy(set->ranges, array, sizeof(struct gpu_range[SHADER_ARRAY_BUFFERS]));
}

VkDescriptorSet set_cache_handle(const struct cached_set *set)
{
    return set->handle;
}

void set_cache_hold(struct gpu_device *device, struct cached_set *set)
{
    if (set->holds++ == 0)
        shelf_take_out(&device->sets.shelves[set->buffers], set);
}

void set_cache_release(struct gpu_device *device, struct cached_set *set, uint64_t tick)
{
    CHECK(set->holds > 0);
    set->last_use = set->last_use > tick ? set->last_use : tick;
    if (--set->holds > 0)
        return;
    if (set->is_named)
        shelf_put_newest(&device->sets.shelves[set->buffers], set);
    else
        shelf_put_oldest(&device->sets.shelves[set->buffers], set);
}

// --- buffers that go ------------------------------------------------------------------------------------------------

static bool names(const struct cached_set *set, unsigned buffers, const struct gpu_buffer *buffer)
{
    for (unsigned i = 0; i < buffers; i++)
        if (set->ranges[i].buffer == buffer)
            return true;
    return false;
}

static void forget_in_pool(struct gpu_device *device, unsigned buffers, struct set_pool *pool, unsigned count,
                           const struct gpu_buffer *buffer)
{
    struct set_shelf *shelf = &device->sets.shelves[buffers];
    for (struct cached_set *set = pool->sets; set < pool->sets + count; set++) {
        if (!set->is_named || !names(set, buffers, buffer))
            continue;
        CHECK(set->holds == 0 && tick_is_past(device, set->last_use)); // the buffer's owner has waited
        take_name(&device->sets, set);
        shelf_take_out(shelf, set);
        shelf_put_oldest(shelf, set);
    }
}

void set_cache_forget(struct gpu_device *device, const struct gpu_buffer *buffer)
{
    for (unsigned buffers = 0; buffers <= SHADER_BUFFERS_MAX; buffers++) {
        const struct set_shelf *shelf = &device->sets.shelves[buffers];
        for (unsigned i = 0; i < shelf->pool_count; i++) {
            unsigned left = shelf->count - i * SETS_PER_POOL;
            forget_in_pool(device, buffers, &shelf->pools[i], left < SETS_PER_POOL ? left : SETS_PER_POOL, buffer);
        }
    }
}

void set_cache_finish(struct gpu_device *device)
{
    for (unsigned buffers = 0; buffers <= SHADER_BUFFERS_MAX; buffers++) {
        struct set_shelf *shelf = &device->sets.shelves[buffers];
        for (unsigned i = 0; i < shelf->pool_count; i++)
            pool_finish(device, &shelf->pools[i]);
        mem_free(shelf->pools);
    }
}
