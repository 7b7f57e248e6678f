// Descriptor sets that are kept: a dispatch is bound to its own ranges, whatever was bound before.
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "tests/gpu/gpu_fixture.h"

// One dispatch reads and writes PART words. PARTS is more than the cache keeps.
enum { PART = 64, PART_BYTES = 4 * PART, PARTS = 9001 };

static struct gpu_range part(struct gpu_buffer *buffer, uint32_t index)
{
    return gpu_range_make(buffer, (uint64_t)index * PART_BYTES, PART_BYTES);
}

static void probe_part(struct gpu_device *device, struct gpu_command *command, struct gpu_buffer *x,
                       struct gpu_buffer *y, uint32_t index)
{
    gpu_fixture_probe(device, command, part(x, index), part(y, index),
                      (struct probe_push){.count = PART, .multiplier = 3, .addend = index});
}

// Every token would pay for the same descriptor sets again.
static void repeated_ranges_need_one_set(void **state)
{
    (void)state;
    enum { COMMANDS = 20, DIFFERENT = 3 };
    struct gpu_device *device = gpu_fixture_device(NULL);
    struct gpu_buffer *x = gpu_fixture_buffer(device, GPU_MEMORY_DEVICE, DIFFERENT * PART_BYTES);
    struct gpu_buffer *y = gpu_fixture_buffer(device, GPU_MEMORY_DEVICE, DIFFERENT * PART_BYTES);
    for (uint32_t i = 0; i < COMMANDS; i++) {
        struct gpu_command *command = gpu_fixture_begin(device);
        for (uint32_t d = 0; d < 2 * DIFFERENT; d++)
            probe_part(device, command, x, y, d % DIFFERENT);
        gpu_assert_ok(gpu_command_submit(command, NULL));
        if (i % 3 == 0)
            gpu_assert_ok(gpu_wait(device, gpu_tick_last(device)));
    }
    assert_int_equal(gpu_device_usage(device).sets_filled, DIFFERENT);
    gpu_assert_ok(gpu_wait(device, gpu_tick_last(device)));
    gpu_buffer_destroy(x);
    gpu_buffer_destroy(y);
    gpu_device_destroy(device);
}

// After a budget has shrunk, or a document is read into a buffer of its own, kernels would write into memory that is
// gone: drivers give a new buffer the handle and the place of one that was destroyed.
static void a_new_buffer_in_an_old_ones_place_is_bound(void **state)
{
    (void)state;
    enum { ROUNDS = 40 };
    struct gpu_device *device = gpu_fixture_device(NULL);
    uint32_t *words = gpu_fixture_words(PART, 0), out[PART];
    struct gpu_buffer *x = gpu_fixture_filled(device, words, PART);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct gpu_buffer *y = gpu_fixture_buffer(device, GPU_MEMORY_DEVICE, PART_BYTES);
        struct gpu_command *command = gpu_fixture_begin(device);
        gpu_fixture_probe(device, command, part(x, 0), part(y, 0),
                          (struct probe_push){.count = PART, .multiplier = 5, .addend = round});
        gpu_assert_ok(gpu_command_submit(command, NULL));
        gpu_fixture_read(device, y, out, PART);
        for (uint32_t i = 0; i < PART; i++)
            assert_int_equal(out[i], words[i] * 5 + round);
        gpu_buffer_destroy(y);
    }
    assert_int_equal(gpu_device_usage(device).sets_filled, ROUNDS);
    gpu_buffer_destroy(x);
    gpu_device_destroy(device);
    mem_free(words);
}

// A command that is being recorded keeps its sets while others come and go.
static void an_open_command_keeps_its_sets(void **state)
{
    (void)state;
    enum { OTHERS = 50 };
    struct gpu_device *device = gpu_fixture_device(NULL);
    uint32_t *words = gpu_fixture_words(PART, 0), out[PART];
    struct gpu_buffer *x = gpu_fixture_filled(device, words, PART);
    struct gpu_buffer *y = gpu_fixture_buffer(device, GPU_MEMORY_DEVICE, PART_BYTES);
    struct gpu_command *open = gpu_fixture_begin(device);
    probe_part(device, open, x, y, 0);
    for (uint32_t i = 0; i < OTHERS; i++) { // their sets name nothing any more and are filled anew
        struct gpu_buffer *z = gpu_fixture_buffer(device, GPU_MEMORY_DEVICE, PART_BYTES);
        struct gpu_command *command = gpu_fixture_begin(device);
        probe_part(device, command, x, z, 0);
        gpu_assert_ok(gpu_command_submit(command, NULL));
        gpu_assert_ok(gpu_wait(device, gpu_tick_last(device)));
        gpu_buffer_destroy(z);
    }
    gpu_assert_ok(gpu_command_submit(open, NULL));
    gpu_fixture_read(device, y, out, PART);
    for (uint32_t i = 0; i < PART; i++)
        assert_int_equal(out[i], words[i] * 3);
    gpu_buffer_destroy(x);
    gpu_buffer_destroy(y);
    gpu_device_destroy(device);
    mem_free(words);
}

// All parts once, in an order that `step` decides, waiting for each command or for none.
static void probe_all_parts(struct gpu_device *device, struct gpu_buffer *x, struct gpu_buffer *y, uint32_t step,
                            bool waits)
{
    enum { PER_COMMAND = 1000 };
    for (uint32_t done = 0; done < PARTS;) {
        struct gpu_command *command = gpu_fixture_begin(device);
        for (uint32_t i = 0; i < PER_COMMAND && done < PARTS; i++, done++)
            probe_part(device, command, x, y, (uint32_t)((uint64_t)done * step % PARTS));
        gpu_assert_ok(gpu_command_submit(command, NULL));
        if (waits)
            gpu_assert_ok(gpu_wait(device, gpu_tick_last(device)));
    }
}

// A long prompt binds more ranges than are kept: results would be those of other rows, or memory would grow for ever.
static void more_ranges_than_are_kept(void **state)
{
    (void)state;
    struct gpu_device *device = gpu_fixture_device(NULL);
    uint32_t *words = gpu_fixture_words(PARTS * PART, 0), *out = gpu_fixture_words(PARTS * PART, 0);
    struct gpu_buffer *x = gpu_fixture_filled(device, words, PARTS * PART);
    struct gpu_buffer *y = gpu_fixture_buffer(device, GPU_MEMORY_DEVICE, (uint64_t)PARTS * PART_BYTES);
    static const uint32_t steps[] = {1, 7, 1};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        bool waits = i % 2 == 0;
        struct gpu_command *command = gpu_fixture_begin(device);
        gpu_clear(command, gpu_range_all(y));
        gpu_assert_ok(gpu_command_submit(command, NULL));
        probe_all_parts(device, x, y, steps[i], waits);
        gpu_fixture_read(device, y, out, PARTS * PART);
        for (uint32_t w = 0; w < PARTS * PART; w++)
            assert_int_equal(out[w], words[w] * 3 + w / PART);
    }
    assert_true(gpu_device_usage(device).sets_filled > PARTS);
    gpu_buffer_destroy(x);
    gpu_buffer_destroy(y);
    gpu_device_destroy(device);
    mem_free(words);
    mem_free(out);
}

int main(void)
{
    gpu_fixture_require_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeated_ranges_need_one_set),
        cmocka_unit_test(a_new_buffer_in_an_old_ones_place_is_bound),
        cmocka_unit_test(an_open_command_keeps_its_sets),
        cmocka_unit_test(more_ranges_than_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
