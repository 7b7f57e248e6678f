// Conversions that are stopped, killed, out of memory or on other numbers of threads: the same bytes in the end.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "tests/model/convert_case.h"

struct stopper {
    atomic_bool cancel;
    uint64_t stop_at, last;
};

static void stop_at(void *user, const struct convert_progress *progress)
{
    struct stopper *s = user;
    assert_true(progress->bytes_done >= s->last && progress->bytes_done <= progress->bytes_total);
    s->last = progress->bytes_done;
    if (progress->bytes_done >= s->stop_at)
        atomic_store(&s->cancel, true);
}

static void assert_same_file(const char *a, const char *b)
{
    char command[5 * CHECKPOINT_PATH_BYTES];
    snprintf(command, sizeof command, "cmp '%s' '%s'", convert_case_path(a), convert_case_path(b));
    assert_int_equal(system(command), 0);
}

// A conversion that was stopped again and again would end in another container than one that was left alone.
static void test_cancel_and_resume(void **state)
{
    (void)state;
    struct checkpoint_case c = {.config = "mixed", .dtype = SAFETENSORS_BF16};
    struct stopper stopper = {.stop_at = 100000};
    container_close(convert_case_open(&c, "whole.sluice", QUANT_Q4_K));
    struct convert_options options = {.source = convert_case.directory,
                                      .output = convert_case_path("parts.sluice"),
                                      .recipe = model_recipe_default(QUANT_Q4_K),
                                      .program = "test",
                                      .threads = 2,
                                      .cancel = &stopper.cancel,
                                      .progress = stop_at,
                                      .user = &stopper};
    enum sluice_status status;
    int runs = 0;
    while ((status = model_convert(&options)) == SLUICE_ERR_CANCELLED) {
        convert_case_assert_nothing("parts.sluice");
        assert_true(++runs < 1000);
        atomic_store(&stopper.cancel, false);
        stopper.stop_at += 300000;
        stopper.last = 0;
    }
    assert_int_equal(status, SLUICE_OK);
    assert_true(runs >= 3);
    assert_same_file("whole.sluice", "parts.sluice");
}

struct killed_run {
    struct convert_options options;
    uint64_t resumed_bytes; // seen by the run that ended by itself
};

static void keep_resumed(void *user, const struct convert_progress *progress)
{
    struct killed_run *run = user;
    run->resumed_bytes = progress->bytes_resumed;
}

// Runs the conversion in another process, which is killed after `delay_us`. Whether it was too late for that.
static bool convert_and_kill(const struct convert_options *options, uint32_t delay_us)
{
    int wait_status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(model_convert(options) == SLUICE_OK ? 0 : 1);
    usleep(delay_us);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &wait_status, 0), child);
    assert_true(WIFSIGNALED(wait_status) || WEXITSTATUS(wait_status) == 0);
    return !WIFSIGNALED(wait_status);
}

// A power cut during an hour's conversion would cost the hour, or leave a container that is silently wrong.
static void test_kill_and_resume(void **state)
{
    (void)state;
    struct checkpoint_case c = {.config = "mixed", .dtype = SAFETENSORS_BF16};
    struct killed_run run = {.options = {.source = convert_case.directory,
                                         .recipe = model_recipe_default(QUANT_Q6_K),
                                         .program = "test",
                                         .threads = 2,
                                         .batch_bytes = 64 << 10}};
    uint32_t kills = 0, random = 2025; // a small linear congruential generator
    container_close(convert_case_open(&c, "whole.sluice", QUANT_Q6_K));
    char output[2 * CHECKPOINT_PATH_BYTES];
    strcpy(output, convert_case_path("killed.sluice"));
    run.options.output = output;
    while (kills < 8) {
        random = random * 1664525u + 1013904223u;
        if (convert_and_kill(&run.options, 2000 + random / 65536u % 100000u)) {
            unlink(output);
            continue;
        }
        kills++;
        convert_case_assert_nothing("killed.sluice");
    }
    run.options.progress = keep_resumed;
    run.options.user = &run;
    assert_int_equal(model_convert(&run.options), SLUICE_OK);
    assert_same_file("whole.sluice", "killed.sluice");
    printf("the last run took over %llu bytes\n", (unsigned long long)run.resumed_bytes);
}

// The number of threads would show in the result.
static void test_threads(void **state)
{
    (void)state;
    struct checkpoint_case c = {.config = "tiny", .dtype = SAFETENSORS_BF16};
    checkpoint_case_write(&c, convert_case.directory);
    static const uint32_t threads[] = {1, 7};
    static const char *const names[] = {"a.sluice", "b.sluice"};
    for (int i = 0; i < 2; i++) {
        struct convert_options options = {.source = convert_case.directory,
                                          .output = convert_case_path(names[i]),
                                          .recipe = model_recipe_default(QUANT_Q4_K),
                                          .program = "test",
                                          .threads = threads[i]};
        assert_int_equal(model_convert(&options), SLUICE_OK);
    }
    assert_same_file("a.sluice", "b.sluice");
}

// Out of memory at any point would crash, or leave a container that is not whole.
static void test_out_of_memory(void **state)
{
    (void)state;
    struct checkpoint_case c = {.config = "tied", .dtype = SAFETENSORS_BF16};
    struct convert_options options = {.source = convert_case.directory,
                                      .output = convert_case_path("out.sluice"),
                                      .recipe = model_recipe_default(QUANT_BF16),
                                      .program = "test",
                                      .threads = 1};
    checkpoint_case_write(&c, convert_case.directory);
    for (uint64_t i = 0;; i += 1 + i / 8) {
        unlink(convert_case_path("out.sluice.part"));
        mem_fail_at(i);
        enum sluice_status status = model_convert(&options);
        mem_fail_at(UINT64_MAX);
        if (status == SLUICE_OK)
            break;
        assert_int_equal(status, SLUICE_ERR_MEMORY);
        convert_case_assert_nothing("out.sluice");
        assert_true(i < 100000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cancel_and_resume, convert_case_set_up, convert_case_tear_down),
        cmocka_unit_test_setup_teardown(test_kill_and_resume, convert_case_set_up, convert_case_tear_down),
        cmocka_unit_test_setup_teardown(test_threads, convert_case_set_up, convert_case_tear_down),
        cmocka_unit_test_setup_teardown(test_out_of_memory, convert_case_set_up, convert_case_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
