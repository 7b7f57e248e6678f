// What the files of runtime/gpu share. Nobody else includes this or Vulkan.
#ifndef SLUICE_GPU_INTERNAL_H
#define SLUICE_GPU_INTERNAL_H

#include <vulkan/vulkan.h>

#include "runtime/base/check.h"
#include "runtime/gpu/command.h"
#include "runtime/gpu/command_list.h"
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

// set_cache.c: descriptor sets by what they name. A decode of 48 layers needs a thousand, and two more per group of
// experts where these lie in more slabs than a kernel is bound to; lavapipe 26.2 takes 5 KB of memory for each.
// Of those with an array SET_CACHE_ARRAYS_MAX are kept: enough where they recur, and others are filled anew.
enum { SET_CACHE_SETS_MAX = 4096, SET_CACHE_ARRAYS_MAX = 256, SET_CACHE_BUCKETS = 8192 };

// All sets of so many buffers.
struct set_shelf {
    struct cached_set *oldest, *newest; // list by last use, without those that are held; what names nothing is oldest
    struct set_pool *pools;             // [pool_count], owned
    unsigned pool_count, count;         // pools, sets in them
};

struct set_cache {
    struct set_shelf shelves[SHADER_BUFFERS_MAX + 1]; // by number of buffers
    struct cached_set *buckets[SET_CACHE_BUCKETS];
    unsigned count; // sets
};

// replay.c: what is kept is bounded by number and by what describes it. A token of 48 layers has 150 parts that recur.
enum {
    REPLAY_KEPT_MAX = 1024,
    REPLAY_BYTES_MAX = 8 << 20,
    REPLAY_BUCKETS = 1024,
    REPLAY_SEEN = 1024,
    REPLAY_SEEN_WAYS = 4
};
// Of so many parts that need not be recorded because a memo knows them, one is, and compared.
enum { REPLAY_AUDIT = 32 };

struct replay {
    struct recording *oldest, *newest; // kept recordings, by last use
    struct recording *buckets[REPLAY_BUCKETS];
    struct recording *last; // found or kept; NULL: none
    uint64_t serials;       // given to kept ones so far
    uint64_t recalled;      // parts that memos knew
    unsigned count;         // of them
    size_t bytes;           // of their content
    // Hashes of what was recorded, youngest first, each in the row that it chooses. Of hundreds that come in turn,
    // token after token, some share a row, and must not push each other out of it.
    uint64_t seen[REPLAY_SEEN][REPLAY_SEEN_WAYS];
};

enum { KERNEL_BUCKETS = 512 };

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
    struct replay replay;
    struct hazard_tracker hazards; // of what is being recorded
    VkCommandPool command_pool;    // made at first use
    VkPhysicalDeviceMemoryProperties memory;
    bool has_budget, lost;
    PFN_vkGetMemoryHostPointerPropertiesEXT host_pointer_properties; // NULL: no import
    PFN_vkSetDebugUtilsObjectNameEXT set_name;                       // NULL: no debug names
    struct gpu_caps caps;
    struct gpu_usage usage;
    uint64_t tick_last, tick_done;
    unsigned buffer_count;          // buffers that exist
    uint32_t buffers_left;          // tests: until one fails for want of memory; 0: none does
    uint64_t submits_before_faults; // tests: gpu_submit_fail
    uint32_t submit_faults;
    struct gpu_kernel *kernels[KERNEL_BUCKETS]; // lists by hash of shader and constants, owned
    struct gpu_command *commands;               // list, owned
    struct recording *recordings;               // list of those that are not kept, owned
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
    bool is_named;    // in a command, perhaps one of long ago
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

// Whether no submission of this tick can be under way: it is complete, failed, or the device is lost.
bool tick_is_past(struct gpu_device *device, uint64_t tick);

// --- command.c, record.c --------------------------------------------------------------------------------------------

enum command_state { COMMAND_FREE, COMMAND_RECORDING };

enum { COMMAND_PARTS_MAX = 10 };

// Part of a command: what lies in its list from `begin` to the next part's, or a recording that is known already.
struct command_part {
    size_t begin;
    struct recording *known;   // it is submitted, and nothing is in the list; else NULL
    struct gpu_memo *memo;     // that learns which recording it becomes; NULL: none
    struct recording *audited; // what the memo says that it is; NULL: it says nothing
    bool has_array;            // its list begins with LIST_ARRAY, also if the rest is known
};

struct gpu_command {
    struct gpu_device *device;
    struct gpu_command *next;
    enum command_state state;
    bool timed; // its operations are measured
    struct command_list list;
    struct command_part parts[COMMAND_PARTS_MAX + 1]; // [part_count]; one more when they are submitted
    unsigned part_count;                              // at least 1
    struct error_record failure;                      // the first one while recording; status SLUICE_OK: none
};

void commands_destroy(struct gpu_device *device);

// Whether a command that is being recorded uses the buffer.
bool commands_name(const struct gpu_device *device, const struct gpu_buffer *buffer);

// Keeps the thread's current error message as the command's failure, unless there is one already.
void command_keep_failure(struct gpu_command *command, enum sluice_status status);

// --- recording.c ----------------------------------------------------------------------------------------------------

enum { RECORDING_SAMPLES_MAX = 4096 };

// What a timestamp closes.
struct recording_sample {
    const char *kernel, *label; // label may be NULL
};

