// Files that are whole or not there.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/output_file.h"

static char folder[] = "/tmp/sluice-output-file-XXXXXX";
static char path[64], part[64], link_path[64];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/file", folder);
    snprintf(part, sizeof part, "%s/file.part", folder);
    snprintf(link_path, sizeof link_path, "%s/link", folder);
    return symlink("file", link_path);
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    unlink(part);
    unlink(link_path);
    return rmdir(folder);
}

static void write_text(const char *to, const char *text, struct output_file *out)
{
    assert_int_equal(output_file_create(to, out), SLUICE_OK);
    assert_true(fputs(text, out->file) >= 0);
}

static void expect(const char *from, const char *text)
{
    char found[32] = "";
    FILE *file = fopen(from, "r");
    assert_non_null(file);
    found[fread(found, 1, sizeof found - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(found, text);
}

// A run that is aborted would destroy the results of an earlier one.
static void test_earlier_file_stays_until_the_end(void **state)
{
    (void)state;
    struct output_file out;
    write_text(path, "first", &out);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(output_file_finish(&out), SLUICE_OK);
    expect(path, "first");
    write_text(path, "second", &out);
    expect(path, "first");
    output_file_abandon(&out);
    expect(path, "first");
    expect(part, "second");
    write_text(path, "3", &out);
    assert_int_equal(output_file_finish(&out), SLUICE_OK);
    expect(path, "3");
    assert_int_equal(access(part, F_OK), -1);
    output_file_abandon(&out); // empty
}

// Two processes that write the same file would mix their results in it, or the first would take the second's name away.
static void test_a_second_writer_is_refused(void **state)
{
    (void)state;
    struct output_file first, second;
    unlink(path);
    write_text(path, "mine", &first);
    assert_int_equal(output_file_create(path, &second), SLUICE_ERR_ARGUMENT);
    assert_non_null(strstr(error_message(), "file.part: another process is writing this file"));
    assert_null(second.file);
    assert_int_equal(output_file_finish(&first), SLUICE_OK);
    expect(path, "mine");
    write_text(path, "free again", &second);
    assert_int_equal(output_file_finish(&second), SLUICE_OK);
    expect(path, "free again");
}

// --csv /dev/stdout would go to a file that nobody sees, or a user's link be replaced.
static void test_links_and_devices_are_written_in_place(void **state)
{
    (void)state;
    char target[8];
    struct output_file out;
    write_text(link_path, "linked", &out);
    assert_int_equal(output_file_finish(&out), SLUICE_OK);
    expect(path, "linked");
    assert_true(readlink(link_path, target, sizeof target) > 0);
    write_text("/dev/null", "nothing", &out);
    assert_int_equal(output_file_finish(&out), SLUICE_OK);
}

// A full disk or a wrong name would look like success.
static void test_failures_are_said(void **state)
{
    (void)state;
    struct output_file out;
    assert_int_equal(output_file_create("/no/such/file", &out), SLUICE_ERR_IO);
    assert_non_null(strstr(error_message(), "/no/such/file: cannot create"));
    assert_null(out.file);
    if (access("/dev/full", W_OK) != 0)
        skip();
    write_text("/dev/full", "much", &out);
    assert_int_equal(output_file_finish(&out), SLUICE_ERR_IO);
    assert_non_null(strstr(error_message(), "/dev/full: cannot write: No space"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_earlier_file_stays_until_the_end),
        cmocka_unit_test(test_a_second_writer_is_refused),
        cmocka_unit_test(test_links_and_devices_are_written_in_place),
        cmocka_unit_test(test_failures_are_said),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
