// What the tests of runtime/gpu share: a device, and buffers with known contents.
#ifndef SLUICE_TESTS_GPU_FIXTURE_H
#define SLUICE_TESTS_GPU_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/gpu/command.h"
#include "shaders/shader_params.h"

// Ends the program with 77 (skipped) when there is no Vulkan device at all.
void gpu_fixture_require_device(void);

// Fails the test with the error's message unless `status` is SLUICE_OK.
void gpu_assert_ok(enum sluice_status status);

struct gpu_device *gpu_fixture_device(const struct gpu_device_options *options);

struct gpu_buffer *gpu_fixture_buffer(struct gpu_device *device, enum gpu_memory memory, uint64_t bytes);

// words[count] that differ from each other and by seed; released with mem_free.
uint32_t *gpu_fixture_words(uint32_t count, uint32_t seed);

// A command to record into.
struct gpu_command *gpu_fixture_begin(struct gpu_device *device);

// A buffer of device memory with words[count].
struct gpu_buffer *gpu_fixture_filled(struct gpu_device *device, const uint32_t *words, uint32_t count);

// Copies `count` words of a buffer to the host, waiting for everything submitted.
void gpu_fixture_read(struct gpu_device *device, struct gpu_buffer *buffer, uint32_t *words, uint32_t count);

// Records y = x * multiplier + addend over `count` words with the kernel `probe`.
void gpu_fixture_probe(struct gpu_device *device, struct gpu_command *command, struct gpu_range x, struct gpu_range y,
                       struct probe_push push);

#endif
