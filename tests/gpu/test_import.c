// Memory of the host as a buffer: experts are read from the drive to it.
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/mem.h"
#include "tests/gpu/gpu_fixture.h"

static void *map_anonymous(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    return memory;
}

// Experts read from the drive would arrive wrong on the card (or be copied once more than necessary).
static void imported_memory_can_be_copied(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20 };
    struct gpu_device *device = gpu_fixture_device(NULL);
    if (!gpu_device_caps(device)->can_import) {
        gpu_device_destroy(device);
        skip();
    }
    uint32_t *host = map_anonymous(BYTES), *out = gpu_fixture_words(BYTES / 4, 8);
    struct gpu_buffer *import, *buffer = gpu_fixture_buffer(device, GPU_MEMORY_DEVICE, BYTES);
    gpu_assert_ok(gpu_buffer_import(device, GPU_MEMORY_UPLOAD, host, BYTES, "pool", &import));
    assert_int_equal(gpu_device_usage(device).device_bytes, BYTES); // the other buffer
    for (uint32_t i = 0; i < BYTES / 4; i++)
        host[i] = i * 7;
    struct gpu_command *command = gpu_fixture_begin(device);
    gpu_copy(command, gpu_range_all(import), gpu_range_all(buffer));
    gpu_assert_ok(gpu_command_submit(command, NULL));
    gpu_fixture_read(device, buffer, out, BYTES / 4);
    assert_memory_equal(host, out, BYTES);
    assert_ptr_equal(gpu_buffer_map(import), host);
    gpu_buffer_destroy(import);
    gpu_buffer_destroy(buffer);
    gpu_device_destroy(device);
    munmap(host, BYTES);
    mem_free(out);
}

// Experts would be computed with what a slot held before, or the next read would overwrite what is being computed with:
// kernels read what the host wrote before the submission, at any place of the binding, and no longer than until its
// tick.
static void kernels_read_imported_memory(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20, PART = 1 << 14, ROUNDS = 40 };
    struct gpu_device *device = gpu_fixture_device(NULL);
    if (!gpu_device_caps(device)->can_bind_imports) {
        gpu_device_destroy(device);
        skip();
    }
    uint32_t *host = map_anonymous(BYTES), *out = gpu_fixture_words(PART / 4, 8);
    struct gpu_buffer *import, *y = gpu_fixture_buffer(device, GPU_MEMORY_DEVICE, PART);
    gpu_assert_ok(gpu_buffer_import(device, GPU_MEMORY_DEVICE, host, BYTES, "pool", &import));
    assert_ptr_equal(gpu_buffer_map(import), host);
    assert_int_equal(gpu_device_usage(device).device_bytes, BYTES + PART);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t offset = round * 7 % (BYTES / PART) * PART, *part = host + offset / 4;
        uint64_t tick;
        struct gpu_command *command;
        for (uint32_t i = 0; i < PART / 4; i++)
            part[i] = i * 7 + round;
        gpu_assert_ok(gpu_command_begin(device, &command));
        gpu_fixture_probe(device, command, gpu_range_make(import, offset, PART), gpu_range_all(y),
                          (struct probe_push){.count = PART / 4, .multiplier = 3, .addend = 1});
        gpu_assert_ok(gpu_command_submit(command, &tick));
        gpu_assert_ok(gpu_wait(device, tick));
        memset(part, 0xFF, PART);
        gpu_fixture_read(device, y, out, PART / 4);
        for (uint32_t i = 0; i < PART / 4; i++)
            assert_int_equal(out[i], (i * 7 + round) * 3 + 1);
    }
    gpu_buffer_destroy(import);
    assert_int_equal(gpu_device_usage(device).device_bytes, PART);
    gpu_buffer_destroy(y);
    gpu_device_destroy(device);
    munmap(host, BYTES);
    mem_free(out);
}

// A pool that the driver cannot bind at once, or that lies at an odd place, would crash instead of being cut or done
// without.
static void impossible_imports_are_refused(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20, LIMIT = 1 << 18 };
    struct gpu_device *device = gpu_fixture_device(&(struct gpu_device_options){.max_buffer_bytes = LIMIT});
    uint8_t *host = map_anonymous(BYTES);
    struct gpu_buffer *buffer;
    bool binds = gpu_device_caps(device)->can_bind_imports;
    static const struct {
        enum gpu_memory memory;
        uint64_t offset, bytes;
    } cases[] = {{GPU_MEMORY_DEVICE, 0, BYTES}, {GPU_MEMORY_DEVICE, 64, 4096}, {GPU_MEMORY_UPLOAD, 4096, 4000}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(
            gpu_buffer_import(device, cases[i].memory, host + cases[i].offset, cases[i].bytes, "pool", &buffer),
            SLUICE_ERR_UNSUPPORTED);
        assert_null(buffer);
    }
    if (binds) {
        gpu_assert_ok(gpu_buffer_import(device, GPU_MEMORY_DEVICE, host + LIMIT, LIMIT, "pool", &buffer));
        gpu_buffer_destroy(buffer);
    }
    munmap(host, BYTES);
    gpu_device_destroy(device);
}

// On drivers without import (NVK, newer ANV) the caller must be told to take its other path.
static void import_can_be_absent(void **state)
{
    (void)state;
    struct gpu_device *device = gpu_fixture_device(&(struct gpu_device_options){.no_import = true});
    void *host = map_anonymous(4096);
    struct gpu_buffer *buffer;
    assert_false(gpu_device_caps(device)->can_import);
    assert_false(gpu_device_caps(device)->can_bind_imports);
    for (int i = 0; i < 2; i++) {
        enum gpu_memory memory = i ? GPU_MEMORY_UPLOAD : GPU_MEMORY_DEVICE;
        assert_int_equal(gpu_buffer_import(device, memory, host, 4096, "pool", &buffer), SLUICE_ERR_UNSUPPORTED);
        assert_null(buffer);
    }
    munmap(host, 4096);
    gpu_device_destroy(device);
}

int main(void)
{
    gpu_fixture_require_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(imported_memory_can_be_copied),
        cmocka_unit_test(kernels_read_imported_memory),
        cmocka_unit_test(impossible_imports_are_refused),
        cmocka_unit_test(import_can_be_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
