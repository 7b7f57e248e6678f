// Choice of memory types. Every type gets a score; a bit that must be there or must not excludes it.
#include "runtime/gpu/gpu_internal.h"

static int score(VkMemoryPropertyFlags flags, VkMemoryPropertyFlags bit, int points)
{
    return flags & bit ? points : 0;
}

// -1: unsuitable. Types with bits beyond these (protected, lazily allocated, AMD's uncached ones) need features that we
// do not enable.
static int type_score(VkMemoryPropertyFlags flags, enum gpu_memory memory)
{
    const VkMemoryPropertyFlags mapped = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    const VkMemoryPropertyFlags cached = VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    if (flags & ~(mapped | local | cached))
        return -1;
    if (memory == GPU_MEMORY_DEVICE)
        // The host-visible window of a discrete card can be a heap of 256 MiB of its own: weights do not go there.
        return 8 + score(flags, local, 16) - score(flags, mapped, 4);
    if ((flags & mapped) != mapped)
        return -1;
    if (memory == GPU_MEMORY_READBACK)
        return 8 + score(flags, cached, 16) - score(flags, local, 4);
    return 8 - score(flags, local, 4) - score(flags, cached, 2);
}

int memory_type_choose(const VkPhysicalDeviceMemoryProperties *properties, enum gpu_memory memory,
                       uint32_t allowed_bits)
{
    int best = -1, best_score = -1;
    for (uint32_t i = 0; i < properties->memoryTypeCount; i++) {
        int points = allowed_bits >> i & 1 ? type_score(properties->memoryTypes[i].propertyFlags, memory) : -1;
        if (points > best_score) {
            best_score = points;
            best = (int)i;
        }
    }
    return best;
}

void memory_heap_query(VkPhysicalDevice physical, bool has_budget, uint32_t heap, uint64_t *bytes, uint64_t *free_bytes)
{
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 properties = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
                                                    .pNext = has_budget ? &budget : NULL};
    vkGetPhysicalDeviceMemoryProperties2(physical, &properties);
    *bytes = properties.memoryProperties.memoryHeaps[heap].size;
    *free_bytes = *bytes;
    if (has_budget)
        *free_bytes =
            budget.heapBudget[heap] -
            (budget.heapUsage[heap] < budget.heapBudget[heap] ? budget.heapUsage[heap] : budget.heapBudget[heap]);
}

bool gpu_device_budget(const struct gpu_device *device, uint64_t *budget_bytes, uint64_t *used_bytes)
{
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 properties = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
                                                    .pNext = &budget};
    int type = device->has_budget ? memory_type_choose(&device->memory, GPU_MEMORY_DEVICE, UINT32_MAX) : -1;
    if (type < 0)
        return false;
    vkGetPhysicalDeviceMemoryProperties2(device->physical, &properties);
    uint32_t heap = device->memory.memoryTypes[type].heapIndex;
    *budget_bytes = budget.heapBudget[heap];
    *used_bytes = budget.heapUsage[heap];
    return true;
}
