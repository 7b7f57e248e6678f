// Traces of expert uses: what was recorded is what is read, whatever happened to the file.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "container_sample.h"
#include "offload/trace.h"
#include "runtime/base/mem.h"
#include "runtime/base/random.h"

enum { LAYERS = 5, EXPERTS = 512, STEPS = 40 };

static const struct trace_shape shape = {LAYERS, EXPERTS, 1700};

static char folder[64], path[96];

static int set_up(void **state)
{
    (void)state;
    folder_create(folder, true);
    snprintf(path, sizeof path, "%s/trace", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

static struct trace_record make_record(uint64_t *random, uint32_t index, uint16_t experts[EXPERTS])
{
    uint32_t count = (uint32_t)(random_next(random) % 12);
    for (uint32_t i = 0; i < count; i++)
        experts[i] = (uint16_t)(random_next(random) % EXPERTS);
    return (struct trace_record){index / LAYERS, index % LAYERS, (enum trace_kind)(index / 3 % 3), count, experts};
}

static void write_trace(void)
{
    struct trace_writer *w;
    uint64_t random = 3;
    uint16_t experts[EXPERTS];
    assert_int_equal(trace_create(path, &shape, &w), SLUICE_OK);
    for (uint32_t i = 0; i < STEPS * LAYERS; i++) {
        struct trace_record record = make_record(&random, i, experts);
        trace_append(w, &record);
    }
    assert_int_equal(trace_finish(w), SLUICE_OK);
}

// Reads and compares as far as the file goes; returns the number of records.
static uint32_t read_trace(void)
{
    struct trace_reader *r;
    struct trace_record record;
    uint64_t random = 3;
    uint16_t experts[EXPERTS];
    uint32_t records = 0;
    assert_int_equal(trace_open(path, &r), SLUICE_OK);
    assert_memory_equal(trace_shape(r), &shape, sizeof shape);
    enum sluice_status status;
    while ((status = trace_next(r, &record)) == SLUICE_OK) {
        struct trace_record expected = make_record(&random, records++, experts);
        assert_int_equal(record.step, expected.step);
        assert_int_equal(record.layer, expected.layer);
        assert_int_equal(record.kind, expected.kind);
        assert_int_equal(record.count, expected.count);
        for (uint32_t i = 0; i < expected.count; i++)
            assert_int_equal(record.experts[i], experts[i]);
    }
    assert_int_equal(status, SLUICE_PENDING);
    trace_close(r);
    return records;
}

// Policies would be compared on uses that never happened.
static void records_come_back(void **state)
{
    (void)state;
    write_trace();
    assert_int_equal(read_trace(), STEPS * LAYERS);
}

// A trace of a long session would be lost because the program was killed.
static void a_cut_trace_is_read_up_to_the_cut(void **state)
{
    (void)state;
    size_t bytes;
    write_trace();
    uint8_t *data = file_load(path, &bytes);
    uint32_t before = 0;
    for (size_t cut = 32; cut <= bytes; cut += 7) {
        file_store(path, data, cut);
        uint32_t records = read_trace();
        assert_true(records >= before && records <= STEPS * LAYERS);
        before = records;
    }
    free(data);
}

// A run that fails would take an earlier trace along.
static void an_abandoned_trace_replaces_nothing(void **state)
{
    (void)state;
    struct trace_writer *w;
    write_trace();
    assert_int_equal(trace_create(path, &shape, &w), SLUICE_OK);
    trace_abandon(w);
    assert_int_equal(read_trace(), STEPS * LAYERS);
    trace_abandon(NULL);
}

// Another file, or a damaged one, would crash the comparison.
static void hostile_traces_are_refused(void **state)
{
    (void)state;
    size_t bytes;
    struct trace_reader *r;
    struct trace_record record;
    write_trace();
    uint8_t *data = file_load(path, &bytes);
    for (size_t i = 0; i < 400; i++) {
        data[i] ^= 0xFF;
        file_store(path, data, bytes);
        data[i] ^= 0xFF;
        enum sluice_status status = trace_open(path, &r);
        assert_true(status == SLUICE_ERR_FORMAT || i >= 12);
        while (status == SLUICE_OK)
            status = trace_next(r, &record);
        trace_close(r);
    }
    for (size_t cut = 0; cut < 32; cut++) {
        file_store(path, data, cut);
        assert_int_equal(trace_open(path, &r), SLUICE_ERR_FORMAT);
        assert_null(r);
    }
    free(data);
    assert_int_equal(trace_open("/nowhere/trace", &r), SLUICE_ERR_IO);
}

// A full disk would stop the generation that is being traced, or be hidden.
static void errors_come_at_the_end(void **state)
{
    (void)state;
    struct trace_writer *w;
    uint16_t experts[10] = {0};
    assert_int_equal(trace_create("/dev/full", &shape, &w), SLUICE_OK);
    for (uint32_t i = 0; i < 10000; i++)
        trace_append(w, &(struct trace_record){.step = i, .count = 10, .experts = experts});
    assert_int_equal(trace_finish(w), SLUICE_ERR_IO);
    assert_non_null(strstr(error_message(), "/dev/full"));
    assert_int_equal(trace_create("/nowhere/trace", &shape, &w), SLUICE_ERR_IO);
    assert_int_equal(trace_create(path, &(struct trace_shape){0, EXPERTS, 0}, &w), SLUICE_ERR_ARGUMENT);
    assert_int_equal(trace_create(path, &(struct trace_shape){1, 65537, 0}, &w), SLUICE_ERR_ARGUMENT);
    assert_null(w);
    assert_int_equal(trace_finish(NULL), SLUICE_OK);
    trace_close(NULL);
    struct trace_reader *r;
    write_trace();
    for (uint64_t index = 0; index < 2; index++) {
        mem_fail_at(index);
        assert_int_equal(trace_create(path, &shape, &w), SLUICE_ERR_MEMORY);
        mem_fail_at(index);
        assert_int_equal(trace_open(path, &r), SLUICE_ERR_MEMORY);
        mem_fail_at(UINT64_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back),
        cmocka_unit_test(a_cut_trace_is_read_up_to_the_cut),
        cmocka_unit_test(an_abandoned_trace_replaces_nothing),
        cmocka_unit_test(hostile_traces_are_refused),
        cmocka_unit_test(errors_come_at_the_end),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
