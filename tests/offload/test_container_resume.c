// Writing a container goes on where it stopped: killed, with a torn journal or lost data; and what another conversion
// has begun is left alone.
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "container_sample_run.h"
#include "runtime/base/random.h"

// Half a model would lie under the final name, or hours of conversion be lost, after a power cut or kill -9.
static void killed_at_any_moment_it_goes_on(void **state)
{
    (void)state;
    uint64_t random = 20260117;
    uint32_t killed = 0;
    for (int trial = 0; trial < 60; trial++) {
        sample_remove(NULL);
        for (int round = 0; !file_exists(sample_path); round++) {
            pid_t child = fork();
            assert_true(child >= 0);
            if (child == 0)
                _exit(sample_run(&sample_options) == SLUICE_OK ? 0 : 1);
            usleep((useconds_t)(random_next(&random) % (200u * (unsigned)(1 << (round < 10 ? round : 10)))));
            kill(child, SIGKILL);
            int result;
            assert_int_equal(waitpid(child, &result, 0), child);
            assert_true(WIFSIGNALED(result) || WEXITSTATUS(result) == 0);
            killed += WIFSIGNALED(result);
        }
        unlink(sample_journal_path); // killed between the rename and the removal
        sample_assert_finished();
    }
    assert_true(killed > 20);
}

// The same at every point between two items, and with what is there not being written again.
static void resumed_after_every_item(void **state)
{
    (void)state;
    static uint8_t data[16384];
    for (uint32_t item = 0; item < SAMPLE_EXPERTS; item++) {
        struct container_writer *w;
        sample_remove(NULL);
        assert_int_equal(container_writer_open(sample_path, &sample_plan, &sample_options, &w), SLUICE_OK);
        for (uint32_t i = 0; i <= item; i++) {
            uint32_t layer = i < 3 ? 0 : 2, expert = i < 3 ? i : i - 3;
            sample_expert(layer, expert, data);
            assert_int_equal(container_writer_put_expert(w, layer, expert, data, layer ? 8192 : 4096), SLUICE_OK);
        }
        container_writer_close(w);
        assert_false(file_exists(sample_path));
        assert_int_equal(container_writer_open(sample_path, &sample_plan, &sample_options, &w), SLUICE_OK);
        for (uint32_t i = 0; i < SAMPLE_EXPERTS; i++)
            assert_int_equal(container_writer_has_expert(w, i < 3 ? 0 : 2, i < 3 ? i : i - 3), i <= item);
        assert_false(container_writer_has_tensor(w, 0));
        struct container_writer_progress progress = container_writer_progress(w);
        assert_true(progress.bytes_resumed == progress.bytes_done && progress.bytes_done > 0);
        assert_int_equal(sample_put(w), SLUICE_OK);
        progress = container_writer_progress(w);
        assert_true(progress.bytes_done == progress.bytes_total);
        assert_int_equal(container_writer_finish(w), SLUICE_OK);
        container_writer_close(w);
        sample_assert_finished();
    }
}

// Everything but the last step, so that PATH.part and its journal are complete.
static void leave_unfinished(void)
{
    struct container_writer *w;
    sample_remove(NULL);
    assert_int_equal(container_writer_open(sample_path, &sample_plan, &sample_options, &w), SLUICE_OK);
    assert_int_equal(sample_put(w), SLUICE_OK);
    container_writer_close(w);
    assert_true(file_exists(sample_part_path) && file_exists(sample_journal_path));
}

// Without knowing whose it is, the writer leaves the file alone.
static void assert_kept(const uint8_t *part, size_t part_bytes, const char *why)
{
    struct container_writer *w;
    size_t bytes;
    assert_int_equal(container_writer_open(sample_path, &sample_plan, &sample_options, &w), SLUICE_ERR_ARGUMENT);
    assert_null(w);
    assert_non_null(strstr(error_message(), why));
    uint8_t *after = file_load(sample_part_path, &bytes);
    assert_int_equal(bytes, part_bytes);
    assert_memory_equal(after, part, bytes);
    free(after);
}

// Size of the journal's start, which says whose it is.
enum { JOURNAL_START_BYTES = 552 };

// A journal torn by a power cut would be believed, and garbage finished as a model; or one that is no longer known to
// be ours would cost what is in the file.
static void torn_journals_are_not_believed(void **state)
{
    (void)state;
    leave_unfinished();
    size_t journal_bytes, part_bytes;
    uint8_t *journal = file_load(sample_journal_path, &journal_bytes), *part = file_load(sample_part_path, &part_bytes);
    struct container_writer_options restart = sample_options;
    restart.restart = true;
    for (size_t bytes = 0; bytes <= journal_bytes; bytes += 11) {
        file_store(sample_journal_path, journal, bytes);
        file_store(sample_part_path, part, part_bytes);
        if (bytes < JOURNAL_START_BYTES)
            assert_kept(part, part_bytes, "what wrote it is unknown");
        assert_int_equal(sample_run(bytes < JOURNAL_START_BYTES ? &restart : &sample_options), SLUICE_OK);
        sample_assert_finished();
    }
    for (size_t i = 0; i < journal_bytes; i += 9) {
        journal[i] ^= 4;
        file_store(sample_journal_path, journal, journal_bytes);
        file_store(sample_part_path, part, part_bytes);
        journal[i] ^= 4;
        if (i < JOURNAL_START_BYTES)
            assert_kept(part, part_bytes, "what wrote it is unknown");
        assert_int_equal(sample_run(i < JOURNAL_START_BYTES ? &restart : &sample_options), SLUICE_OK);
        sample_assert_finished();
    }
    file_store(sample_part_path, part, part_bytes); // without any journal
    assert_kept(part, part_bytes, "what wrote it is unknown");
    assert_false(file_exists(sample_journal_path));
    file_store(sample_part_path, part, 0); // killed before the first byte
    assert_int_equal(sample_run(&sample_options), SLUICE_OK);
    sample_assert_finished();
    free(journal);
    free(part);
}

