// What the system allows us, from the files of different systems.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "runtime/base/memory_available.h"

static struct memory_available read_case(const char *name)
{
    char root[512];
    snprintf(root, sizeof root, "%s/memory/%s", TEST_DATA, name);
    return memory_available(root);
}

static const uint64_t SYSTEM_BYTES = 20000000ull * 1024;

// If this failed, default budgets would ignore how much memory the machine has.
static void test_system(void **state)
{
    (void)state;
    struct memory_available m = read_case("free");
    assert_int_equal(m.system_bytes, SYSTEM_BYTES);
    assert_int_equal(m.cgroup_bytes, UINT64_MAX);
    assert_int_equal(m.bytes, SYSTEM_BYTES);
}

// If this failed, Sluice would be killed inside a systemd scope or container whose limit is below the machine's memory.
// The page cache that the group holds does not count as used: 8 GB - (3 GB - 2 GB).
static void test_version_2(void **state)
{
    (void)state;
    struct memory_available m = read_case("v2");
    assert_int_equal(m.cgroup_bytes, 7000000000);
    assert_int_equal(m.bytes, 7000000000);
    assert_int_equal(m.system_bytes, SYSTEM_BYTES);
}

// The same with the older controllers, which some distributions and services still mount: 4 GB - (4.1 GB - 0.7 GB).
static void test_version_1(void **state)
{
    (void)state;
    assert_int_equal(read_case("v1").bytes, 600000000);
}

// If this failed, a container that shows the host's path of its group would have no limit; and one that is over its
// limit would have a huge amount left.
static void test_container(void **state)
{
    (void)state;
    struct memory_available m = read_case("container");
    assert_int_equal(m.cgroup_bytes, 0);
    assert_int_equal(m.bytes, 0);
}

// If this failed, a system with unusual files could not open a model at all.
static void test_unreadable(void **state)
{
    (void)state;
    assert_int_equal(read_case("odd").bytes, UINT64_MAX);
    assert_int_equal(read_case("not there").bytes, UINT64_MAX);
}

// If this failed, the plan would not count what the program itself takes.
static void test_here(void **state)
{
    (void)state;
    assert_true(memory_resident_bytes() > 100000);
    assert_true(memory_available("").bytes > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_system),    cmocka_unit_test(test_version_2),  cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_container), cmocka_unit_test(test_unreadable), cmocka_unit_test(test_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
