// The build tool that reads SPIR-V. It trusts nobody: a compiler's bug must stop the build, not embed nonsense.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS_MAX = 4096 };

extern char **environ;

static uint32_t original[WORDS_MAX];
static size_t word_count;
static char folder[] = "test_shader_reflect_XXXXXX";
static char module_path[64], table_path[64], errors_path[64];

static int setup(void **state)
{
    (void)state;
    FILE *file = fopen(PROBE_CONTRACT, "rb");
    if (!file || !mkdtemp(folder))
        return -1;
    word_count = fread(original, 4, WORDS_MAX, file);
    fclose(file);
    snprintf(module_path, sizeof module_path, "%s/probe.spv", folder);
    snprintf(table_path, sizeof table_path, "%s/table", folder);
    snprintf(errors_path, sizeof errors_path, "%s/errors", folder);
    return word_count > 5 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char path[80];
    for (const char *suffix = ".h\0.c\0"; *suffix; suffix += strlen(suffix) + 1) {
        snprintf(path, sizeof path, "%s%s", table_path, suffix);
        unlink(path);
    }
    unlink(module_path);
    unlink(errors_path);
    return rmdir(folder);
}

// Runs the tool on a module; its exit code, -1 if it crashed.
static int reflect(const uint32_t *words, size_t count)
{
    FILE *file = fopen(module_path, "wb");
    assert_non_null(file);
    fwrite(words, 4, count, file);
    fclose(file);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, errors_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    char *arguments[] = {"shader_reflect", table_path, module_path, module_path, NULL};
    pid_t child;
    int result;
    assert_int_equal(posix_spawn(&child, SHADER_REFLECT, &actions, NULL, arguments, environ), 0);
    assert_int_equal(waitpid(child, &result, 0), child);
    posix_spawn_file_actions_destroy(&actions);
    return WIFEXITED(result) ? WEXITSTATUS(result) : -1;
}

static void assert_error(const char *text)
{
    char errors[4096];
    FILE *file = fopen(errors_path, "r");
    assert_non_null(file);
    errors[fread(errors, 1, sizeof errors - 1, file)] = '\0';
    fclose(file);
    if (!strstr(errors, text))
        fail_msg("expected '%s', got: %s", text, errors);
}

// The instruction `operation` whose operand number `place` is `value`; fails when there is none.
static size_t find(uint32_t operation, unsigned place, uint32_t value)
{
    for (size_t at = 5; at < word_count; at += original[at] >> 16)
        if ((original[at] & 0xffff) == operation && original[at] >> 16 > place && original[at + place] == value)
            return at;
    fail_msg("no instruction %u with operand %u", operation, value);
    return 0;
}

// A half-written file would be embedded, or crash the build without a word.
static void truncated_modules_are_refused(void **state)
{
    (void)state;
    assert_int_equal(reflect(original, word_count), 0);
    for (size_t count = 0; count < word_count; count += count < 16 ? 1 : 41) {
        int result = reflect(original, count);
        assert_true(result == 0 || result == 1); // between two instructions a cut is not visible
    }
}

// Random damage must end in a message or in a table, never in a crash.
static void damaged_modules_do_not_crash(void **state)
{
    (void)state;
    uint32_t words[WORDS_MAX], random = 20250101;
    for (int round = 0; round < 100; round++) {
        memcpy(words, original, sizeof words);
        for (int i = 0; i < 4; i++) {
            random = random * 1664525u + 1013904223u;
            words[(random >> 8) % word_count] ^= 1u << (random >> 4 & 31);
        }
        int result = reflect(words, word_count);
        assert_true(result == 0 || result == 1);
    }
}

// A gap in the bindings would bind every later buffer to the wrong place.
static void missing_binding_is_named(void **state)
{
    (void)state;
    uint32_t words[WORDS_MAX];
    memcpy(words, original, sizeof words);
    size_t decorate = find(71, 2, 33); // OpDecorate x Binding 0
    assert_int_equal(words[decorate + 3], 0);
    words[decorate + 3] = 2;
    assert_int_equal(reflect(words, word_count), 1);
    assert_error("binding 0 is missing");
}

// A kernel would use a feature that the device was not created with: undefined on some cards, fine on the developer's.
static void unknown_capability_is_refused(void **state)
{
    (void)state;
    uint32_t words[WORDS_MAX];
    memcpy(words, original, sizeof words);
    const size_t capability = find(17, 1, 1) + 1;
    words[capability] = 10; // OpCapability Shader -> Float64
    assert_int_equal(reflect(words, word_count), 1);
    assert_error("capability 10");
    words[capability] = 9; // Float16, which only devices with matrix cores are asked for
    assert_int_equal(reflect(words, word_count), 1);
    assert_error("for modules with matrix cores only");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(truncated_modules_are_refused),
        cmocka_unit_test(damaged_modules_do_not_crash),
        cmocka_unit_test(missing_binding_is_named),
        cmocka_unit_test(unknown_capability_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
