// Values of options.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tools/cli.h"

struct size_case {
    const char *text;
    uint64_t bytes; // 0: refused
};

// A budget would be taken for another one: 10G as 10 bytes, or -1 as all memory.
static void test_sizes(void **state)
{
    (void)state;
    static const struct size_case cases[] = {
        {"1", 1},
        {"4096", 4096},
        {"512B", 512},
        {"10K", 10240},
        {"10k", 10240},
        {"512M", UINT64_C(512) << 20},
        {"512MB", 512000000},
        {"512MiB", UINT64_C(512) << 20},
        {"1.5G", UINT64_C(3) << 29},
        {"0.5T", UINT64_C(1) << 39},
        {"0", 0},
        {"", 0},
        {"-1", 0},
        {"G", 0},
        {"10X", 0},
        {"10Gi", 0},
        {"10GBx", 0},
        {"nan", 0},
        {"inf", 0},
        {"1e300", 0},
        {"9999999T", 0},
        {" 5G", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t bytes = 77;
        enum sluice_status status = cli_parse_size(cases[i].text, &bytes);
        if ((status == SLUICE_OK) != (cases[i].bytes != 0) || (status == SLUICE_OK && bytes != cases[i].bytes))
            fail_msg("\"%s\": status %d, %llu", cases[i].text, status, (unsigned long long)bytes);
    }
}

// A typing error in a number would silently become another number.
static void test_numbers(void **state)
{
    (void)state;
    uint64_t wide = 0;
    uint32_t count = 0;
    enum sluice_kv kv = SLUICE_KV_F16;
    assert_int_equal(cli_parse_u64("18446744073709551615", &wide), SLUICE_OK);
    assert_true(wide == UINT64_MAX);
    assert_true(cli_parse_u64("18446744073709551616", &wide) < 0);
    assert_true(cli_parse_u64("12x", &wide) < 0);
    assert_true(cli_parse_u64("+1", &wide) < 0);
    assert_true(cli_parse_u64("", &wide) < 0);
    assert_int_equal(cli_parse_count("4294967295", &count), SLUICE_OK);
    assert_true(cli_parse_count("4294967296", &count) < 0);
    assert_true(cli_parse_count("0", &count) < 0);
    assert_int_equal(cli_parse_kv("f32", &kv), SLUICE_OK);
    assert_int_equal(kv, SLUICE_KV_F32);
    assert_int_equal(cli_parse_kv("q8", &kv), SLUICE_OK);
    assert_int_equal(kv, SLUICE_KV_Q8);
    assert_int_equal(cli_parse_kv("f16", &kv), SLUICE_OK);
    assert_int_equal(kv, SLUICE_KV_F16);
    assert_true(cli_parse_kv("f64", &kv) < 0);
}

// Options that all commands share would end up in the wrong field.
static void test_engine_options(void **state)
{
    (void)state;
    struct cli_engine_options e = {0};
    const struct cli_option options[] = {CLI_ENGINE_OPTIONS(e)};
    const struct cli_command command = {.name = "test",
                                        .arguments = "FILE",
                                        .options = options,
                                        .option_count = sizeof options / sizeof *options,
                                        .positional_min = 1,
                                        .positional_max = 2};
    char *argv[] = {"test",     "--device=1",
                    "--vram",   "8G",
                    "--ram",    "2G",
                    "--slots",  "64",
                    "a",        "--io",
                    "uring",    "--verify",
                    "always",   "--expert-pool",
                    "separate", "--activations",
                    "f32",      "--matrix-cores=off",
                    "--ctx",    "1000",
                    "--kv",     "f32",
                    "-v",       "--",
                    "-b"};
    const char *positional[2];
    int exit_status;
    assert_true(cli_parse(&command, sizeof argv / sizeof *argv, argv, positional, &exit_status));
    assert_string_equal(e.device, "1");
    assert_true(e.vram_bytes == UINT64_C(8) << 30 && e.ram_bytes == UINT64_C(2) << 30);
    assert_int_equal(e.slots, 64);
    assert_true(e.io == SLUICE_IO_URING && e.verify == SLUICE_VERIFY_ALWAYS);
    assert_true(e.expert_pool == SLUICE_EXPERT_POOL_SEPARATE && e.activations == SLUICE_ACTIVATIONS_F32);
    assert_int_equal(e.matrix_cores, SLUICE_MATRIX_CORES_OFF);
    assert_int_equal(e.context_tokens, 1000);
    assert_true(e.kv == SLUICE_KV_F32 && e.verbose);
    assert_string_equal(positional[0], "a");
    assert_string_equal(positional[1], "-b");
}

// Sizes in messages would be unreadable or wrong.
static void test_bytes(void **state)
{
    (void)state;
    assert_string_equal(cli_bytes(0), "0 B");
    assert_string_equal(cli_bytes(1023), "1023 B");
    assert_string_equal(cli_bytes(1024), "1.00 KiB");
    assert_string_equal(cli_bytes(UINT64_C(45) << 30), "45.0 GiB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_engine_options),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
