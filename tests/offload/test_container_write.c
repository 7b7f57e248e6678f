// Writing a container: on a full disk, from several threads; always the same bytes or a message.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "container_sample_run.h"
#include "offload/container.h"
#include "runtime/base/mem.h"
#include "runtime/base/random.h"

// Two conversions of the same model would write into one another.
static void a_second_writer_is_refused(void **state)
{
    (void)state;
    struct container_writer *first, *second;
    assert_int_equal(container_writer_open(sample_path, &sample_plan, &sample_options, &first), SLUICE_OK);
    assert_int_equal(container_writer_open(sample_path, &sample_plan, &sample_options, &second), SLUICE_ERR_ARGUMENT);
    assert_null(second);
    assert_non_null(strstr(error_message(), "another process"));
    assert_int_equal(sample_put(first), SLUICE_OK);
    assert_int_equal(container_writer_finish(first), SLUICE_OK);
    container_writer_close(first);
    sample_assert_finished();
}

// A full disk would end in a broken file, a lost conversion or a riddle.
static void a_full_disk_is_explained_and_resumed(void **state)
{
    (void)state;
    enum sluice_status status = SLUICE_ERR_IO;
    for (uint64_t at = 1; status != SLUICE_OK; at++) {
        struct container_writer_faults faults = {.write_error_at = at, .write_error = ENOSPC};
        struct container_writer_options options = sample_options;
        options.faults = &faults;
        sample_remove(NULL);
        status = sample_run(&options);
        if (status == SLUICE_OK)
            break;
        assert_int_equal(status, SLUICE_ERR_IO);
        assert_true(strstr(error_message(), "disk is full") || strstr(error_message(), "No space left"));
        assert_false(file_exists(sample_path));
        assert_int_equal(sample_run(&sample_options), SLUICE_OK);
        sample_assert_finished();
        assert_true(at >= 1 && at <= 200);
    }
}

// The user makes room while the program waits, and it would refuse to go on.
static void a_put_can_be_tried_again(void **state)
{
    (void)state;
    uint32_t failures = 0;
    for (uint64_t at = 1; at < 60; at++) {
        struct container_writer *w;
        struct container_writer_faults faults = {.write_error_at = at, .write_error_count = 1, .write_error = ENOSPC};
        struct container_writer_options options = sample_options;
        options.faults = &faults;
        sample_remove(NULL);
        if (container_writer_open(sample_path, &sample_plan, &options, &w) < 0)
            continue; // the fault hit what comes before the first put
        enum sluice_status status = sample_put(w);
        if (status < 0) {
            failures++;
            assert_int_equal(sample_put(w), SLUICE_OK);
        }
        struct container_writer_progress progress = container_writer_progress(w);
        assert_true(progress.bytes_done == progress.bytes_total);
        status = container_writer_finish(w);
        if (status < 0)
            assert_int_equal(container_writer_finish(w), SLUICE_OK);
        container_writer_close(w);
        sample_assert_finished();
    }
    assert_true(failures > SAMPLE_TENSORS + SAMPLE_EXPERTS); // data and journal
}

// After a failed sync nobody knows what reached the disk; believing the next one would put garbage into the model.
static void a_failed_sync_ends_the_run(void **state)
{
    (void)state;
    for (uint32_t at = 1; at < 4; at++) {
        struct container_writer *w;
        struct container_writer_faults faults = {.sync_error_at = at};
        struct container_writer_options options = sample_options;
        options.faults = &faults;
        sample_remove(NULL);
        assert_int_equal(container_writer_open(sample_path, &sample_plan, &options, &w), SLUICE_OK);
        assert_int_equal(sample_put(w), SLUICE_ERR_IO);
        assert_int_equal(sample_put(w), SLUICE_ERR_IO);
        assert_non_null(strstr(error_message(), "run the same command again"));
        container_writer_close(w);
        assert_false(file_exists(sample_path));
        assert_int_equal(sample_run(&sample_options), SLUICE_OK);
        sample_assert_finished();
    }
}

