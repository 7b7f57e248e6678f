// Sizes as users write them, and refusals that say what would fit.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "offload/budget.h"

#define GIB (UINT64_C(1) << 30)

// "--vram 16G" would mean something else than the user thinks.
static void sizes_are_understood(void **state)
{
    (void)state;
    const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {
        {"0", 0},
        {"17", 17},
        {"17B", 17},
        {"10G", 10 * GIB},
        {"10 gib", 10 * GIB},
        {"512M", GIB / 2},
        {"1.5GiB", GIB * 3 / 2},
        {"4k", 4096},
        {"1KB", 1000},
        {"2MB", 2000000},
        {"3GB", 3000000000},
        {"1T", 1024 * GIB},
        {"0.5TiB", 512 * GIB},
        {"1.999999999K", 2047},
        {"1.G", GIB},
        {"9223372036854775807", INT64_MAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t bytes = 1;
        assert_int_equal(size_parse(cases[i].text, &bytes), SLUICE_OK);
        assert_true(bytes == cases[i].bytes);
    }
}

// A typing mistake would be taken for a size of nothing, or of everything.
static void nonsense_is_refused(void **state)
{
    (void)state;
    const char *const cases[] = {"",
                                 "G",
                                 "-1G",
                                 "1.5.5G",
                                 "10X",
                                 "1G1",
                                 ".5G",
                                 "1e9",
                                 "0x10",
                                 " 1G",
                                 "8388608T",
                                 "9223372036854775808",
                                 "99999999999999999999",
                                 "99999999999999999999G"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t bytes;
        assert_int_equal(size_parse(cases[i], &bytes), SLUICE_ERR_ARGUMENT);
        assert_non_null(strstr(error_message(), cases[i]));
    }
}

// Messages would show eleven digits, or 1024.0 MiB.
static void sizes_are_readable(void **state)
{
    (void)state;
    char text[SIZE_TEXT_BYTES];
    assert_string_equal(size_format(0, text), "0 B");
    assert_string_equal(size_format(1023, text), "1023 B");
    assert_string_equal(size_format(1024, text), "1.0 KiB");
    assert_string_equal(size_format(GIB - 1, text), "1.0 GiB");
    assert_string_equal(size_format(1769472, text), "1.7 MiB");
    assert_string_equal(size_format(GIB * 3 / 2, text), "1.5 GiB");
    assert_string_equal(size_format(UINT64_MAX, text), "16.0 EiB");
}

// The program would spill out of VRAM, or refuse without saying why.
static void what_does_not_fit_is_explained(void **state)
{
    (void)state;
    struct budget b;
    budget_init(&b, "VRAM", "--vram", 8 * GIB);
    budget_add(&b, "KV cache", 1 * GIB);
    budget_add(&b, "trunk", 2 * GIB);
    budget_add(&b, "trunk", 2 * GIB);
    assert_true(budget_used_bytes(&b) == 5 * GIB && budget_left_bytes(&b) == 3 * GIB);
    assert_int_equal(budget_check(&b), SLUICE_OK);
    budget_add(&b, "experts", 3 * GIB);
    assert_int_equal(budget_check(&b), SLUICE_OK);
    budget_add(&b, "scratch", 1);
    assert_int_equal(budget_check(&b), SLUICE_ERR_BUDGET);
    budget_add(&b, "scratch", GIB - 1);
    assert_int_equal(budget_check(&b), SLUICE_ERR_BUDGET);
    assert_string_equal(error_message(),
                        "VRAM: 9.0 GiB needed, 8.0 GiB allowed by --vram, 1.0 GiB too much (trunk 4.0 GiB, experts "
                        "3.0 GiB, KV cache 1.0 GiB, scratch 1.0 GiB); raise --vram");
    assert_true(budget_left_bytes(&b) == 0);
}

// The user would have to find the largest possible context by trying.
static void the_nearest_possible_is_named(void **state)
{
    (void)state;
    struct budget b;
    budget_init(&b, "VRAM", "--vram", 4 * GIB);
    budget_add(&b, "trunk", 3 * GIB);
    assert_true(budget_fit(&b, 24576, 100000) == GIB / 24576);
    assert_true(budget_fit(&b, 24576, 1000) == 1000);
    assert_int_equal(budget_check_units(&b, "tokens of context", 24576, 40000, 256, 256), SLUICE_OK);
    assert_int_equal(budget_check_units(&b, "tokens of context", 24576, 65536, 256, 256), SLUICE_ERR_BUDGET);
    assert_non_null(strstr(error_message(), "tokens of context 1.5 GiB"));
    assert_non_null(strstr(error_message(), "possible are at most 43520 tokens of context"));
    assert_int_equal(budget_check_units(&b, "slots", 600000000, 10, 2, 1), SLUICE_ERR_BUDGET);
    assert_non_null(strstr(error_message(), "not even 2 slots fit: raise --vram"));
    assert_int_equal(budget_check_units(&b, "slots", UINT64_MAX / 2, 10, 2, 1), SLUICE_ERR_BUDGET);
    b.limit_bytes = 2 * GIB;
    assert_int_equal(budget_check_units(&b, "slots", 1, 0, 0, 1), SLUICE_ERR_BUDGET);
}

// A sum that wraps around would fit everywhere.
static void sums_do_not_wrap(void **state)
{
    (void)state;
    struct budget b;
    budget_init(&b, "RAM", NULL, UINT64_MAX - 1);
    budget_add(&b, "a", UINT64_MAX - 5);
    budget_add(&b, "b", 10);
    assert_true(budget_used_bytes(&b) == UINT64_MAX);
    assert_int_equal(budget_check(&b), SLUICE_ERR_BUDGET);
    budget_add(&b, "a", 10);
    assert_true(budget_used_bytes(&b) == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_understood),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(sizes_are_readable),
        cmocka_unit_test(what_does_not_fit_is_explained),
        cmocka_unit_test(the_nearest_possible_is_named),
        cmocka_unit_test(sums_do_not_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
