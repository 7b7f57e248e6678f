// Where results can go.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/output_path.h"

static char folder[] = "/tmp/sluice-output-XXXXXX";
static char path[64];

static const char *in_folder(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int set_up(void **state)
{
    (void)state;
    FILE *file = mkdtemp(folder) ? fopen(in_folder("file"), "w") : NULL;
    return file && fclose(file) == 0 && mkfifo(in_folder("fifo"), 0600) == 0 &&
                   symlink("file", in_folder("link")) == 0 && symlink("nowhere", in_folder("dangling")) == 0
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const names[] = {"file", "fifo", "link", "dangling"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(in_folder(names[i]));
    return rmdir(folder);
}

// If this fails, `-o /dev/null` replaces the device by a file, or an hour's work ends with a place that cannot be
// written.
static void test_only_files_are_replaced(void **state)
{
    (void)state;
    assert_int_equal(output_path_check(in_folder("new")), SLUICE_OK);
    assert_int_equal(output_path_check(in_folder("file")), SLUICE_OK);
    assert_int_equal(output_path_check("new-in-the-working-folder"), SLUICE_OK);
    assert_int_equal(output_path_check(in_folder("fifo")), SLUICE_ERR_ARGUMENT);
    assert_non_null(strstr(error_message(), path));
    assert_int_equal(output_path_check("/dev/null"), SLUICE_ERR_ARGUMENT);
    assert_int_equal(output_path_check(folder), SLUICE_ERR_ARGUMENT);
    assert_int_equal(output_path_check(""), SLUICE_ERR_ARGUMENT);
    assert_int_equal(output_path_check(in_folder("no/such")), SLUICE_ERR_IO);
    assert_non_null(strstr(error_message(), path));
    assert_int_equal(output_path_check(in_folder("file/new")), SLUICE_ERR_IO);
    assert_non_null(strstr(error_message(), "Not a directory"));
    assert_int_equal(output_path_check("-"), SLUICE_ERR_ARGUMENT);
    assert_int_equal(output_path_check("./-"), SLUICE_OK);
}

// If this fails, `-o /dev/stdout > file` replaces the system's link by a file, and nobody's standard output works.
static void test_links_are_not_replaced(void **state)
{
    (void)state;
    assert_int_equal(output_path_check(in_folder("link")), SLUICE_ERR_ARGUMENT);
    assert_non_null(strstr(error_message(), "is a link"));
    assert_int_equal(output_path_check(in_folder("dangling")), SLUICE_ERR_ARGUMENT);
    assert_int_equal(output_path_check_in_place(in_folder("link")), SLUICE_OK);
}

// If this fails, `logits model.sluice -o model.sluice` destroys the model.
static void test_what_is_read_is_not_written(void **state)
{
    (void)state;
    char file[64], again[64];
    snprintf(file, sizeof file, "%s/file", folder);
    snprintf(again, sizeof again, "%s/./file", folder);
    assert_int_equal(output_path_check_input(file, file), SLUICE_ERR_ARGUMENT);
    assert_int_equal(output_path_check_input(again, file), SLUICE_ERR_ARGUMENT);
    assert_int_equal(output_path_check_input(in_folder("link"), file), SLUICE_ERR_ARGUMENT);
    assert_int_equal(output_path_check_input(file, in_folder("link")), SLUICE_ERR_ARGUMENT);
    assert_int_equal(output_path_check_input(in_folder("new"), file), SLUICE_OK);
    assert_int_equal(output_path_check_input(file, in_folder("new")), SLUICE_OK);
    assert_int_equal(output_path_check_input("/dev/null", "/dev/null"), SLUICE_OK);
    assert_int_equal(output_path_check_input(file, NULL), SLUICE_OK);
    assert_int_equal(output_path_check_input(NULL, file), SLUICE_OK);
}

// If this fails, results cannot be sent to a device or a pipe, where only their bytes go.
static void test_devices_can_be_written_in_place(void **state)
{
    (void)state;
    assert_int_equal(output_path_check_in_place("/dev/null"), SLUICE_OK);
    assert_int_equal(output_path_check_in_place(in_folder("fifo")), SLUICE_OK);
    assert_int_equal(output_path_check_in_place(in_folder("new")), SLUICE_OK);
    assert_int_equal(output_path_check_in_place(folder), SLUICE_ERR_ARGUMENT);
    assert_int_equal(output_path_check_in_place(""), SLUICE_ERR_ARGUMENT);
    assert_int_equal(output_path_check_in_place(in_folder("no/such")), SLUICE_ERR_IO);
}

// If this fails, a very long name overruns a buffer.
static void test_long_paths(void **state)
{
    (void)state;
    size_t length = 1 << 16;
    char *long_path = malloc(length + 1);
    assert_non_null(long_path);
    memset(long_path, 'a', length);
    long_path[length] = '\0';
    assert_int_equal(output_path_check(long_path), SLUICE_OK); // the folder is the working one: opening will tell
    long_path[length - 2] = '/';
    assert_int_equal(output_path_check(long_path), SLUICE_ERR_ARGUMENT);
    free(long_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_files_are_replaced),
        cmocka_unit_test(test_links_are_not_replaced),
        cmocka_unit_test(test_what_is_read_is_not_written),
        cmocka_unit_test(test_devices_can_be_written_in_place),
        cmocka_unit_test(test_long_paths),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