// Hours of work would be lost because the last step failed.
static void what_cannot_be_named_is_kept(void **state)
{
    (void)state;
    struct container_writer *w;
    assert_int_equal(container_writer_open(sample_path, &sample_plan, &sample_options, &w), SLUICE_OK);
    assert_int_equal(mkdir(sample_path, 0777), 0);
    assert_int_equal(sample_put(w), SLUICE_OK);
    assert_int_equal(container_writer_finish(w), SLUICE_ERR_IO);
    assert_non_null(strstr(error_message(), "cannot rename"));
    container_writer_close(w);
    assert_int_equal(container_writer_open(sample_path, &sample_plan, &sample_options, &w), SLUICE_ERR_ARGUMENT);
    assert_int_equal(rmdir(sample_path), 0);
    assert_int_equal(container_writer_open(sample_path, &sample_plan, &sample_options, &w), SLUICE_OK);
    struct container_writer_progress progress = container_writer_progress(w);
    assert_true(progress.bytes_resumed == progress.bytes_total);
    assert_int_equal(container_writer_finish(w), SLUICE_OK);
    container_writer_close(w);
    sample_assert_finished();
    assert_int_equal(container_writer_open("/nowhere/x.sluice", &sample_plan, &sample_options, &w), SLUICE_ERR_IO);
    assert_non_null(strstr(error_message(), "/nowhere/x.sluice"));
    assert_int_equal(container_writer_open("/dev/null", &sample_plan, &sample_options, &w), SLUICE_ERR_ARGUMENT);
}

// An interrupted or partial write would leave a hole in the model.
static void short_and_interrupted_writes_go_on(void **state)
{
    (void)state;
    struct container_writer_faults faults = {.write_bytes_max = 777, .interrupt_every = 3};
    struct container_writer_options options = sample_options;
    options.faults = &faults;
    assert_int_equal(sample_run(&options), SLUICE_OK);
    sample_assert_finished();
}

// Items large enough to go past the page cache: in several pieces, with a rest shorter than a block.
enum { LARGE_BYTES = (9 << 20) + 12348, LARGE_RECORD_BYTES = 1 << 20 };

static enum sluice_status put_large(const uint8_t *data, const struct container_writer_faults *faults)
{
    static const struct container_plan_type type = {SAMPLE_TYPE_F32, "f32"};
    static const struct container_plan_document document = {"config.json", "{}", 2};
    static const struct container_plan_tensor tensor = {"embed.weight",  SAMPLE_TYPE_F32, CONTAINER_LAYOUT_PLAIN, 1,
                                                        LARGE_BYTES / 4, LARGE_BYTES};
    static const struct container_plan_experts layer = {0,   1,   SAMPLE_TYPE_F32,        SAMPLE_TYPE_F32,
                                                        512, 256, LARGE_RECORD_BYTES / 2, LARGE_RECORD_BYTES};
    static const struct container_plan plan = {&type, 1, &document, 1, &tensor, 1, &layer, 1};
    struct container_writer_options options = {.fingerprint = "large", .faults = faults};
    struct container_writer *w;
    enum sluice_status status;
    TRY(container_writer_open(sample_path, &plan, &options, &w));
    status = container_writer_put_tensor(w, 0, data, LARGE_BYTES);
    if (status == SLUICE_OK)
        status = container_writer_put_expert(w, 0, 0, data + 4096, LARGE_RECORD_BYTES);
    if (status == SLUICE_OK)
        status = container_writer_finish(w);
    container_writer_close(w);
fail:
    return status;
}

static void assert_large(const uint8_t *data)
{
    struct container *c;
    size_t bytes;
    uint8_t *file = file_load(sample_path, &bytes);
    assert_int_equal(container_open(sample_path, &c), SLUICE_OK);
    assert_memory_equal(file + container_tensor_at(c, 0)->file_offset, data, LARGE_BYTES);
    assert_memory_equal(file + container_expert_offset(c, 0, 0), data + 4096, LARGE_RECORD_BYTES);
    container_close(c);
    free(file);
    unlink(sample_path);
}

