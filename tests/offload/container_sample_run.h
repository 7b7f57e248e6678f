// The sample container being written to a file of its own folder: what tests of the writer share.
#ifndef SLUICE_TESTS_CONTAINER_SAMPLE_RUN_H
#define SLUICE_TESTS_CONTAINER_SAMPLE_RUN_H

#include "container_sample.h"

extern char sample_folder[64], sample_path[96], sample_part_path[112], sample_journal_path[128];

// Setup and teardown of a group: the folder, and the bytes that an uninterrupted run gives.
int sample_set_up(void **state);
int sample_tear_down(void **state);

// Setup of a test: none of the three files is there.
int sample_remove(void **state);

bool file_exists(const char *name);

// Opens with the sample's plan and these options, puts what is missing, finishes.
enum sluice_status sample_run(const struct container_writer_options *options);

// The finished file has the bytes of an uninterrupted run, and nothing else is left.
void sample_assert_finished(void);

#endif
