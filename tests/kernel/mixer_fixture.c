#include "tests/kernel/mixer_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/random.h"
#include "runtime/ops/ops_internal.h"

enum { BUFFERS_MAX = 512, CANARY_BYTES = 256, CANARY = 0xA5 };

struct ops *mixer_ops;
static struct gpu_device *device;
static struct gpu_range buffers[BUFFERS_MAX];
static unsigned buffer_count;

static void require_ok(enum sluice_status status)
{
    if (status != SLUICE_OK)
        fail_msg("%s", error_message());
}

// Built with MATRIX_CORES, all tests run as a prefill on matrix cores.
static struct ops_options fixture_options(void)
{
    struct ops_options options = {.cache_folder = NULL};
#ifdef MATRIX_CORES
    const struct gpu_caps *caps = gpu_device_caps(device);
    if (!caps->matrix_cores) {
        fprintf(stderr, "skipped: this device has no cooperative matrices: %s (%s)\n", caps->device_name,
                caps->driver_name);
        exit(77);
    }
    options.matrix_cores = OPS_MATRIX_CORES_ON;
#endif
    return options;
}

int mixer_group_setup(void **state)
{
    (void)state;
    unsigned count = 0;
    if (gpu_device_list(NULL, NULL, &count) != SLUICE_OK || count == 0) {
        fprintf(stderr, "skipped: no Vulkan device: %s\n", error_message());
        exit(77);
    }
    struct ops_options options;
    if (gpu_device_create(&(struct gpu_device_options){0}, &device) != SLUICE_OK ||
        (options = fixture_options(), ops_create(device, &options, &mixer_ops)) != SLUICE_OK) {
        fprintf(stderr, "%s\n", error_message());
        return -1;
    }
    ops_set_prefill(mixer_ops, true);
    return 0;
}

int mixer_group_teardown(void **state)
{
    (void)state;
    ops_destroy(mixer_ops);
    gpu_device_destroy(device);
    return 0;
}

struct ops *mixer_ops_other(void)
{
    static struct gpu_caps caps;
    static struct ops other;
    caps = *mixer_ops->caps;
    caps.is_software = !caps.is_software;
    other = *mixer_ops;
    other.caps = &caps;
    other.tuning = tuning_default(&caps);
    return &other;
}

static bool canary_intact(const unsigned char *bytes)
{
    for (unsigned i = 0; i < CANARY_BYTES; i++)
        if (bytes[i] != CANARY)
            return false;
    return true;
}

int mixer_test_teardown(void **state)
{
    (void)state;
    bool intact = true;
    for (unsigned i = 0; i < buffer_count; i++) {
        const unsigned char *map = gpu_buffer_map(buffers[i].buffer);
        intact = intact && canary_intact(map) && canary_intact(map + CANARY_BYTES + buffers[i].bytes);
        gpu_buffer_destroy(buffers[i].buffer);
    }
    buffer_count = 0;
    if (!intact)
        print_error("a kernel wrote outside of its buffers\n");
    return intact ? 0 : -1;
}

double random_uniform(uint64_t *state, double low, double high)
{
    return low + (high - low) * random_fraction(state);
}

struct gpu_range buffer_output(size_t bytes)
{
    struct gpu_buffer *buffer;
    assert_true(buffer_count < BUFFERS_MAX);
    require_ok(gpu_buffer_create(device, GPU_MEMORY_READBACK, bytes + 2 * CANARY_BYTES, "test", &buffer));
    memset(gpu_buffer_map(buffer), CANARY, bytes + 2 * CANARY_BYTES);
    struct gpu_range range = gpu_range_make(buffer, CANARY_BYTES, bytes);
    buffers[buffer_count++] = range;
    for (size_t i = 0; i < bytes / 4; i++)
        buffer_data(range)[i] = NAN;
    return range;
}

float *buffer_data(struct gpu_range range)
{
    return gpu_range_map(range);
}

struct gpu_range buffer_floats(const float *values, size_t count)
{
    struct gpu_range range = buffer_output(4 * count);
    memcpy(buffer_data(range), values, 4 * count);
    return range;
}

struct gpu_range buffer_random(uint64_t *state, size_t count, double low, double high)
{
    struct gpu_range range = buffer_output(4 * count);
    for (size_t i = 0; i < count; i++)
        buffer_data(range)[i] = (float)random_uniform(state, low, high);
    return range;
}

double *buffer_doubles(struct gpu_range range, size_t count)
{
    double *values = calloc(count, sizeof *values);
    assert_true(count * 4 <= range.bytes);
    for (size_t i = 0; i < count; i++)
        values[i] = (double)buffer_data(range)[i];
    return values;
}

struct gpu_command *command_open(void)
{
    struct gpu_command *cmd;
    require_ok(gpu_command_begin(device, &cmd));
    return cmd;
}

void command_run(struct gpu_command *cmd)
{
    uint64_t tick;
    require_ok(gpu_command_submit(cmd, &tick));
    require_ok(gpu_wait(device, tick));
}

void assert_near(const char *what, const float *got, const double *want, size_t count, double absolute, double relative)
{
    for (size_t i = 0; i < count; i++) {
        double error = fabs((double)got[i] - want[i]);
        if (!(error <= absolute + relative * fabs(want[i])))
            fail_msg("%s: value %zu of %zu is %.9g, expected %.9g", what, i, count, (double)got[i], want[i]);
    }
}

void assert_same_floats(const char *what, const float *a, const float *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (memcmp(a + i, b + i, sizeof *a) != 0)
            fail_msg("%s: value %zu of %zu differs: %.9g and %.9g", what, i, count, (double)a[i], (double)b[i]);
}

void add_rounded(struct activations *x)
{
    size_t count = (size_t)x->n * x->cols;
    x->q8 = buffer_output(count);
    x->q8_scales = buffer_output(count / 32 * 8);
}

void assert_rounded(const char *what, const struct activations *x)
{
    size_t count = (size_t)x->n * x->cols;
    struct activations again = *x;
    add_rounded(&again);
    struct gpu_command *cmd = command_open();
    op_quantize_q8(mixer_ops, cmd, &again);
    command_run(cmd);
    assert_same_floats(what, buffer_data(x->q8_scales), buffer_data(again.q8_scales), count / 32 * 2);
    assert_memory_equal(buffer_data(x->q8), buffer_data(again.q8), count);
}
