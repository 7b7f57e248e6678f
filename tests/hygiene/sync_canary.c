// Misuses Vulkan on purpose, to prove that a validation run would notice: tools/test.sh runs it first and stops if the
// layer stays silent (not installed, not loaded, synchronisation checks off).
//
//   sync_canary sound     correct: nothing may be reported
//   sync_canary hazard    two writes to one buffer without a barrier: synchronisation validation
//   sync_canary submit    the same in two submissions: synchronisation validation between submissions
//   sync_canary misuse    a fill that begins at an odd offset: ordinary validation
//
// Exit status 77: no Vulkan device.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vulkan.h>

enum { BUFFER_BYTES = 4096, EXIT_NO_DEVICE = 77 };

struct canary {
    VkInstance instance;
    VkPhysicalDevice physical;
    VkDevice device;
    VkBuffer buffer;
    VkDeviceMemory memory;
    VkCommandPool pool;
    VkCommandBuffer commands[2];
};

static void vulkan_check(VkResult result)
{
    if (result == VK_SUCCESS)
        return;
    printf("sync_canary: VkResult %d\n", (int)result);
    exit(1);
}

static void open_device(struct canary *c)
{
    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_2};
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
    uint32_t count = 1;
    if (vkCreateInstance(&info, NULL, &c->instance) != VK_SUCCESS ||
        vkEnumeratePhysicalDevices(c->instance, &count, &c->physical) < 0 || count == 0)
        exit(EXIT_NO_DEVICE);
    float priority = 1;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, .queueCount = 1, .pQueuePriorities = &priority};
    VkDeviceCreateInfo device = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, .queueCreateInfoCount = 1, .pQueueCreateInfos = &queue};
    vulkan_check(vkCreateDevice(c->physical, &device, NULL, &c->device));
}

static void create_buffer(struct canary *c)
{
    VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = BUFFER_BYTES, .usage = VK_BUFFER_USAGE_TRANSFER_DST_BIT};
    vulkan_check(vkCreateBuffer(c->device, &info, NULL, &c->buffer));
    VkMemoryRequirements needs;
    vkGetBufferMemoryRequirements(c->device, c->buffer, &needs);
    uint32_t type = 0;
    while (type < 32 && !(needs.memoryTypeBits >> type & 1))
        type++;
    if (type == 32)
        exit(EXIT_NO_DEVICE); // a compile-only device
    VkMemoryAllocateInfo memory = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = needs.size, .memoryTypeIndex = type};
    vulkan_check(vkAllocateMemory(c->device, &memory, NULL, &c->memory));
    vulkan_check(vkBindBufferMemory(c->device, c->buffer, c->memory, 0));
}

static void create_commands(struct canary *c)
{
    VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO};
    vulkan_check(vkCreateCommandPool(c->device, &pool, NULL, &c->pool));
    VkCommandBufferAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, .commandPool = c->pool, .commandBufferCount = 2};
    vulkan_check(vkAllocateCommandBuffers(c->device, &info, c->commands));
}

// `fills` fills of the same bytes, with a barrier after each or without.
static void record(const struct canary *c, int index, int fills, VkDeviceSize offset, bool barrier)
{
    VkCommandBuffer commands = c->commands[index];
    VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    VkMemoryBarrier after = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                             .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
                             .dstAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT};
    vulkan_check(vkBeginCommandBuffer(commands, &begin));
    for (int i = 0; i < fills; i++) {
        vkCmdFillBuffer(commands, c->buffer, offset, 64, 1);
        if (barrier)
            vkCmdPipelineBarrier(commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_TRANSFER_BIT, 0, 1, &after,
                                 0, NULL, 0, NULL);
    }
    vulkan_check(vkEndCommandBuffer(commands));
}

static void submit(const struct canary *c)
{
    VkQueue queue;
    vkGetDeviceQueue(c->device, 0, 0, &queue);
    for (int i = 0; i < 2; i++) {
        VkSubmitInfo info = {
            .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1, .pCommandBuffers = &c->commands[i]};
        vulkan_check(vkQueueSubmit(queue, 1, &info, VK_NULL_HANDLE));
    }
    vulkan_check(vkQueueWaitIdle(queue));
}

static void close_device(struct canary *c)
{
    vkDestroyCommandPool(c->device, c->pool, NULL);
    vkDestroyBuffer(c->device, c->buffer, NULL);
    vkFreeMemory(c->device, c->memory, NULL);
    vkDestroyDevice(c->device, NULL);
    vkDestroyInstance(c->instance, NULL);
}

int main(int argc, char **argv)
{
    const char *mode = argc == 2 ? argv[1] : "sound";
    struct canary c = {0};
    open_device(&c);
    create_buffer(&c);
    create_commands(&c);
    if (strcmp(mode, "hazard") == 0) {
        record(&c, 0, 2, 0, false);
    } else if (strcmp(mode, "misuse") == 0) {
        record(&c, 0, 1, 2, false);
    } else {
        bool sound = strcmp(mode, "sound") == 0;
        record(&c, 0, sound ? 2 : 1, 0, sound);
        record(&c, 1, 1, 0, sound);
        submit(&c);
    }
    close_device(&c);
    printf("sync_canary: %s done\n", mode);
    return 0;
}
