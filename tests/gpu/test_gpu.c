// Devices, buffers, commands and kernels of runtime/gpu, against what the kernel `probe` must compute.
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "tests/gpu/gpu_fixture.h"

enum { WORDS = 10007 }; // not a multiple of any group size

// Sluice would not start, or would report nonsense about the card.
static void create_reports_caps(void **state)
{
    (void)state;
    struct gpu_device *device = gpu_fixture_device(NULL);
    const struct gpu_caps *caps = gpu_device_caps(device);
    assert_true(caps->device_name[0] && caps->driver_name[0]);
    assert_true(caps->max_buffer_bytes >= 1u << 27);
    assert_true(caps->buffer_alignment >= 16 && caps->buffer_alignment <= 256);
    assert_true(caps->device_local_bytes > 0 && caps->device_budget_bytes <= caps->device_local_bytes);
    assert_true(caps->shared_bytes >= 16384 && caps->subgroup_size >= 1);
    assert_true(caps->max_groups_x >= 65535 && caps->max_groups_y >= 65535);
    if (caps->can_import)
        assert_true(caps->import_alignment >= 4096);
    assert_int_equal(gpu_tick_last(device), 0);
    gpu_assert_ok(gpu_wait(device, 0));
    gpu_device_destroy(device);
    gpu_device_destroy(NULL);
}

static void remember_usable(void *user, unsigned index, const char *name, bool usable, const char *why_not)
{
    (void)name;
    assert_true(usable || why_not[0]);
    if (usable)
        *(int *)user = (int)index;
}

// `--device 1` or `--device radeon` would open another card, or none.
static void device_is_chosen_by_index_and_name(void **state)
{
    (void)state;
    int usable = -1;
    unsigned count;
    gpu_assert_ok(gpu_device_list(remember_usable, &usable, &count));
    assert_true(usable >= 0 && (unsigned)usable < count);
    char index[16];
    snprintf(index, sizeof index, "%d", usable);
    struct gpu_device *device = gpu_fixture_device(&(struct gpu_device_options){.name = index});
    char name[256];
    snprintf(name, sizeof name, "%s", gpu_device_caps(device)->device_name);
    gpu_device_destroy(device);
    for (char *c = name; *c; c++)
        *c = (char)(*c >= 'a' && *c <= 'z' ? *c - 32 : *c);
    gpu_device_destroy(gpu_fixture_device(&(struct gpu_device_options){.name = name}));
}

// A typing error in `--device` must tell what is there.
static void unknown_device_lists_what_was_found(void **state)
{
    (void)state;
    struct gpu_device *device;
    struct gpu_device_options options = {.name = "no such card"};
    assert_int_equal(gpu_device_create(&options, &device), SLUICE_ERR_ARGUMENT);
    assert_null(device);
    assert_non_null(strstr(error_message(), "no such card"));
    assert_non_null(strstr(error_message(), "\n  0: "));
}

// Weights would arrive damaged on the card.
static void copies_round_trip(void **state)
{
    (void)state;
    struct gpu_device *device = gpu_fixture_device(NULL);
    uint32_t *in = gpu_fixture_words(WORDS, 1), *out = gpu_fixture_words(WORDS, 2);
    struct gpu_buffer *buffer = gpu_fixture_filled(device, in, WORDS);
    gpu_fixture_read(device, buffer, out, WORDS);
    assert_memory_equal(in, out, WORDS * sizeof *in);
    gpu_buffer_destroy(buffer);
    assert_int_equal(gpu_device_usage(device).device_bytes, 0);
    assert_int_equal(gpu_device_usage(device).device_bytes_max, WORDS * 4);
    assert_int_equal(gpu_device_usage(device).host_bytes, 0);
    gpu_device_destroy(device);
    mem_free(in);
    mem_free(out);
}

// A copy into a slot would damage its neighbours.
static void ranges_are_respected(void **state)
{
    (void)state;
    struct gpu_device *device = gpu_fixture_device(NULL);
    uint32_t *in = gpu_fixture_words(256, 1), *out = gpu_fixture_words(256, 2);
    struct gpu_buffer *a = gpu_fixture_filled(device, in, 256);
    struct gpu_buffer *b = gpu_fixture_buffer(device, GPU_MEMORY_DEVICE, 1024);
    struct gpu_command *command = gpu_fixture_begin(device);
    gpu_clear(command, gpu_range_all(b));
    struct gpu_range middle = gpu_range_part(gpu_range_make(b, 256, 512), 64, 128);
    gpu_copy(command, gpu_range_make(a, 4, 128), middle);
    gpu_assert_ok(gpu_command_submit(command, NULL));
    gpu_fixture_read(device, b, out, 256);
    for (uint32_t i = 0; i < 256; i++)
        assert_int_equal(out[i], i >= 80 && i < 112 ? in[i - 80 + 1] : 0);
    gpu_buffer_destroy(a);
    gpu_buffer_destroy(b);
    gpu_device_destroy(device);
    mem_free(in);
    mem_free(out);
}

