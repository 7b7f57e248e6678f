// What the tests of conversions share: a directory with a checkpoint, and runs that convert it to containers there.
#ifndef SLUICE_TESTS_CONVERT_CASE_H
#define SLUICE_TESTS_CONVERT_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "offload/container.h"
#include "runtime/model/convert.h"
#include "tests/model/checkpoint_case.h"

extern struct convert_case {
    char directory[CHECKPOINT_PATH_BYTES]; // of the test
    char notes[4096];                      // what was logged, a line each
} convert_case;

// Of each test.
int convert_case_set_up(void **state);
int convert_case_tear_down(void **state);

// The path of a file in the directory; valid until the fourth call after this one.
char *convert_case_path(const char *name);

// Converts the checkpoint in the directory to the container `name`, experts in `type`.
enum sluice_status convert_case_run(const char *name, enum quant_type type);

// Writes the checkpoint, converts it, and opens and verifies the container.
struct container *convert_case_open(const struct checkpoint_case *c, const char *name, enum quant_type type);

void convert_case_assert_nothing(const char *name); // there is no such file

#endif