// Pages of the file's middle that lie in the page cache.
static size_t cached_pages(void)
{
    enum { FIRST = 1 << 20, BYTES = 6 << 20, PAGE = 4096 };
    static unsigned char pages[BYTES / PAGE];
    size_t count = 0;
    int descriptor = open(sample_path, O_RDONLY | O_CLOEXEC);
    assert_true(descriptor >= 0);
    void *map = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, descriptor, FIRST);
    close(descriptor);
    assert_true(map != MAP_FAILED);
    assert_int_equal(mincore(map, BYTES, pages), 0);
    munmap(map, BYTES);
    for (size_t i = 0; i < sizeof pages; i++)
        count += pages[i] & 1;
    return count;
}

// Wherever the data lies in memory, and whatever the drive does to a write past the page cache, the model would be
// damaged; or the conversion of a large model would push everything else out of memory.
static void large_items_go_past_the_page_cache(void **state)
{
    (void)state;
    char in_memory[sizeof sample_path], on_disk[sizeof sample_folder];
    memcpy(in_memory, sample_path, sizeof sample_path);
    folder_create(on_disk, false);
    snprintf(sample_path, sizeof sample_path, "%s/large.sluice", on_disk);
    uint8_t *memory = aligned_alloc(4096, LARGE_BYTES / 4096 * 4096 + 8192), *data = memory;
    uint64_t random = 7;
    for (size_t i = 0; i < LARGE_BYTES / 8; i++)
        ((uint64_t *)(void *)memory)[i] = random_next(&random);
    int probe = open(on_disk, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
    for (size_t shift = 0; shift <= 4; shift += 4) {
        data = memory + shift;
        assert_int_equal(put_large(data, NULL), SLUICE_OK);
        if (probe >= 0)
            assert_int_equal(cached_pages(), 0);
        assert_large(data);
    }
    if (probe >= 0)
        close(probe);
    for (uint64_t at = 1; at < 8; at++) { // past the page cache or not: the second attempt is an ordinary write
        struct container_writer_faults once = {.write_error_at = at, .write_error_count = 1, .write_error = EINVAL};
        if (put_large(data, &once) == SLUICE_OK)
            assert_large(data);
    }
    static const struct container_writer_faults torn = {.write_bytes_max = 1 << 20, .interrupt_every = 5},
                                                full = {.write_error_at = 4, .write_error = ENOSPC};
    assert_int_equal(put_large(data, &torn), SLUICE_OK);
    assert_large(data);
    assert_int_equal(put_large(data, &full), SLUICE_ERR_IO);
    assert_int_equal(put_large(data, NULL), SLUICE_OK);
    assert_large(data);
    free(memory);
    folder_remove(on_disk);
    memcpy(sample_path, in_memory, sizeof sample_path);
}

// A real file system with 64 KiB of room, which the sample exceeds; in a child with its own mounts.
static int run_on_small_disk(void)
{
    char small[96], part[112];
    struct container_writer *w;
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", sample_folder, "tmpfs", 0, "size=64k") != 0)
        return 77;
    snprintf(small, sizeof small, "%s/small.sluice", sample_folder);
    snprintf(part, sizeof part, "%s.part", small);
    if (container_writer_open(small, &sample_plan, &sample_options, &w) != SLUICE_ERR_IO || w)
        return 1;
    return strstr(error_message(), "the disk is full") && strstr(error_message(), "64.0 KiB are free") &&
                   !file_exists(part)
               ? 0
               : 2;
}

// A file size limit of the system, met when the room is reserved.
static int run_with_size_limit(void)
{
    const struct rlimit limit = {16384, 16384};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    enum sluice_status status = sample_run(&sample_options);
    return status == SLUICE_ERR_IO && strstr(error_message(), "does not allow files of") &&
                   !file_exists(sample_part_path)
               ? 0
               : 1;
}

static int child_result(int (*function)(void))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(function());
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result));
    return WEXITSTATUS(result);
}

// The user would find out after hours that 45 GB do not fit.
static void missing_room_is_found_at_the_start(void **state)
{
    (void)state;
    assert_int_equal(child_result(run_with_size_limit), 0);
    int result = child_result(run_on_small_disk);
    if (result == 77)
        skip(); // needs root
    assert_int_equal(result, 0);
}

