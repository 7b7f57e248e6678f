// What the files of runtime/gpu share. Nobody else includes this or Vulkan.
#ifndef SLUICE_GPU_INTERNAL_H
#define SLUICE_GPU_INTERNAL_H

#include <vulkan/vulkan.h>

#include "runtime/base/check.h"
#include "runtime/gpu/command.h"
#include "runtime/gpu/hazard.h"
#include "runtime/gpu/matrix_cores.h"

_Static_assert((int)GPU_KERNEL_CONSTANTS_MAX == (int)SHADER_CONSTANTS_MAX, "limits of shaders and runtime agree");

// --- vk_error.c -----------------------------------------------------------------------------------------------------

// Turns a failed Vulkan call into a status with the message "<what>: <Vulkan's reason>". A lost device is remembered.
enum sluice_status vk_error(struct gpu_device *device, VkResult result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

const char *vk_result_text(VkResult result);

// --- device_caps.c --------------------------------------------------------------------------------------------------

// Feature structs chained for vkGetPhysicalDeviceFeatures2 and vkCreateDevice.
struct device_features {
    VkPhysicalDeviceFeatures2 core;
    VkPhysicalDeviceVulkan11Features v11;
    VkPhysicalDeviceVulkan12Features v12;
    VkPhysicalDeviceShaderIntegerDotProductFeatures dot;
    VkPhysicalDeviceSubgroupSizeControlFeatures subgroup;
    struct cooperative_matrix_features matrix;
};

enum device_extension {
    EXTENSION_INTEGER_DOT_PRODUCT,
    EXTENSION_EXTERNAL_MEMORY_HOST,
    EXTENSION_MEMORY_BUDGET,
    EXTENSION_COOPERATIVE_MATRIX,
    EXTENSION_COUNT
};

// What a physical device offers of what we know.
struct device_support {
    VkPhysicalDeviceProperties properties;
    bool extensions[EXTENSION_COUNT];
    struct device_features features; // those of our table that it has; pNext chained
    uint32_t queue_family;
    uint32_t timestamp_bits; // 0: the queue has no timestamps
    char missing[512];       // comma-separated; "": the device is usable
};

const char *device_extension_name(enum device_extension extension);

// Fills `support`, which must not move afterwards (its structs point to each other).
// Errors: SLUICE_ERR_MEMORY. An unusable device is no error.
enum sluice_status device_support_query(VkPhysicalDevice physical, struct device_support *support);

void device_caps_fill(struct gpu_caps *caps, VkInstance instance, VkPhysicalDevice physical,
                      const struct device_support *support, const struct gpu_device_options *options);

// --- device_select.c ------------------------------------------------------------------------------------------------

enum sluice_status instance_create(VkInstance *instance, bool *debug_names);

// Chooses by options->name and fills `support` for the chosen one.
enum sluice_status physical_device_select(VkInstance instance, const char *name, VkPhysicalDevice *physical,
                                          struct device_support *support);

// --- memory_type.c --------------------------------------------------------------------------------------------------

// The best memory type among `allowed_bits` for `memory`, or -1.
int memory_type_choose(const VkPhysicalDeviceMemoryProperties *properties, enum gpu_memory memory,
                       uint32_t allowed_bits);

// Size of a heap and what is free for us in it: the driver's budget where it reports one, else the size.
void memory_heap_query(VkPhysicalDevice physical, bool has_budget, uint32_t heap, uint64_t *bytes,
                       uint64_t *free_bytes);

// --- device.c -------------------------------------------------------------------------------------------------------

struct gpu_timer_entry {
    const char *label; // a string literal or a shader's name
    bool is_kernel;
    uint64_t total_ns, count;
};

struct gpu_timers {
    bool possible, enabled;
    double period_ns;
    uint64_t mask; // valid bits of a timestamp
    struct gpu_timer_entry *entries;
    unsigned count, capacity;
};

// set_cache.c: descriptor sets by what they name. A decode of 48 layers needs a thousand, on software drivers three
// times as many (the experts of each slab are a dispatch); lavapipe 26.2 takes 5 KB of memory for each.
enum { SET_CACHE_SETS_MAX = 4096, SET_CACHE_BUCKETS = 8192 };

// All sets of so many buffers.
struct set_shelf {
    struct cached_set *oldest, *newest; // list by last use; sets that name nothing are the oldest
    struct set_pool *pools;             // [pool_count], owned
    unsigned pool_count, count;         // pools, sets in them
};

struct set_cache {
    struct set_shelf shelves[SHADER_BUFFERS_MAX + 1]; // by number of buffers
    struct cached_set *buckets[SET_CACHE_BUCKETS];
    unsigned count; // sets
};

struct gpu_device {
    VkInstance instance;
    VkPhysicalDevice physical;
    VkDevice handle;
    VkQueue queue;
    uint32_t queue_family;
    VkSemaphore timeline;
    VkPipelineCache pipeline_cache;
    char *cache_folder;        // where it is kept, owned; NULL: nowhere
    size_t cache_loaded_bytes; // of it came from there
    // By number of buffers; beyond SHADER_BINDINGS_MAX the first SHADER_ARRAY_BUFFERS are an array. Made at first use.
    VkDescriptorSetLayout set_layouts[SHADER_BUFFERS_MAX + 1];
    struct set_cache sets;
    VkPhysicalDeviceMemoryProperties memory;
    bool has_budget, lost;
    PFN_vkGetMemoryHostPointerPropertiesEXT host_pointer_properties; // NULL: no import
    PFN_vkSetDebugUtilsObjectNameEXT set_name;                       // NULL: no debug names
    struct gpu_caps caps;
    struct gpu_usage usage;
    uint64_t tick_last, tick_done;
    unsigned buffer_count;                    // buffers that exist
    uint32_t buffers_left;                    // tests: until one fails for want of memory; 0: none does
    struct gpu_kernel *kernels[SHADER_COUNT]; // lists, owned
    struct gpu_command *commands;             // list, owned
    uint64_t commands_begun;
    struct gpu_timers timers;
};

void device_name_object(struct gpu_device *device, VkObjectType type, uint64_t handle, const char *name);

// --- pipeline_cache.c -----------------------------------------------------------------------------------------------

// device->pipeline_cache, with what an earlier run kept in `folder` (NULL: nothing).
enum sluice_status pipeline_cache_create(struct gpu_device *device, const char *folder);
// Keeps what is new in it. Nothing was created: allowed.
void pipeline_cache_destroy(struct gpu_device *device);

// --- buffer.c -------------------------------------------------------------------------------------------------------

struct gpu_buffer {
    struct gpu_device *device;
    VkBuffer handle;
    VkDeviceMemory memory;
    enum gpu_memory kind;
    bool copies_only; // kernels cannot use it
    bool is_named;    // in a descriptor set
    bool counted;     // in the device's usage
    uint64_t bytes;
    void *map;
    char label[64];
};

// --- kernel.c -------------------------------------------------------------------------------------------------------

struct gpu_kernel {
    const struct shader_module *module;
    uint32_t constants[GPU_KERNEL_CONSTANTS_MAX]; // all of the module's, defaults included
    VkPipeline pipeline;
    VkPipelineLayout layout;
    VkDescriptorSetLayout set_layout; // the device's
    struct gpu_kernel *next;
};

void kernels_destroy(struct gpu_device *device);

// --- command.c, record.c --------------------------------------------------------------------------------------------

enum command_state { COMMAND_FREE, COMMAND_RECORDING, COMMAND_PENDING };

enum { COMMAND_SAMPLES_MAX = 4096 };

// What a timestamp closes.
struct command_sample {
    const char *kernel, *label; // label may be NULL
};

struct gpu_command {
    struct gpu_device *device;
    struct gpu_command *next;
    enum command_state state;
    uint64_t number; // commands are numbered in the order in which they began, from 1
    uint64_t tick;   // of the submission, when pending
    VkCommandPool pool;
    VkCommandBuffer handle;
    VkPipeline bound; // by the last dispatch
    struct hazard_tracker hazards;
    struct error_record failure; // the first one while recording; status SLUICE_OK: none
    const char *label;
    bool timed;                     // what is being recorded is measured
    VkQueryPool queries;            // COMMAND_SAMPLES_MAX + 1 timestamps; made when first needed
    struct command_sample *samples; // [sample_count]
    unsigned sample_count;
};

void commands_destroy(struct gpu_device *device);

// Whether none of the commands numbered first..last is being recorded or pending, or the device is lost.
bool commands_are_done(struct gpu_device *device, uint64_t first, uint64_t last);

// Keeps the thread's current error message as the command's failure, unless there is one already.
void command_keep_failure(struct gpu_command *command, enum sluice_status status);

// Orders everything before against everything behind it.
void command_barrier(struct gpu_command *command);

// --- set_cache.c ----------------------------------------------------------------------------------------------------

// A descriptor set that names ranges[buffers], for `command`; it stays as it is until the command is done. The device's
// set layout of so many buffers exists. Errors: SLUICE_ERR_MEMORY, SLUICE_ERR_DEVICE_MEMORY.
enum sluice_status set_cache_get(struct gpu_command *command, const struct gpu_range *ranges, unsigned buffers,
                                 VkDescriptorSet *set);

// The buffer goes: no set names it from now on. No command that uses it is being recorded or pending (checked).
void set_cache_forget(struct gpu_device *device, const struct gpu_buffer *buffer);

void set_cache_finish(struct gpu_device *device);

// --- timer.c --------------------------------------------------------------------------------------------------------

void timers_init(struct gpu_timers *timers, const struct device_support *support, bool wanted);
void timers_finish(struct gpu_timers *timers);

enum sluice_status timer_command_begin(struct gpu_command *command);
// Records a timestamp behind the operation that was just recorded.
void timer_command_sample(struct gpu_command *command, const char *kernel);
// Adds the samples of a command whose tick is complete to the device's timers.
void timer_command_resolve(struct gpu_command *command);

#endif