// Layers read the results of the layers before them: without barriers, or with ticks out of order, text turns to noise.
static void dependent_chain_gives_the_right_result(void **state)
{
    (void)state;
    enum { STEPS = 300, SUBMITS = 2 }; // more sets than one descriptor pool holds
    struct gpu_device *device = gpu_fixture_device(NULL);
    uint32_t *words = gpu_fixture_words(WORDS, 3), *out = gpu_fixture_words(WORDS, 4);
    struct gpu_buffer *buffers[2] = {gpu_fixture_filled(device, words, WORDS),
                                     gpu_fixture_buffer(device, GPU_MEMORY_DEVICE, WORDS * 4)};
    uint64_t tick = 0, barriers = gpu_device_usage(device).barriers, last = gpu_tick_last(device);
    for (uint32_t s = 0; s < SUBMITS; s++) {
        struct gpu_command *command = gpu_fixture_begin(device);
        for (uint32_t i = 0; i < STEPS; i++)
            gpu_fixture_probe(device, command, gpu_range_all(buffers[i % 2]), gpu_range_all(buffers[1 - i % 2]),
                              (struct probe_push){.count = WORDS, .multiplier = 5, .addend = i});
        gpu_assert_ok(gpu_command_submit(command, &tick));
        assert_int_equal(tick, last + s + 1);
    }
    // One at the start of each command, one between two neighbours.
    assert_int_equal(gpu_device_usage(device).barriers - barriers, SUBMITS * STEPS);
    gpu_fixture_read(device, buffers[0], out, WORDS);
    assert_true(gpu_tick_done(device) >= tick);
    for (uint32_t i = 0; i < WORDS; i++) {
        for (uint32_t s = 0; s < SUBMITS * STEPS; s++)
            words[i] = words[i] * 5 + s % STEPS;
        assert_int_equal(out[i], words[i]);
    }
    gpu_buffer_destroy(buffers[0]);
    gpu_buffer_destroy(buffers[1]);
    gpu_device_destroy(device);
    mem_free(words);
    mem_free(out);
}

// Experts that do not depend on each other would run one after the other.
static void independent_dispatches_get_no_barrier(void **state)
{
    (void)state;
    struct gpu_device *device = gpu_fixture_device(NULL);
    struct gpu_buffer *x = gpu_fixture_buffer(device, GPU_MEMORY_DEVICE, 1024);
    struct gpu_buffer *y = gpu_fixture_buffer(device, GPU_MEMORY_DEVICE, 8 * 1024);
    struct gpu_command *command = gpu_fixture_begin(device);
    uint64_t before = gpu_device_usage(device).barriers;
    gpu_clear(command, gpu_range_all(x));
    for (uint64_t i = 0; i < 8; i++)
        gpu_fixture_probe(device, command, gpu_range_all(x), gpu_range_make(y, i * 1024, 1024),
                          (struct probe_push){.count = 256, .multiplier = 1, .addend = 1});
    gpu_assert_ok(gpu_command_submit(command, NULL));
    assert_int_equal(gpu_device_usage(device).barriers - before, 2); // in front of the clear and behind it
    gpu_assert_ok(gpu_wait(device, gpu_tick_last(device)));
    gpu_buffer_destroy(x);
    gpu_buffer_destroy(y);
    gpu_device_destroy(device);
}

// Constants select the kernel's variant: with the wrong ones it would compute something else.
static void constants_specialise_kernels(void **state)
{
    (void)state;
    struct gpu_device *device = gpu_fixture_device(NULL);
    const struct gpu_kernel *once, *defaults, *thrice;
    gpu_assert_ok(gpu_kernel_get(device, SHADER_PROBE, (uint32_t[]){64, 1}, 2, &once));
    gpu_assert_ok(gpu_kernel_get(device, SHADER_PROBE, NULL, 0, &defaults));
    gpu_assert_ok(gpu_kernel_get(device, SHADER_PROBE, (uint32_t[]){32, 3}, 2, &thrice));
    assert_ptr_equal(once, defaults);
    assert_ptr_not_equal(once, thrice);

    uint32_t *words = gpu_fixture_words(WORDS, 5), *out = gpu_fixture_words(WORDS, 6);
    struct gpu_buffer *x = gpu_fixture_filled(device, words, WORDS);
    struct gpu_buffer *y = gpu_fixture_buffer(device, GPU_MEMORY_DEVICE, WORDS * 4);
    struct gpu_command *command = gpu_fixture_begin(device);
    const struct gpu_range ranges[] = {gpu_range_all(x), gpu_range_all(y)};
    const struct probe_push push = {.count = WORDS, .multiplier = 3, .addend = 1};
    gpu_dispatch(command, thrice, ranges, 2, &push, sizeof push, (WORDS + 31) / 32, 1, 1);
    gpu_dispatch(command, thrice, ranges, 2, &push, sizeof push, 0, 1, 1); // an empty grid is nothing
    gpu_assert_ok(gpu_command_submit(command, NULL));
    gpu_fixture_read(device, y, out, WORDS);
    for (uint32_t i = 0; i < WORDS; i++)
        assert_int_equal(out[i], words[i] * 27 + 13);
    gpu_buffer_destroy(x);
    gpu_buffer_destroy(y);
    gpu_device_destroy(device);
    mem_free(words);
    mem_free(out);
}