struct worker {
    pthread_t thread;
    struct container_writer *w;
    uint32_t first;
};

static void *put_some(void *user)
{
    struct worker *worker = user;
    uint8_t data[16384];
    for (uint32_t i = worker->first; i < SAMPLE_TENSORS + SAMPLE_EXPERTS; i += 4) {
        uint32_t e = i - SAMPLE_TENSORS;
        uint32_t layer = e < 3 ? 0 : 2;
        if (i < SAMPLE_TENSORS) {
            sample_tensor(i, data);
            if (container_writer_put_tensor(worker->w, i, data, sample_plan.tensors[i].bytes) < 0)
                return worker;
            continue;
        }
        sample_expert(layer, layer ? e - 3 : e, data);
        if (container_writer_put_expert(worker->w, layer, layer ? e - 3 : e, data, layer ? 8192 : 4096) < 0)
            return worker;
    }
    return NULL;
}

// Converting with all cores would mix up items or lose entries of the journal.
static void threads_may_put_at_once(void **state)
{
    (void)state;
    for (int trial = 0; trial < 8; trial++) {
        struct worker workers[4];
        struct container_writer *w;
        sample_remove(NULL);
        assert_int_equal(container_writer_open(sample_path, &sample_plan, &sample_options, &w), SLUICE_OK);
        for (uint32_t i = 0; i < 4; i++) {
            workers[i] = (struct worker){.w = w, .first = i};
            assert_int_equal(pthread_create(&workers[i].thread, NULL, put_some, &workers[i]), 0);
        }
        for (uint32_t i = 0; i < 4; i++) {
            void *failed;
            pthread_join(workers[i].thread, &failed);
            assert_null(failed);
        }
        assert_int_equal(container_writer_finish(w), SLUICE_OK);
        container_writer_close(w);
        sample_assert_finished();
    }
}

// A recipe's mistake would make a container with holes or overwritten weights.
static void wrong_puts_are_refused(void **state)
{
    (void)state;
    struct container_writer *w;
    uint8_t data[16384] = {0};
    assert_int_equal(container_writer_open(sample_path, &sample_plan, &sample_options, &w), SLUICE_OK);
    assert_int_equal(container_writer_finish(w), SLUICE_ERR_ARGUMENT);
    assert_non_null(strstr(error_message(), "tensor 'model.norm.weight' was never written"));
    assert_int_equal(container_writer_put_tensor(w, 0, data, 99), SLUICE_ERR_ARGUMENT);
    assert_int_equal(container_writer_put_tensor(w, SAMPLE_TENSORS, data, 100), SLUICE_ERR_ARGUMENT);
    assert_int_equal(container_writer_put_expert(w, 1, 0, data, 4096), SLUICE_ERR_ARGUMENT);
    assert_int_equal(container_writer_put_expert(w, 0, 3, data, 4096), SLUICE_ERR_ARGUMENT);
    assert_int_equal(container_writer_put_expert(w, 0, 0, data, 4097), SLUICE_ERR_ARGUMENT);
    assert_int_equal(container_writer_put_expert(w, 2, 0, data, 4096), SLUICE_ERR_ARGUMENT);
    assert_int_equal(container_writer_put_expert(w, 2, 0, data, 5000), SLUICE_OK); // padded
    assert_int_equal(container_writer_put_expert(w, 2, 0, data, 8192), SLUICE_ERR_ARGUMENT);
    assert_non_null(strstr(error_message(), "layer 2 expert 0 is written twice"));
    assert_false(container_writer_has_expert(w, 1, 0));
    container_writer_close(w);
}

static void assert_plan_refused(const struct container_plan *plan, const char *why)
{
    uint64_t bytes;
    struct container_writer *w;
    assert_int_equal(container_plan_bytes(plan, &bytes), SLUICE_ERR_ARGUMENT);
    assert_non_null(strstr(error_message(), why));
    assert_int_equal(container_writer_open(sample_path, plan, &sample_options, &w), SLUICE_ERR_ARGUMENT);
    assert_null(w);
    assert_false(file_exists(sample_part_path));
}

