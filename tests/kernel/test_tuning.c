// The choice of kernel variants: what is kept between runs, what is damaged, and what a driver computes wrongly.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/small_file.h"
#include "runtime/ops/ops_internal.h"
#include "runtime/ops/self_test.h"
#include "runtime/ops/tuning_file.h"

static struct gpu_device *device;
static struct gpu_caps caps;
static char folder[64], path[256];

// --- what the library says ------------------------------------------------------------------------------------------

static char said[8192];

static void hear(void *user, enum log_level level, const char *text)
{
    (void)user;
    size_t length = strlen(said);
    snprintf(said + length, sizeof said - length, "%d %s\n", (int)level, text);
}

static bool heard(enum log_level level, const char *part)
{
    char *copy = strdup(said), *rest = copy;
    bool found = false;
    for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n"))
        found |= *line == '0' + (int)level && strstr(line, part);
    free(copy);
    return found;
}

// --- the tuning of one start ----------------------------------------------------------------------------------------

static struct tuning start(const struct ops_options *options)
{
    struct ops *ops;
    said[0] = '\0';
    if (ops_create(device, options, &ops) != SLUICE_OK)
        fail_msg("%s", error_message());
    struct tuning tuning = ops->tuning;
    ops_destroy(ops);
    return tuning;
}

static int group_setup(void **state)
{
    (void)state;
    unsigned count = 0;
    if (gpu_device_list(NULL, NULL, &count) != SLUICE_OK || count == 0) {
        fprintf(stderr, "skipped: no Vulkan device: %s\n", error_message());
        exit(77);
    }
    if (gpu_device_create(&(struct gpu_device_options){0}, &device) != SLUICE_OK)
        return -1;
    caps = *gpu_device_caps(device);
    log_set(hear, NULL);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    log_set(NULL, NULL);
    gpu_device_destroy(device);
    return 0;
}