// Data that the disk lost after the journal was written would end up in the model.
static void lost_data_is_written_again(void **state)
{
    (void)state;
    leave_unfinished();
    size_t journal_bytes, part_bytes;
    uint8_t *journal = file_load(sample_journal_path, &journal_bytes), *part = file_load(sample_part_path, &part_bytes);
    for (size_t block = 2; block < part_bytes / 4096; block++) {
        file_store(sample_journal_path, journal, journal_bytes);
        file_store(sample_part_path, part, part_bytes);
        int descriptor = open(sample_part_path, O_WRONLY);
        static const uint8_t zeros[4096];
        assert_int_equal(pwrite(descriptor, zeros, sizeof zeros, (off_t)(block * 4096)), sizeof zeros);
        close(descriptor);
        assert_int_equal(sample_run(&sample_options), SLUICE_OK);
        sample_assert_finished();
    }
    file_store(sample_journal_path, journal, journal_bytes);
    for (size_t bytes = 0; bytes <= part_bytes + 4096; bytes += 4096) { // cut, or too long
        uint8_t *longer = calloc(1, part_bytes + 4096);
        memcpy(longer, part, part_bytes);
        file_store(sample_journal_path, journal, journal_bytes);
        file_store(sample_part_path, longer, bytes);
        free(longer);
        assert_int_equal(sample_run(&sample_options), SLUICE_OK);
        sample_assert_finished();
    }
    free(journal);
    free(part);
}

// A conversion with other options would go on with the data of the earlier one, or throw hours of work away.
static void another_conversions_work_is_kept(void **state)
{
    (void)state;
    struct container_writer *w;
    size_t part_bytes, journal_bytes, bytes;
    char done[64];
    leave_unfinished();
    uint8_t *part = file_load(sample_part_path, &part_bytes), *journal = file_load(sample_journal_path, &journal_bytes);
    snprintf(done, sizeof done, "%d of %d items done;", SAMPLE_TENSORS + SAMPLE_EXPERTS,
             SAMPLE_TENSORS + SAMPLE_EXPERTS);
    struct container_writer_options other = sample_options;
    other.fingerprint[3] ^= 1;
    other.text = "q8_0 of /models/b";
    assert_int_equal(container_writer_open(sample_path, &sample_plan, &other, &w), SLUICE_ERR_ARGUMENT);
    assert_null(w);
    assert_non_null(strstr(error_message(), done));
    assert_non_null(strstr(error_message(), "It is: q4_k of /models/a. This one is: q8_0 of /models/b"));
    assert_non_null(strstr(error_message(), "--restart"));
    struct container_plan_document documents[3];
    memcpy(documents, sample_plan.documents, sizeof documents);
    documents[0].text = "{\"model\": \"sample\", \"layers\": 4}";
    struct container_plan plan = sample_plan;
    plan.documents = documents;
    assert_int_equal(container_writer_open(sample_path, &plan, &sample_options, &w), SLUICE_ERR_ARGUMENT);
    assert_non_null(strstr(error_message(), "the same, but its input or other options have changed"));
    uint8_t *part_after = file_load(sample_part_path, &bytes);
    assert_int_equal(bytes, part_bytes);
    assert_memory_equal(part_after, part, bytes);
    uint8_t *journal_after = file_load(sample_journal_path, &bytes);
    assert_int_equal(bytes, journal_bytes);
    assert_memory_equal(journal_after, journal, bytes);
    free(part_after);
    free(journal_after);
    free(part);
    free(journal);
    assert_int_equal(container_writer_open(sample_path, &sample_plan, &sample_options, &w),
                     SLUICE_OK); // the first goes on
    assert_true(container_writer_has_tensor(w, 0));
    container_writer_close(w);
    other.restart = true;
    assert_int_equal(container_writer_open(sample_path, &sample_plan, &other, &w), SLUICE_OK);
    assert_false(container_writer_has_tensor(w, 0));
    container_writer_close(w);
    assert_false(file_exists(sample_part_path)); // nothing was written
    leave_unfinished();
    struct container_writer_options again = sample_options;
    again.restart = true;
    assert_int_equal(sample_run(&again), SLUICE_OK);
    sample_assert_finished();
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(killed_at_any_moment_it_goes_on, sample_remove),
        cmocka_unit_test_setup(resumed_after_every_item, sample_remove),
        cmocka_unit_test_setup(torn_journals_are_not_believed, sample_remove),
        cmocka_unit_test_setup(lost_data_is_written_again, sample_remove),
        cmocka_unit_test_setup(another_conversions_work_is_kept, sample_remove),
    };
    return cmocka_run_group_tests(tests, sample_set_up, sample_tear_down);
}
