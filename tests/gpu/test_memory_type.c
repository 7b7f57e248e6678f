// Which memory type buffers get, on the tables that drivers of real cards report.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/gpu/gpu_internal.h"

enum {
    LOCAL = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
    VISIBLE = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
    CACHED = VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
    UNCACHED_AMD = VK_MEMORY_PROPERTY_DEVICE_COHERENT_BIT_AMD | VK_MEMORY_PROPERTY_DEVICE_UNCACHED_BIT_AMD,
};

static VkPhysicalDeviceMemoryProperties table(const uint32_t *flags, uint32_t count)
{
    VkPhysicalDeviceMemoryProperties properties = {.memoryTypeCount = count, .memoryHeapCount = 1};
    for (uint32_t i = 0; i < count; i++)
        properties.memoryTypes[i].propertyFlags = flags[i];
    return properties;
}

static void assert_choice(const uint32_t *flags, uint32_t count, int device, int upload, int readback)
{
    VkPhysicalDeviceMemoryProperties properties = table(flags, count);
    assert_int_equal(memory_type_choose(&properties, GPU_MEMORY_DEVICE, UINT32_MAX), device);
    assert_int_equal(memory_type_choose(&properties, GPU_MEMORY_UPLOAD, UINT32_MAX), upload);
    assert_int_equal(memory_type_choose(&properties, GPU_MEMORY_READBACK, UINT32_MAX), readback);
}

// Weights would go to the 256 MiB window of a Radeon and spill, or the host would read uncached memory at 0.3 GB/s.
static void discrete_radeon(void **state)
{
    (void)state;
    const uint32_t flags[] = {LOCAL,
                              LOCAL,
                              VISIBLE,
                              LOCAL | VISIBLE,
                              LOCAL | VISIBLE,
                              VISIBLE | CACHED,
                              VISIBLE | CACHED,
                              LOCAL | UNCACHED_AMD,
                              VISIBLE | CACHED | UNCACHED_AMD};
    assert_choice(flags, 9, 0, 2, 5);
}

// NVIDIA lists types without any property first.
static void discrete_geforce(void **state)
{
    (void)state;
    const uint32_t flags[] = {0, LOCAL, VISIBLE, VISIBLE | CACHED, LOCAL | VISIBLE};
    assert_choice(flags, 5, 1, 2, 3);
}

// Integrated cards and llvmpipe have a single kind of memory.
static void everything_is_one_memory(void **state)
{
    (void)state;
    const uint32_t one[] = {LOCAL | VISIBLE | CACHED};
    assert_choice(one, 1, 0, 0, 0);
    const uint32_t intel[] = {LOCAL | VISIBLE, LOCAL | VISIBLE | CACHED};
    assert_choice(intel, 2, 0, 0, 1);
}

// A type that the buffer cannot use would be a driver error, or worse.
static void disallowed_types_are_not_chosen(void **state)
{
    (void)state;
    const uint32_t flags[] = {LOCAL, VISIBLE, VISIBLE | CACHED};
    VkPhysicalDeviceMemoryProperties properties = table(flags, 3);
    assert_int_equal(memory_type_choose(&properties, GPU_MEMORY_DEVICE, 6), 1);
    assert_int_equal(memory_type_choose(&properties, GPU_MEMORY_UPLOAD, 5), 2);
    assert_int_equal(memory_type_choose(&properties, GPU_MEMORY_UPLOAD, 1), -1);
    assert_int_equal(memory_type_choose(&properties, GPU_MEMORY_DEVICE, 0), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(discrete_radeon),
        cmocka_unit_test(discrete_geforce),
        cmocka_unit_test(everything_is_one_memory),
        cmocka_unit_test(disallowed_types_are_not_chosen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