static int setup(void **state)
{
    char name[TUNING_FILE_NAME_BYTES];
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/sluice-tuning-XXXXXX");
    tuning_file_name(&caps, name);
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    said[0] = '\0';
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static bool knobs_list(const struct gpu_caps *of)
{
    uint32_t count;
    struct tuning tuning = tuning_default(of);
    const struct tuning_knob *knobs = tuning_knobs(of, &count);
    for (uint32_t i = 0; i < count; i++) {
        bool listed = false;
        for (uint32_t k = 0; k < knobs[i].choice_count; k++)
            listed |= memcmp(tuning_knob_values(&knobs[i], &tuning), knobs[i].choices[k], 4 * knobs[i].width) == 0;
        if (!listed)
            return false;
    }
    return tuning_is_valid(&tuning, of);
}

// Choices that are no choice of their knob are never found again in the file: every start would take longer.
static void the_start_is_one_of_the_choices(void **state)
{
    (void)state;
    for (uint32_t kind = 0; kind < 6; kind++) {
        struct gpu_caps of = {.is_software = kind == 0, .subgroup_size = kind == 1 ? 64 : 32, .max_invocations = 1024};
        of.max_invocations = kind == 2 ? 256 : 1024;
        assert_true(knobs_list(&of));
    }
}

// On a machine that is too busy to measure everything in time, more than one start.
static struct tuning start_until_kept(void)
{
    struct tuning tuning = start(&(struct ops_options){.cache_folder = folder});
    assert_true(heard(LOG_DEBUG, "calibration"));
    for (int i = 0; i < 20 && access(path, F_OK) != 0; i++)
        tuning = start(&(struct ops_options){.cache_folder = folder});
    return tuning;
}

// The values of one knob other than those of *tuning, so that a file with them is recognised.
static void turn_first_knob(struct tuning *tuning)
{
    uint32_t count;
    const struct tuning_knob *knob = tuning_knobs(&caps, &count);
    uint32_t *values = tuning_knob_values(knob, tuning);
    bool first = memcmp(values, knob->choices[0], 4 * knob->width) == 0;
    memcpy(values, knob->choices[first ? 1 : 0], 4 * knob->width);
}

// Every start of the program would take a second longer.
static void choices_are_kept(void **state)
{
    (void)state;
    const struct ops_options options = {.cache_folder = folder};
    struct tuning first = start_until_kept();
    struct tuning second = start(&options);
    assert_false(heard(LOG_DEBUG, "calibration"));
    assert_memory_equal(&first, &second, sizeof first);

    // What is kept is what is used, and --recalibrate replaces it.
    turn_first_knob(&first);
    assert_int_equal(tuning_file_save(folder, &caps, &first, 0), SLUICE_OK);
    second = start(&options);
    assert_memory_equal(&first, &second, sizeof first);
    start(&(struct ops_options){.cache_folder = folder, .recalibrate = true});
    assert_true(heard(LOG_DEBUG, "calibration"));
}

static void write_file(const char *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static void expect_refused(const char *bytes, size_t size)
{
    struct tuning tuning = tuning_default(&caps), before = tuning;
    uint32_t failed = 77;
    write_file(bytes, size);
    assert_int_equal(tuning_file_load(folder, &caps, &tuning, &failed), SLUICE_ERR_FORMAT);
    assert_memory_equal(&tuning, &before, sizeof tuning);
    assert_int_equal(failed, 77);
}

// A damaged file would choose variants that do not exist, or turn on a path that the driver computes wrongly.
static void damaged_files_are_not_believed(void **state)
{
    (void)state;
    char *text;
    size_t size;
    struct tuning tuning = tuning_default(&caps);
    assert_int_equal(tuning_file_save(folder, &caps, &tuning, 1), SLUICE_OK);
    assert_int_equal(small_file_read(folder, strrchr(path, '/') + 1, TUNING_FILE_BYTES_MAX, &text, &size), SLUICE_OK);
    for (size_t i = 0; i < size; i++) {
        expect_refused(text, i);
        text[i] ^= 1;
        expect_refused(text, size);
        text[i] ^= 1 ^ (char)0x80;
        expect_refused(text, size);
        text[i] ^= (char)0x80;
    }
    char *large = calloc(1, TUNING_FILE_BYTES_MAX + 1);
    expect_refused(large, TUNING_FILE_BYTES_MAX + 1);
    free(large);
    text[strlen("sluice tuning ")] = '2'; // another version
    expect_refused(text, size);
    mem_free(text);

    start(&(struct ops_options){.cache_folder = folder});
    assert_true(heard(LOG_DEBUG, "damaged"));
    assert_true(heard(LOG_DEBUG, "calibration"));
    for (int i = 0; i < 20 && heard(LOG_DEBUG, "calibration"); i++) // see start_until_kept
        start(&(struct ops_options){.cache_folder = folder});
    assert_false(heard(LOG_DEBUG, "calibration"));
}

// Choices of one card must not be taken for another's, nor those of an old driver or old kernels.
static void files_belong_to_a_device_and_driver(void **state)
{
    (void)state;
    char name[TUNING_FILE_NAME_BYTES], other_name[TUNING_FILE_NAME_BYTES];
    struct tuning tuning = tuning_default(&caps);
    tuning_file_name(&caps, name);
    assert_int_equal(tuning_file_save(folder, &caps, &tuning, 0), SLUICE_OK);
    for (int i = 0; i < 5; i++) {
        uint32_t failed;
        struct gpu_caps other = caps;
        char *const texts[] = {other.device_name, other.driver_name, (char *)other.device_uuid,
                               (char *)other.driver_uuid, (char *)&other.driver_version};
        texts[i][0] ^= 1;
        tuning_file_name(&other, other_name);
        assert_string_not_equal(name, other_name);
        assert_int_equal(tuning_file_load(folder, &other, &tuning, &failed), SLUICE_ERR_IO);
    }
}

// Sluice would not start on a machine whose home folder is read-only.
static void a_folder_that_cannot_be_written_is_no_error(void **state)
{
    (void)state;
    char below[300];
    write_file("x", 1);
    snprintf(below, sizeof below, "%s/sub/folder", path); // below a file
    start(&(struct ops_options){.cache_folder = below});
    assert_true(heard(LOG_DEBUG, "not kept"));
    assert_false(heard(LOG_WARNING, ""));
}

// Missing parents are made: ~/.cache may not be there.
static void folders_are_made(void **state)
{
    (void)state;
    char below[300], name[TUNING_FILE_NAME_BYTES];
    struct tuning tuning = tuning_default(&caps);
    uint32_t failed;
    snprintf(below, sizeof below, "%s/a/b", folder);
    assert_int_equal(tuning_file_save(below, &caps, &tuning, 0), SLUICE_OK);
    assert_int_equal(tuning_file_load(below, &caps, &tuning, &failed), SLUICE_OK);
    tuning_file_name(&caps, name);
    assert_int_equal(chdir(below), 0);
    assert_int_equal(unlink(name), 0);
    assert_int_equal(chdir("../.."), 0);
    assert_int_equal(rmdir("a/b"), 0);
    assert_int_equal(rmdir("a"), 0);
}

// A driver that computes an optional path wrongly would give wrong answers, silently.
static void wrong_paths_are_not_used(void **state)
{
    (void)state;
    for (uint32_t path_bit = 1; path_bit < 1u << TUNING_PATH_COUNT; path_bit <<= 1) {
        if ((path_bit == TUNING_PATH_MATRIX_CORES || path_bit == TUNING_PATH_MATRIX_ATTENTION) && !caps.matrix_cores)
            continue;
        // Quads are a software driver's path.
        const bool as_gpu = path_bit != TUNING_PATH_QUADS;
        const struct ops_hooks hooks = {.as_gpu = as_gpu, .wrong_paths = path_bit};
        struct tuning tuning =
            start(&(struct ops_options){.cache_folder = folder, .recalibrate = true, .hooks = &hooks});
        assert_int_equal(tuning_paths(&tuning) & path_bit, 0);
        assert_true(heard(LOG_WARNING, tuning_path_name(path_bit)));
        for (uint32_t other = 1; other < 1u << TUNING_PATH_COUNT; other <<= 1)
            assert_true(other == path_bit || !heard(LOG_WARNING, tuning_path_name(other)));
        // And it stays so, without another test.
        struct gpu_caps kind = caps;
        kind.is_software = !as_gpu;
        assert_int_equal(tuning_file_save(folder, &kind, &tuning, path_bit), SLUICE_OK);
        tuning = start(&(struct ops_options){.cache_folder = folder, .hooks = &(struct ops_hooks){.as_gpu = as_gpu}});
        assert_false(heard(LOG_DEBUG, "calibration"));
        assert_int_equal(tuning_paths(&tuning) & path_bit, 0);
        assert_true(heard(LOG_WARNING, tuning_path_name(path_bit)));
    }
}

// The variants for GPUs are never timed in these tests otherwise.
static void a_gpu_is_calibrated(void **state)
{
    (void)state;
    const struct ops_hooks hooks = {.as_gpu = true};
    struct tuning tuning = start(&(struct ops_options){.hooks = &hooks});
    struct gpu_caps as_gpu = caps;
    as_gpu.is_software = false;
    assert_true(tuning_is_valid(&tuning, &as_gpu));
    assert_false(heard(LOG_WARNING, ""));
    assert_true(heard(LOG_DEBUG, "calibration of"));
}

// A device that multiplies wrongly must be refused, not answer nonsense.
static void a_wrong_device_is_refused(void **state)
{
    (void)state;
    struct ops *ops = NULL;
    const struct ops_hooks hooks = {.plain_is_wrong = true};
    assert_int_equal(ops_create(device, &(struct ops_options){.hooks = &hooks}, &ops), SLUICE_ERR_DEVICE);
    assert_non_null(strstr(error_message(), "multiplies wrongly"));
    assert_non_null(strstr(error_message(), caps.device_name));
    assert_null(ops);
}

#define in_folder(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_start_is_one_of_the_choices),
        in_folder(choices_are_kept),
        in_folder(damaged_files_are_not_believed),
        in_folder(files_belong_to_a_device_and_driver),
        in_folder(a_folder_that_cannot_be_written_is_no_error),
        in_folder(folders_are_made),
        in_folder(wrong_paths_are_not_used),
        cmocka_unit_test(a_gpu_is_calibrated),
        cmocka_unit_test(a_wrong_device_is_refused),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