// A failed operation would be submitted half recorded.
static void a_recorded_failure_stops_the_submission(void **state)
{
    (void)state;
    struct gpu_device *device = gpu_fixture_device(NULL);
    struct gpu_buffer *buffer = gpu_fixture_buffer(device, GPU_MEMORY_DEVICE, 1024);
    struct gpu_command *command, *again;
    gpu_assert_ok(gpu_command_begin(device, &command));
    gpu_command_fail(command, error_set(SLUICE_ERR_UNSUPPORTED, "the first failure"));
    gpu_command_fail(command, error_set(SLUICE_ERR_DEVICE, "a later one"));
    gpu_clear(command, gpu_range_all(buffer));
    assert_int_equal(gpu_command_submit(command, NULL), SLUICE_ERR_UNSUPPORTED);
    assert_string_equal(error_message(), "the first failure");
    assert_int_equal(gpu_tick_last(device), 0);
    gpu_assert_ok(gpu_command_begin(device, &again));
    assert_ptr_equal(again, command);
    gpu_command_cancel(again);
    gpu_command_cancel(NULL);
    gpu_buffer_destroy(buffer);
    gpu_device_destroy(device);
}

// Commands would pile up with every token.
static void finished_commands_are_reused(void **state)
{
    (void)state;
    struct gpu_device *device = gpu_fixture_device(NULL);
    struct gpu_command *first, *command;
    uint64_t tick;
    gpu_assert_ok(gpu_command_begin(device, &first));
    gpu_assert_ok(gpu_command_submit(first, &tick));
    for (int i = 0; i < 100; i++) {
        gpu_assert_ok(gpu_wait(device, tick));
        gpu_assert_ok(gpu_command_begin(device, &command));
        assert_ptr_equal(command, first);
        gpu_assert_ok(gpu_command_submit(command, &tick));
    }
    gpu_device_destroy(device);
}

// Planning would make slabs that the driver refuses; the user must see the limit.
static void too_large_buffer_is_refused(void **state)
{
    (void)state;
    struct gpu_device *device = gpu_fixture_device(&(struct gpu_device_options){.max_buffer_bytes = 1000});
    struct gpu_buffer *buffer;
    assert_int_equal(gpu_device_caps(device)->max_buffer_bytes, 992);
    assert_int_equal(gpu_buffer_create(device, GPU_MEMORY_DEVICE, 996, "slab 7", &buffer), SLUICE_ERR_ARGUMENT);
    assert_null(buffer);
    assert_non_null(strstr(error_message(), "'slab 7' of 996 bytes"));
    assert_non_null(strstr(error_message(), "992 bytes"));
    gpu_assert_ok(gpu_buffer_create(device, GPU_MEMORY_DEVICE, 992, "slab 7", &buffer));
    gpu_buffer_destroy(buffer);
    gpu_device_destroy(device);
}

struct times {
    uint64_t probe_ns, probe_count, label_ns, label_count, copy_count;
};

static void collect(void *user, const char *label, uint64_t total_ns, uint64_t count)
{
    struct times *times = user;
    if (strcmp(label, "probe") == 0) {
        times->probe_ns = total_ns;
        times->probe_count = count;
    }
    if (strcmp(label, "mixer") == 0) {
        times->label_ns = total_ns;
        times->label_count = count;
    }
    if (strcmp(label, "copy") == 0)
        times->copy_count = count;
}

