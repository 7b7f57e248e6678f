#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/integer.h"
#include "runtime/base/mem.h"
#include "tools/bench/kernel_bench.h"

enum { TOKENS = 512, PICKS = 10 * TOKENS, DEPTH = 32768 + TOKENS, STAGING_BYTES = 4 << 20 };

static const uint64_t array_bytes[BENCH_ARRAY_COUNT] = {
    [BENCH_IN] = 4ull * TOKENS * 12288,  [BENCH_IN2] = 4ull * TOKENS * 12288,   [BENCH_SMALL] = 4ull * TOKENS * 512,
    [BENCH_WEIGHT] = 4ull * 8192 * 4,    [BENCH_STATE] = 4ull * 32 * 128 * 128, [BENCH_OUT] = 4ull * PICKS * 2048,
    [BENCH_OUT2] = 8ull * TOKENS * 4096, [BENCH_Q8] = TOKENS * 12288ull,        [BENCH_SCALES] = TOKENS * 12288ull / 4,
    [BENCH_K] = 2ull * DEPTH * 2 * 256,  [BENCH_V] = 2ull * DEPTH * 2 * 256,    [BENCH_TILES] = 16ull * PICKS,
    [BENCH_ROWS] = 4ull * PICKS,
};

// Numbers of moderate size: what zeros or NaN would cost says little.
static void fill_pattern(enum bench_array array, uint32_t *words, size_t count)
{
    uint32_t random = 1;
    for (size_t i = 0; i < count; i++) {
        random = random * 1664525u + 1013904223u;
        uint32_t bits = random ^ random >> 15;
        if (array == BENCH_K || array == BENCH_V)
            bits = (bits & 0x83FF83FFu) | 0x34003400u;
        else if (array != BENCH_Q8)
            bits = (bits & 0x807FFFFFu) | 0x3E800000u;
        words[i] = bits;
    }
}

enum sluice_status bench_fill(struct gpu_device *device, struct gpu_range range, const void *data, uint64_t bytes)
{
    enum sluice_status status;
    struct gpu_buffer *staging = NULL;
    struct gpu_command *cmd;
    uint64_t tick;
    TRY(gpu_buffer_create(device, GPU_MEMORY_UPLOAD, bytes, "bench, staging", &staging));
    memcpy(gpu_buffer_map(staging), data, bytes);
    TRY(gpu_command_begin(device, &cmd));
    for (uint64_t done = 0; done < range.bytes; done += bytes) {
        uint64_t here = range.bytes - done < bytes ? range.bytes - done : bytes;
        gpu_copy(cmd, gpu_range_make(staging, 0, here), gpu_range_part(range, done, here));
    }
    TRY(gpu_command_submit(cmd, &tick));
    TRY(gpu_wait(device, tick));
fail:
    gpu_buffer_destroy(staging);
    return status;
}

static enum sluice_status make(struct kernel_bench *b, uint64_t bytes, const uint32_t *pattern, struct gpu_range *range)
{
    struct gpu_buffer *buffer;
    enum sluice_status status = gpu_buffer_create(b->watch.device, GPU_MEMORY_DEVICE, bytes, "bench", &buffer);
    if (status < 0)
        return status;
    *range = gpu_range_make(buffer, 0, bytes);
    return bench_fill(b->watch.device, *range, pattern, STAGING_BYTES);
}

enum sluice_status bench_need(struct kernel_bench *b, const enum bench_array *arrays, unsigned count)
{
    enum sluice_status status = SLUICE_OK;
    uint32_t *pattern = mem_alloc(STAGING_BYTES / 4, 4);
    if (!pattern)
        return SLUICE_ERR_MEMORY;
    for (unsigned i = 0; i < count; i++) {
        if (b->arrays[arrays[i]].buffer)
            continue;
        fill_pattern(arrays[i], pattern, STAGING_BYTES / 4);
        TRY(make(b, array_bytes[arrays[i]], pattern, &b->arrays[arrays[i]]));
    }
fail:
    mem_free(pattern);
    return status;
}

// Every byte small, so that every f16 scale is; every nibble occurs.
enum sluice_status bench_need_pool(struct kernel_bench *b)
{
    enum sluice_status status = SLUICE_OK;
    const struct gpu_caps *caps = gpu_device_caps(b->watch.device);
    uint64_t bytes = caps->is_software ? 128u << 20 : 256u << 20;
    unsigned wanted = caps->is_software ? 1 : BENCH_POOL_MAX;
    while (bytes > caps->max_buffer_bytes || wanted * bytes > caps->device_budget_bytes / 2)
        bytes /= 2;
    uint32_t *pattern = mem_alloc(STAGING_BYTES / 4, 4);
    TRY(pattern ? SLUICE_OK : SLUICE_ERR_MEMORY);
    for (uint32_t i = 0; i < STAGING_BYTES / 4; i++)
        pattern[i] = i * 2654435761u >> 2 & 0x2F2F2F2Fu;
    for (; b->pool_count < wanted; b->pool_count++)
        TRY(make(b, bytes, pattern, &b->pool[b->pool_count]));
fail:
    mem_free(pattern);
    return status;
}

struct gpu_range bench_pool_take(struct kernel_bench *b, uint64_t bytes)
{
    enum { ALIGNMENT = 256 };
    CHECK(bytes <= b->pool[0].bytes);
    if (b->pool_offset + bytes > b->pool[0].bytes) {
        b->pool_offset = 0;
        b->pool_next = (b->pool_next + 1) % b->pool_count;
    }
    struct gpu_range range = gpu_range_part(b->pool[b->pool_next], b->pool_offset, bytes);
    b->pool_offset += u64_round_up(bytes, ALIGNMENT);
    return range;
}

void kernel_bench_finish(struct kernel_bench *b)
{
    for (int i = 0; i < BENCH_ARRAY_COUNT; i++)
        gpu_buffer_destroy(b->arrays[i].buffer);
    for (unsigned i = 0; i < BENCH_POOL_MAX; i++)
        gpu_buffer_destroy(b->pool[i].buffer);
}
