#include "tests/gpu/gpu_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"

void gpu_fixture_require_device(void)
{
    unsigned count = 0;
    if (gpu_device_list(NULL, NULL, &count) == SLUICE_OK && count > 0)
        return;
    fprintf(stderr, "skipped: no Vulkan device: %s\n", error_message());
    exit(77);
}

void gpu_assert_ok(enum sluice_status status)
{
    if (status != SLUICE_OK)
        fail_msg("%s: %s", status_text(status), error_message());
}

struct gpu_device *gpu_fixture_device(const struct gpu_device_options *options)
{
    struct gpu_device *device;
    gpu_assert_ok(gpu_device_create(options, &device));
    return device;
}

struct gpu_buffer *gpu_fixture_buffer(struct gpu_device *device, enum gpu_memory memory, uint64_t bytes)
{
    struct gpu_buffer *buffer;
    gpu_assert_ok(gpu_buffer_create(device, memory, bytes, "test", &buffer));
    return buffer;
}

uint32_t *gpu_fixture_words(uint32_t count, uint32_t seed)
{
    uint32_t *words = mem_alloc(count, sizeof *words);
    assert_non_null(words);
    for (uint32_t i = 0; i < count; i++)
        words[i] = (i + seed) * 2654435761u;
    return words;
}

struct gpu_command *gpu_fixture_begin(struct gpu_device *device)
{
    struct gpu_command *command;
    gpu_assert_ok(gpu_command_begin(device, &command));
    return command;
}

static void copy_now(struct gpu_device *device, struct gpu_range from, struct gpu_range to)
{
    struct gpu_command *command;
    uint64_t tick;
    gpu_assert_ok(gpu_command_begin(device, &command));
    gpu_copy(command, from, to);
    gpu_assert_ok(gpu_command_submit(command, &tick));
    gpu_assert_ok(gpu_wait(device, tick));
}

struct gpu_buffer *gpu_fixture_filled(struct gpu_device *device, const uint32_t *words, uint32_t count)
{
    struct gpu_buffer *buffer = gpu_fixture_buffer(device, GPU_MEMORY_DEVICE, 4 * (uint64_t)count);
    struct gpu_buffer *upload = gpu_fixture_buffer(device, GPU_MEMORY_UPLOAD, 4 * (uint64_t)count);
    memcpy(gpu_buffer_map(upload), words, 4 * (size_t)count);
    copy_now(device, gpu_range_all(upload), gpu_range_all(buffer));
    gpu_buffer_destroy(upload);
    return buffer;
}

void gpu_fixture_read(struct gpu_device *device, struct gpu_buffer *buffer, uint32_t *words, uint32_t count)
{
    struct gpu_buffer *readback = gpu_fixture_buffer(device, GPU_MEMORY_READBACK, 4 * (uint64_t)count);
    copy_now(device, gpu_range_make(buffer, 0, 4 * (uint64_t)count), gpu_range_all(readback));
    memcpy(words, gpu_buffer_map(readback), 4 * (size_t)count);
    gpu_buffer_destroy(readback);
}

void gpu_fixture_probe(struct gpu_device *device, struct gpu_command *command, struct gpu_range x, struct gpu_range y,
                       struct probe_push push)
{
    const struct gpu_kernel *kernel;
    gpu_assert_ok(gpu_kernel_get(device, SHADER_PROBE, NULL, 0, &kernel));
    const struct gpu_range ranges[] = {x, y};
    gpu_dispatch(command, kernel, ranges, 2, &push, sizeof push, (push.count + 63) / 64, 1, 1);
}
