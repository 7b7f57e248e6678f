#include "tests/offload/reader_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "container_sample.h"
#include "runtime/base/log.h"
#include "runtime/base/random.h"

struct reader_case reader_case;

static void keep_log(void *user, enum log_level level, const char *text)
{
    (void)user;
    (void)level;
    snprintf(reader_case.log, sizeof reader_case.log, "%s", text);
}

int reader_case_set_up(void **state)
{
    (void)state;
    uint64_t random = 7;
    folder_create(reader_case.folder, false);
    snprintf(reader_case.path, sizeof reader_case.path, "%s/data", reader_case.folder);
    reader_case.content = malloc(FILE_PAGES * PAGE);
    for (size_t i = 0; i < FILE_PAGES * PAGE; i++)
        reader_case.content[i] = (uint8_t)random_next(&random);
    file_store(reader_case.path, reader_case.content, FILE_PAGES * PAGE);
    reader_case.memory = mmap(NULL, MEMORY_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(reader_case.memory != MAP_FAILED);
    log_set(keep_log, NULL);
    return 0;
}

int reader_case_tear_down(void **state)
{
    (void)state;
    free(reader_case.content);
    munmap(reader_case.memory, MEMORY_PAGES * PAGE);
    folder_remove(reader_case.folder);
    return 0;
}

struct reader *reader_case_open(enum reader_kind kind, const struct reader_options *options)
{
    struct reader *r;
    struct reader_options o = *options;
    o.kind = kind;
    if (o.depth == 0)
        o.depth = DEPTH;
    enum sluice_status status = reader_create(reader_case.path, &o, &r);
    if (status == SLUICE_ERR_UNSUPPORTED && kind == READER_URING)
        skip();
    assert_int_equal(status, SLUICE_OK);
    assert_int_equal(reader_kind(r), kind);
    return r;
}

struct reader_request reader_case_request(uint64_t tag, uint64_t page, uint64_t pages, uint64_t memory_page)
{
    return (struct reader_request){.offset = page * PAGE,
                                   .destination = reader_case.memory + memory_page * PAGE,
                                   .bytes = pages * PAGE,
                                   .tag = tag};
}

enum sluice_status reader_case_read(struct reader *r, struct reader_request wanted)
{
    struct reader_completion done;
    uint32_t count;
    memset(wanted.destination, 0xEE, wanted.bytes);
    assert_int_equal(reader_submit(r, &wanted, 1), SLUICE_OK);
    assert_int_equal(reader_wait(r, 1, 1, &done, &count, UINT64_MAX), SLUICE_OK);
    assert_int_equal(count, 1);
    assert_true(done.tag == wanted.tag && done.offset == wanted.offset && done.bytes == wanted.bytes);
    if (done.status == SLUICE_OK)
        assert_memory_equal(wanted.destination, reader_case.content + wanted.offset, wanted.bytes);
    return reader_completion_check(r, &done);
}

void reader_case_read_many(struct reader *r, uint32_t total)
{
    struct reader_request requests[DEPTH]; // slot i reads into its own eighth of the memory
    bool used[DEPTH] = {false};
    uint64_t random = 99;
    uint32_t submitted = 0, completed = 0;
    while (completed < total) {
        for (uint32_t i = 0; i < DEPTH && submitted < total; i++) {
            if (used[i])
                continue;
            uint64_t pages = 1 + random_next(&random) % 30;
            requests[i] =
                reader_case_request(i, random_next(&random) % (FILE_PAGES - pages), pages, i * MEMORY_PAGES / DEPTH);
            memset(requests[i].destination, 0xEE, pages * PAGE);
            assert_int_equal(reader_submit(r, &requests[i], 1), SLUICE_OK);
            used[i] = true;
            submitted++;
        }
        struct reader_completion done[DEPTH];
        uint32_t count;
        assert_int_equal(reader_wait(r, 1, 3, done, &count, UINT64_MAX), SLUICE_OK);
        assert_true(count >= 1 && count <= 3);
        for (uint32_t i = 0; i < count; i++) {
            const struct reader_request *q = &requests[done[i].tag];
            assert_true(used[done[i].tag]);
            assert_int_equal(reader_completion_check(r, &done[i]), SLUICE_OK);
            assert_memory_equal(q->destination, reader_case.content + q->offset, q->bytes);
            used[done[i].tag] = false;
            completed++;
        }
    }
    assert_int_equal(reader_space(r), DEPTH);
}
