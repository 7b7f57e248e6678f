#include "container_sample_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

char sample_folder[64], sample_path[96], sample_part_path[112], sample_journal_path[128];
static uint8_t *good; // the bytes of the uninterrupted sample
static size_t good_bytes;

int sample_set_up(void **state)
{
    (void)state;
    folder_create(sample_folder, true);
    snprintf(sample_path, sizeof sample_path, "%s/sample.sluice", sample_folder);
    snprintf(sample_part_path, sizeof sample_part_path, "%s.part", sample_path);
    snprintf(sample_journal_path, sizeof sample_journal_path, "%s.journal", sample_part_path);
    sample_write(sample_path);
    good = file_load(sample_path, &good_bytes);
    return 0;
}

int sample_tear_down(void **state)
{
    (void)state;
    free(good);
    folder_remove(sample_folder);
    return 0;
}

int sample_remove(void **state)
{
    (void)state;
    unlink(sample_path);
    unlink(sample_part_path);
    unlink(sample_journal_path);
    return 0;
}

bool file_exists(const char *name)
{
    struct stat info;
    return stat(name, &info) == 0;
}

enum sluice_status sample_run(const struct container_writer_options *options)
{
    struct container_writer *w;
    enum sluice_status status = container_writer_open(sample_path, &sample_plan, options, &w);
    if (status == SLUICE_OK)
        status = sample_put(w);
    if (status == SLUICE_OK)
        status = container_writer_finish(w);
    container_writer_close(w);
    return status;
}

void sample_assert_finished(void)
{
    size_t bytes;
    uint8_t *data = file_load(sample_path, &bytes);
    assert_int_equal(bytes, good_bytes);
    assert_memory_equal(data, good, bytes);
    free(data);
    assert_false(file_exists(sample_part_path));
    assert_false(file_exists(sample_journal_path));
}