// The writer would make a file that the reader then refuses, after hours of work.
static void impossible_plans_are_refused(void **state)
{
    (void)state;
    struct container_plan plan = sample_plan;
    struct container_plan_tensor tensors[SAMPLE_TENSORS];
    struct container_plan_experts layers[SAMPLE_LAYERS];
#define BREAK(array, index, field, value, why)                \
    do {                                                      \
        memcpy(tensors, sample_plan.tensors, sizeof tensors); \
        memcpy(layers, sample_plan.layers, sizeof layers);    \
        plan.tensors = tensors;                               \
        plan.layers = layers;                                 \
        array[index].field = value;                           \
        assert_plan_refused(&plan, why);                      \
    } while (0)
    BREAK(tensors, 1, name, "model.norm.weight", "two tensors 'model.norm.weight'");
    BREAK(tensors, 1, name, "", "name");
    BREAK(tensors, 1, name, "a b", "name");
    BREAK(tensors, 1, type_id, 4, "not declared");
    BREAK(tensors, 1, rows, 0, "shape");
    BREAK(tensors, 1, rows, UINT64_MAX, "shape");
    BREAK(tensors, 1, bytes, 0, "place");
    BREAK(tensors, 1, bytes, UINT64_MAX, "too large");
    struct container_plan_document documents[] = {{"a", "", 0}, {"b", "", 0}, {"a", "", 0}};
    plan.documents = documents;
    BREAK(layers, 1, layer, 2, "occurs twice");
    documents[2] = (struct container_plan_document){"c", "", CONTAINER_DOCUMENT_BYTES_MAX + 1ull};
    BREAK(layers, 1, layer, 2, "larger than 256 MiB");
    plan.documents = sample_plan.documents;
    BREAK(layers, 1, layer, 0, "ascend");
    BREAK(layers, 1, expert_count, 0, "zero");
    BREAK(layers, 1, down_offset, 4600, "offset of down");
    BREAK(layers, 1, down_offset, 8192, "offset of down");
    BREAK(layers, 1, record_bytes, 8191, "record size");
    BREAK(layers, 1, record_bytes, UINT64_MAX - 4095, "too large");
#undef BREAK
}

// Running out of memory would crash or leave files that block the next run.
static void every_failed_allocation_is_an_error(void **state)
{
    (void)state;
    enum sluice_status status = SLUICE_ERR_MEMORY;
    for (uint64_t index = 0; status != SLUICE_OK; index++) {
        mem_fail_at(index);
        status = sample_run(&sample_options);
        mem_fail_at(UINT64_MAX);
        if (status == SLUICE_OK)
            break;
        // The folder's name is copied after the rename: the file is complete then all the same.
        assert_int_equal(status, SLUICE_ERR_MEMORY);
        if (!file_exists(sample_path))
            assert_int_equal(sample_run(&sample_options), SLUICE_OK);
        unlink(sample_journal_path);
        sample_assert_finished();
        sample_remove(NULL);
        assert_true(index <= 30);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_second_writer_is_refused, sample_remove),
        cmocka_unit_test_setup(a_full_disk_is_explained_and_resumed, sample_remove),
        cmocka_unit_test_setup(a_put_can_be_tried_again, sample_remove),
        cmocka_unit_test_setup(a_failed_sync_ends_the_run, sample_remove),
        cmocka_unit_test_setup(what_cannot_be_named_is_kept, sample_remove),
        cmocka_unit_test_setup(short_and_interrupted_writes_go_on, sample_remove),
        cmocka_unit_test_setup(large_items_go_past_the_page_cache, sample_remove),
        cmocka_unit_test_setup(missing_room_is_found_at_the_start, sample_remove),
        cmocka_unit_test_setup(threads_may_put_at_once, sample_remove),
        cmocka_unit_test_setup(wrong_puts_are_refused, sample_remove),
        cmocka_unit_test_setup(impossible_plans_are_refused, sample_remove),
        cmocka_unit_test_setup(every_failed_allocation_is_an_error, sample_remove),
    };
    return cmocka_run_group_tests(tests, sample_set_up, sample_tear_down);
}