// The profile would blame the wrong kernel.
static void timestamps_are_plausible(void **state)
{
    (void)state;
    struct gpu_device *device = gpu_fixture_device(&(struct gpu_device_options){.timestamps = true});
    struct gpu_buffer *x = gpu_fixture_buffer(device, GPU_MEMORY_DEVICE, WORDS * 4);
    struct gpu_buffer *y = gpu_fixture_buffer(device, GPU_MEMORY_DEVICE, WORDS * 4);
    const struct probe_push push = {.count = WORDS, .multiplier = 3, .addend = 1};
    for (int i = 0; i < 2; i++) {
        struct gpu_command *command = gpu_fixture_begin(device);
        gpu_copy(command, gpu_range_all(x), gpu_range_all(y));
        gpu_label(command, "mixer");
        for (int d = 0; d < 100; d++)
            gpu_fixture_probe(device, command, gpu_range_all(d % 2 ? x : y), gpu_range_all(d % 2 ? y : x), push);
        gpu_assert_ok(gpu_command_submit(command, NULL));
    }
    gpu_assert_ok(gpu_wait(device, gpu_tick_last(device)));
    struct times times = {0};
    gpu_times(device, collect, &times);
    assert_int_equal(times.probe_count, 200);
    assert_int_equal(times.label_count, 200);
    assert_int_equal(times.copy_count, 2);
    assert_true(times.probe_ns > 0 && times.probe_ns < UINT64_C(60000000000));
    assert_int_equal(times.probe_ns, times.label_ns);
    times = (struct times){0};
    gpu_times_reset(device);
    gpu_times(device, collect, &times);
    assert_int_equal(times.probe_count, 0);
    gpu_buffer_destroy(x);
    gpu_buffer_destroy(y);
    gpu_device_destroy(device);
}

// Everything that a session makes on the device; the status of the first failure.
static enum sluice_status use_everything(void)
{
    enum sluice_status status;
    struct gpu_device *device = NULL;
    struct gpu_buffer *x = NULL, *y = NULL;
    struct gpu_command *command = NULL;
    const struct gpu_kernel *kernel;
    const struct probe_push push = {.count = 16, .multiplier = 1, .addend = 1};
    TRY(gpu_device_create(&(struct gpu_device_options){.timestamps = true}, &device));
    TRY(gpu_buffer_create(device, GPU_MEMORY_DEVICE, 64, "x", &x));
    TRY(gpu_buffer_create(device, GPU_MEMORY_READBACK, 64, "y", &y));
    TRY(gpu_kernel_get(device, SHADER_PROBE, NULL, 0, &kernel));
    TRY(gpu_command_begin(device, &command));
    gpu_clear(command, gpu_range_all(x));
    gpu_dispatch(command, kernel, (struct gpu_range[]){gpu_range_all(x), gpu_range_all(y)}, 2, &push, sizeof push, 1, 1,
                 1);
    struct gpu_command *submitted = command;
    command = NULL;
    TRY(gpu_command_submit(submitted, NULL));
    TRY(gpu_wait(device, gpu_tick_last(device)));
    assert_int_equal(((const uint32_t *)gpu_buffer_map(y))[15], 1);
fail:
    gpu_command_cancel(command);
    gpu_buffer_destroy(x);
    gpu_buffer_destroy(y);
    gpu_device_destroy(device);
    return status;
}

// Running out of memory would crash or leak instead of ending with a message.
static void every_allocation_may_fail(void **state)
{
    (void)state;
    enum sluice_status status = SLUICE_ERR_MEMORY;
    uint64_t index = 0;
    for (; status != SLUICE_OK && index < 100; index++) {
        mem_fail_at(index);
        status = use_everything();
        mem_fail_at(UINT64_MAX);
        assert_true(status == SLUICE_OK || status == SLUICE_ERR_MEMORY);
    }
    assert_int_equal(status, SLUICE_OK);
    assert_true(index > 8);
}

// A caller's mistake would corrupt other data on the card instead of stopping at its place.
static void reflection_knows_the_kernel(void **state)
{
    (void)state;
    const struct shader_module *probe = shader_module_get(SHADER_PROBE);
    assert_string_equal(probe->name, "probe");
    assert_int_equal(probe->binding_count, 2);
    assert_int_equal(probe->read_mask, 1);
    assert_int_equal(probe->written_mask, 2);
    assert_int_equal(probe->push_bytes, sizeof(struct probe_push));
    assert_int_equal(probe->constant_count, 2);
    assert_int_equal(probe->constants[0], 64);
    assert_int_equal(probe->constants[1], 1);
    assert_int_equal(probe->local_size[0], 64);
    assert_int_equal(probe->local_size[1], 1);
}

int main(void)
{
    gpu_fixture_require_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create_reports_caps),
        cmocka_unit_test(device_is_chosen_by_index_and_name),
        cmocka_unit_test(unknown_device_lists_what_was_found),
        cmocka_unit_test(copies_round_trip),
        cmocka_unit_test(ranges_are_respected),
        cmocka_unit_test(dependent_chain_gives_the_right_result),
        cmocka_unit_test(independent_dispatches_get_no_barrier),
        cmocka_unit_test(constants_specialise_kernels),
        cmocka_unit_test(a_recorded_failure_stops_the_submission),
        cmocka_unit_test(finished_commands_are_reused),
        cmocka_unit_test(too_large_buffer_is_refused),
        cmocka_unit_test(timestamps_are_plausible),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(reflection_knows_the_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
