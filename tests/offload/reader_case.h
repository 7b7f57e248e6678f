// What the tests of readers share: a file of random pages, memory to read it to, and reads whose result is checked.
#ifndef SLUICE_TESTS_READER_CASE_H
#define SLUICE_TESTS_READER_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "offload/reader.h"

enum { PAGE = 4096, FILE_PAGES = 512, MEMORY_PAGES = 256, DEPTH = 8 };

extern struct reader_case {
    char folder[64], path[96];
    uint8_t *content; // of the file, [FILE_PAGES * PAGE]
    uint8_t *memory;  // destinations, [MEMORY_PAGES * PAGE]
    char log[1024];   // what was logged last
} reader_case;

// For cmocka_run_group_tests.
int reader_case_set_up(void **state);
int reader_case_tear_down(void **state);

// A reader of the file. Skips the test if this machine has no io_uring.
struct reader *reader_case_open(enum reader_kind kind, const struct reader_options *options);

// A read of pages of the file to pages of the memory.
struct reader_request reader_case_request(uint64_t tag, uint64_t page, uint64_t pages, uint64_t memory_page);

// One request, and how it ended; what was read is compared to the file.
enum sluice_status reader_case_read(struct reader *r, struct reader_request wanted);

// `total` random requests at full depth, each compared to the file when it completes.
void reader_case_read_many(struct reader *r, uint32_t total);

#endif