// A command buffer and what is in it.
struct recording {
    struct recording *next; // of those that are not kept
    VkCommandBuffer handle;
    uint64_t tick; // of its last submission; 0: none; UINT64_MAX: a command that is being recorded will submit it
    uint32_t dispatches, barriers;
    // If it is kept; all 0 otherwise.
    uint8_t *content; // [content_bytes], the part that it was made of, owned
    size_t content_bytes;
    uint64_t hash;
    struct cached_set **sets; // [set_count], which it holds, owned
    unsigned set_count;
    bool to_host;    // it ends with the barrier to the host
    uint64_t serial; // of all that were kept, from 1
    struct recording *older, *newer, *bucket_next;
    struct recording *follower; // what came behind it the last time, perhaps not kept any more; NULL: not known
    // Times.
    bool timed;                       // what is in it is measured
    VkQueryPool queries;              // RECORDING_SAMPLES_MAX + 1 timestamps; made when first needed
    struct recording_sample *samples; // [sample_count]
    unsigned sample_count;
};

// A command buffer that does what the part says, for the submission with this tick, which must be the next or, behind
// what goes with it, one of the next. Errors: SLUICE_ERR_MEMORY, SLUICE_ERR_DEVICE_MEMORY, SLUICE_ERR_DEVICE.
enum sluice_status recording_get(struct gpu_device *device, struct list_part part, bool timed, uint64_t tick,
                                 struct recording **recording);

// It goes with the submission of this tick.
void recording_use(struct gpu_device *device, struct recording *recording, uint64_t tick);

// Into the list of those that are not kept.
void recording_put_back(struct gpu_device *device, struct recording *recording);

// Adds the samples of those whose submission is complete to the device's timers.
void recordings_resolve(struct gpu_device *device);

void recordings_finish(struct gpu_device *device);

// --- replay.c -------------------------------------------------------------------------------------------------------

// A kept recording of the same content that is in no pending submission, or NULL. *keep: the next one of this content
// is worth keeping, and there is room.
struct recording *replay_find(struct gpu_device *device, struct list_part part, bool *keep);

// The recording that the memo knows for the key, if it is kept still, in no pending submission, and its array (NULL:
// it has none) is this one or can be made it. Else NULL.
struct recording *replay_recall(struct gpu_device *device, const struct gpu_memo *memo, uint64_t key,
                                const struct gpu_range *array);

// The array[SHADER_ARRAY_BUFFERS] that a kept recording was submitted with last, or NULL.
const struct gpu_range *replay_array(const struct recording *recording);

// The part was recorded as `recording`, which the memo knows from now on if it is kept.
void replay_remember(struct gpu_memo *memo, const struct command_part *part, struct list_part content,
                     struct recording *recording);

// The kept recording is submitted now, with the part's array if it has one.
void replay_use(struct gpu_device *device, struct recording *recording, struct list_part part);

// To keep a recording: prepare, then hold the set of each dispatch, then keep; or release, which undoes the former two.
bool replay_prepare(struct recording *recording, struct list_part part); // false: no memory for it
void replay_hold(struct gpu_device *device, struct recording *recording, struct cached_set *set);
void replay_keep(struct gpu_device *device, struct recording *recording);
void replay_release(struct gpu_device *device, struct recording *recording);

// The buffer goes: no recording that uses it is kept from now on. None of them may be pending (checked).
void replay_forget(struct gpu_device *device, const struct gpu_buffer *buffer);

// Nothing is kept from now on.
void replay_finish(struct gpu_device *device);

// --- set_cache.c ----------------------------------------------------------------------------------------------------

// A descriptor set that names ranges[buffers]; it stays as it is until the submission with this tick is complete. The
// device's set layout of so many buffers exists. Errors: SLUICE_ERR_MEMORY, SLUICE_ERR_DEVICE_MEMORY.
enum sluice_status set_cache_get(struct gpu_device *device, const struct gpu_range *ranges, unsigned buffers,
                                 uint64_t tick, struct cached_set **set);

// The same for the caller alone, who must hold it: the first SHADER_ARRAY_BUFFERS of its ranges, an array, can be
// changed whenever no submission that binds it is pending, also after it was recorded.
enum sluice_status set_cache_get_own(struct gpu_device *device, const struct gpu_range *ranges, unsigned buffers,
                                     uint64_t tick, struct cached_set **set);
// Other buffers for the set's array, if it is such a one; else nothing.
void set_cache_put_array(struct gpu_device *device, struct cached_set *set, const struct gpu_range *array);

VkDescriptorSet set_cache_handle(const struct cached_set *set);

// The set stays as it is until it is released as often as it was held, and until `tick` is complete.
void set_cache_hold(struct gpu_device *device, struct cached_set *set);
void set_cache_release(struct gpu_device *device, struct cached_set *set, uint64_t tick);

// The buffer goes: no set names it from now on. None that does is held or in a pending submission (checked).
void set_cache_forget(struct gpu_device *device, const struct gpu_buffer *buffer);

void set_cache_finish(struct gpu_device *device);

// --- timer.c --------------------------------------------------------------------------------------------------------

void timers_init(struct gpu_timers *timers, const struct device_support *support, bool wanted);
void timers_finish(struct gpu_timers *timers);

// Behind vkBeginCommandBuffer.
enum sluice_status timer_begin(struct gpu_device *device, struct recording *recording, bool timed);
// Records a timestamp behind the operation that was just recorded.
void timer_sample(struct recording *recording, const char *kernel, const char *label);
// Adds the samples of a recording whose submission is complete to the device's timers.
void timer_resolve(struct gpu_device *device, struct recording *recording);

#endif
