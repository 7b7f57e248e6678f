// Compiled kernels between runs: kept, damaged, impossible to keep.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "tests/gpu/gpu_fixture.h"

static char folder[64], path[512], said[4096];

static void hear(void *user, enum log_level level, const char *text)
{
    (void)user;
    size_t length = strlen(said);
    if (level == LOG_DEBUG)
        snprintf(said + length, sizeof said - length, "%s\n", text);
}

// One run of a program: makes the device, computes 2 * 3 + 1, ends.
static void run_with(const char *cache_folder)
{
    const uint32_t x = 2;
    uint32_t y = 0;
    said[0] = '\0';
    struct gpu_device *device = gpu_fixture_device(&(struct gpu_device_options){.cache_folder = cache_folder});
    struct gpu_buffer *from = gpu_fixture_filled(device, &x, 1), *to = gpu_fixture_filled(device, &y, 1);
    struct gpu_command *command;
    uint64_t tick;
    gpu_assert_ok(gpu_command_begin(device, &command));
    gpu_fixture_probe(device, command, gpu_range_all(from), gpu_range_all(to),
                      (struct probe_push){.count = 1, .multiplier = 3, .addend = 1});
    gpu_assert_ok(gpu_command_submit(command, &tick));
    gpu_assert_ok(gpu_wait(device, tick));
    gpu_fixture_read(device, to, &y, 1);
    assert_int_equal(y, 7);
    gpu_buffer_destroy(from);
    gpu_buffer_destroy(to);
    gpu_device_destroy(device);
}

// The one file in the folder; false if there is none.
static bool find_file(void)
{
    bool found = false;
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] != '.') {
            assert_false(found);
            found = true;
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        }
    closedir(directory);
    return found;
}

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/sluice-pipelines-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    if (find_file())
        unlink(path);
    return rmdir(folder);
}

// Every start would compile all kernels.
static void kernels_are_kept(void **state)
{
    (void)state;
    run_with(NULL);
    assert_false(find_file());
    run_with(folder);
    assert_true(find_file());
    run_with(folder);
    assert_non_null(strstr(said, "bytes from"));
    assert_true(find_file());
}

static void spoil(long offset, bool cut)
{
    if (cut) {
        assert_int_equal(truncate(path, offset), 0);
        return;
    }
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, offset, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, offset, SEEK_SET);
    fputc(byte ^ 4, file);
    fclose(file);
}

// Some drivers crash on a damaged cache.
static void damaged_files_do_not_reach_the_driver(void **state)
{
    (void)state;
    static const struct {
        long offset;
        bool cut;
    } damages[] = {{0, false}, {9, false}, {20, false}, {0, true}, {10, true}, {30, true}};
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        run_with(folder);
        assert_true(find_file());
        spoil(damages[i].offset, damages[i].cut);
        run_with(folder);
        assert_non_null(strstr(said, "damaged"));
        run_with(folder); // replaced
        assert_null(strstr(said, "damaged"));
    }
}

// A read-only home folder must not keep anybody from starting.
static void a_folder_that_cannot_be_made_is_no_error(void **state)
{
    (void)state;
    run_with("/dev/null/cache");
    assert_non_null(strstr(said, "not kept"));
}

int main(void)
{
    gpu_fixture_require_device();
    log_set(hear, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(kernels_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_files_do_not_reach_the_driver, setup, teardown),
        cmocka_unit_test_setup_teardown(a_folder_that_cannot_be_made_is_no_error, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
