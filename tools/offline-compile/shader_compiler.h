// A driver's shader compiler, without anything being run: a device, one pipeline at a time, and what the compiler says
// of it. Drivers without hardware do (run.sh has AMD's, Intel's and NVIDIA's).
//
// Errors of the driver end the program, with a message: it has nothing else to do. One thread.
#ifndef SLUICE_OFFLINE_SHADER_COMPILER_H
#define SLUICE_OFFLINE_SHADER_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vulkan/vulkan.h>

enum {
    EXIT_NO_DEVICE = 77,
    CONSTANTS_MAX = 48, // llama.cpp's attention has many
    MATRIX_SHAPES_MAX = 64,
    DRIVER_TEXT_BYTES = 1024,
};

// What is compiled. Bindings are storage buffers of set 0.
struct shader_source {
    uint32_t *words; // SPIR-V, owned by whoever filled it in
    size_t word_count;
    VkSpecializationMapEntry entries[CONSTANTS_MAX];
    uint32_t values[CONSTANTS_MAX];
    uint32_t constant_count;
    uint32_t subgroup_size; // required; 0: the driver's choice, for kernels with matrices the smallest
    bool full_subgroups;
    bool is_wide; // meant for subgroups of more than 32 lanes only
};

// What the compiler reports; UINT64_MAX where it is silent.
struct shader_statistics {
    uint64_t instructions, code_bytes;
    uint64_t registers;        // VGPRs; NVIDIA: GPRs; Intel: the most that live at one time, 32 bytes each
    uint64_t scalar_registers; // SGPRs
    uint64_t spills;           // of all kinds that go to memory
    uint64_t scratch_bytes, shared_bytes;
    uint64_t waves;         // subgroups that a SIMD (AMD) or a multiprocessor (NVIDIA) holds at one time
    uint64_t cycles;        // a static estimate
    uint32_t subgroup_size; // SIMD width that was compiled
};

struct shader_matrix {
    uint32_t m, n, k;
};

struct shader_compiler {
    VkInstance instance;
    VkPhysicalDevice physical;
    VkDevice device;
    bool has_cooperative_matrix;
    struct shader_matrix shapes[MATRIX_SHAPES_MAX]; // of f16 accumulated in f32
    uint32_t shape_count;
    uint32_t subgroup_size, subgroup_size_min; // the usual one, the smallest
    uint32_t push_bytes;                       // that a pipeline may have
    PFN_vkGetPipelineExecutablePropertiesKHR get_executables;
    PFN_vkGetPipelineExecutableStatisticsKHR get_statistics;
    PFN_vkGetPipelineExecutableInternalRepresentationsKHR get_representations;
};

// Both say what failed and end the program; the second one only if `result` is not VK_SUCCESS.
_Noreturn void fail(const char *what, const char *detail);
void vulkan_check(VkResult result, const char *what);

// Opens the first device that the loader offers, with every core feature it has, so that it is the shaders that decide.
// Exit status EXIT_NO_DEVICE if there is none. `driver` gets "device, driver version".
void compiler_open(struct shader_compiler *c, char driver[static DRIVER_TEXT_BYTES]);
void compiler_close(struct shader_compiler *c);

// Why no program would compile this for this device: it is for wider subgroups, or needs matrix instructions, or a
// shape of them (constants 0, 1 and 2, where no subgroup size is required) that the device lacks. NULL: one might.
const char *compiler_lacks(const struct shader_compiler *c, const struct shader_source *source);

// Compiles; false if the driver refuses. `assembly` (may be NULL) gets the final representation: the machine's
// instructions, text that the caller frees; NULL if the driver has none.
bool compiler_run(const struct shader_compiler *c, const struct shader_source *source, struct shader_statistics *out,
                  char **assembly);

#endif
