#include <signal.h>
#include <sys/resource.h>

#include "quant/safetensors_writer.h"
#include "quant_tempdir.h"
#include "runtime/base/mem.h"

static const uint64_t shape_a[2] = {3, 5}, shape_none[1] = {0};

static enum sluice_status declare_two(struct safetensors_writer *writer)
{
    enum sluice_status status = safetensors_writer_declare(writer, "a.weight", SAFETENSORS_F32, 2, shape_a);
    if (status == SLUICE_OK)
        status = safetensors_writer_declare(writer, "empty", SAFETENSORS_BF16, 1, shape_none);
    if (status == SLUICE_OK)
        status = safetensors_writer_declare(writer, "scalar \xc3\xa4", SAFETENSORS_U8, 0, NULL);
    return status;
}

static const uint8_t data[61] = {1, 2, 3, 4, 5, 6, 7, [59] = 60, [60] = 61};

// The file that declare_two and `data` make, in odd pieces.
static enum sluice_status write_two(const char *path)
{
    struct safetensors_writer *writer;
    enum sluice_status status = safetensors_writer_create(path, &writer);
    if (status == SLUICE_OK)
        status = declare_two(writer);
    if (status == SLUICE_OK)
        status = safetensors_writer_write(writer, "a.weight", data, 7);
    if (status == SLUICE_OK)
        status = safetensors_writer_write(writer, "a.weight", data + 7, 53);
    if (status == SLUICE_OK)
        status = safetensors_writer_write(writer, "scalar \xc3\xa4", data + 60, 1);
    if (status == SLUICE_OK)
        status = safetensors_writer_finish(writer);
    safetensors_writer_destroy(writer);
    return status;
}

// Synthetic and exported checkpoints could not be read back, by us or by Transformers.
static void what_is_written_is_read_back(void **state)
{
    (void)state;
    struct tempdir dir;
    struct safetensors *st;
    uint8_t back[60];
    tempdir_create(&dir);
    assert_int_equal(write_two(tempdir_file(&dir, "w.safetensors")), SLUICE_OK);
    assert_int_equal(tempdir_count(&dir), 1);
    assert_int_equal(safetensors_open(tempdir_file(&dir, "w.safetensors"), &st), SLUICE_OK);
    assert_int_equal(safetensors_count(st), 3);
    const struct safetensors_tensor *tensor = safetensors_find(st, "a.weight");
    assert_int_equal(tensor->offset % 8, 0);
    assert_int_equal(tensor->dtype, SAFETENSORS_F32);
    assert_int_equal(tensor->rank, 2);
    assert_int_equal(tensor->shape[1], 5);
    assert_int_equal(safetensors_read(st, tensor, 0, 15, back), SLUICE_OK);
    assert_memory_equal(back, data, 60);
    assert_int_equal(safetensors_read(st, safetensors_find(st, "scalar \xc3\xa4"), 0, 1, back), SLUICE_OK);
    assert_int_equal(back[0], 61);
    safetensors_close(st);
    tempdir_remove(&dir);
}

// The file of write_two, in another order.
static enum sluice_status write_two_at_places(const char *path)
{
    struct safetensors_writer *writer;
    enum sluice_status status = safetensors_writer_create(path, &writer);
    if (status == SLUICE_OK)
        status = declare_two(writer);
    if (status == SLUICE_OK)
        status = safetensors_writer_write_at(writer, "scalar \xc3\xa4", 0, data + 60, 1);
    for (uint64_t at = 60; status == SLUICE_OK && at > 0; at -= 12)
        status = safetensors_writer_write_at(writer, "a.weight", at - 12, data + at - 12, 12);
    if (status == SLUICE_OK)
        status = safetensors_writer_finish(writer);
    safetensors_writer_destroy(writer);
    return status;
}

// Results that come layer by layer would land in the wrong rows, or outside of their tensor.
static void places_give_the_same_file_as_the_order(void **state)
{
    (void)state;
    struct tempdir dir;
    struct safetensors_writer *writer;
    tempdir_create(&dir);
    assert_int_equal(write_two(tempdir_file(&dir, "w.safetensors")), SLUICE_OK);
    assert_int_equal(write_two_at_places(tempdir_file(&dir, "at.safetensors")), SLUICE_OK);
    uint8_t bytes[2][1024];
    size_t counts[2];
    const char *const names[] = {"w.safetensors", "at.safetensors"};
    for (int i = 0; i < 2; i++) {
        FILE *file = fopen(tempdir_file(&dir, names[i]), "rb");
        assert_non_null(file);
        counts[i] = fread(bytes[i], 1, sizeof bytes[i], file);
        fclose(file);
    }
    assert_int_equal(counts[0], counts[1]);
    assert_memory_equal(bytes[0], bytes[1], counts[0]);
    const char *path = tempdir_file(&dir, "bad.safetensors");
    static const struct {
        const char *name;
        uint64_t offset;
        size_t bytes;
    } bad[] = {{"a.weight", 50, 11}, {"a.weight", 61, 1}, {"a.weight", UINT64_MAX, 2}, {"unknown", 0, 1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(safetensors_writer_create(path, &writer), SLUICE_OK);
        assert_int_equal(declare_two(writer), SLUICE_OK);
        assert_int_equal(safetensors_writer_write_at(writer, bad[i].name, bad[i].offset, data, bad[i].bytes),
                         SLUICE_ERR_ARGUMENT);
        assert_int_equal(safetensors_writer_finish(writer), SLUICE_ERR_ARGUMENT); // it sticks
        safetensors_writer_destroy(writer);
    }
    assert_int_equal(safetensors_writer_create(path, &writer), SLUICE_OK);
    assert_int_equal(declare_two(writer), SLUICE_OK);
    assert_int_equal(safetensors_writer_write_at(writer, "a.weight", 4, data, 56), SLUICE_OK);
    assert_int_equal(safetensors_writer_write(writer, "scalar \xc3\xa4", data, 1), SLUICE_ERR_ARGUMENT); // a hole
    safetensors_writer_destroy(writer);
    assert_int_equal(tempdir_count(&dir), 2);
    tempdir_remove(&dir);
}

// Two processes that write the same file would mix their results in it.
static void a_second_writer_is_refused(void **state)
{
    (void)state;
    struct tempdir dir;
    struct safetensors_writer *first, *second;
    tempdir_create(&dir);
    const char *path = tempdir_file(&dir, "w.safetensors");
    assert_int_equal(safetensors_writer_create(path, &first), SLUICE_OK);
    assert_int_equal(safetensors_writer_create(path, &second), SLUICE_OK);
    assert_int_equal(declare_two(first), SLUICE_OK);
    assert_int_equal(declare_two(second), SLUICE_OK);
    assert_int_equal(safetensors_writer_write(first, "a.weight", data, 60), SLUICE_OK);
    assert_int_equal(safetensors_writer_write(second, "a.weight", data, 60), SLUICE_ERR_ARGUMENT);
    assert_non_null(strstr(error_message(), "another process is writing"));
    safetensors_writer_destroy(second); // and takes nothing away
    assert_int_equal(safetensors_writer_write(first, "scalar \xc3\xa4", data + 60, 1), SLUICE_OK);
    assert_int_equal(safetensors_writer_finish(first), SLUICE_OK);
    safetensors_writer_destroy(first);
    assert_int_equal(tempdir_count(&dir), 1);
    tempdir_remove(&dir);
}

static void assert_write_refused(const char *path, const char *name, size_t bytes)
{
    struct safetensors_writer *writer;
    assert_int_equal(safetensors_writer_create(path, &writer), SLUICE_OK);
    assert_int_equal(declare_two(writer), SLUICE_OK);
    assert_int_equal(safetensors_writer_write(writer, "a.weight", data, 10), SLUICE_OK);
    assert_int_equal(safetensors_writer_write(writer, name, data, bytes), SLUICE_ERR_ARGUMENT);
    assert_int_equal(safetensors_writer_write(writer, "a.weight", data, 1), SLUICE_ERR_ARGUMENT); // it sticks
    assert_int_equal(safetensors_writer_finish(writer), SLUICE_ERR_ARGUMENT);
    safetensors_writer_destroy(writer);
}

// A mistake in the order of writing would make a file of scrambled weights.
static void misuse_is_refused_and_leaves_nothing(void **state)
{
    (void)state;
    struct tempdir dir;
    struct safetensors_writer *writer;
    tempdir_create(&dir);
    const char *path = tempdir_file(&dir, "w.safetensors");
    assert_write_refused(path, "a.weight", 51);
    assert_write_refused(path, "scalar \xc3\xa4", 1);
    assert_write_refused(path, "unknown", 1);
    static const char *const bad_names[] = {"", "__metadata__", "a.weight", "\xff"};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(safetensors_writer_create(path, &writer), SLUICE_OK);
        assert_int_equal(declare_two(writer), SLUICE_OK);
        assert_int_equal(safetensors_writer_declare(writer, bad_names[i], SAFETENSORS_U8, 0, NULL),
                         SLUICE_ERR_ARGUMENT);
        safetensors_writer_destroy(writer);
    }
    static const uint64_t huge[2] = {UINT64_MAX / 2, 3};
    assert_int_equal(safetensors_writer_create(path, &writer), SLUICE_OK);
    assert_int_equal(safetensors_writer_declare(writer, "huge", SAFETENSORS_F32, 2, huge), SLUICE_ERR_ARGUMENT);
    safetensors_writer_destroy(writer);
    assert_int_equal(safetensors_writer_create(path, &writer), SLUICE_OK);
    assert_int_equal(declare_two(writer), SLUICE_OK);
    assert_int_equal(safetensors_writer_finish(writer), SLUICE_ERR_ARGUMENT); // data is missing
    safetensors_writer_destroy(writer);
    assert_int_equal(tempdir_count(&dir), 0);
    tempdir_remove(&dir);
}

// After a crash or a full disk, half a file under the final name would be taken for a whole one.
static void a_full_disk_is_reported_and_leaves_nothing(void **state)
{
    (void)state;
    struct tempdir dir;
    struct rlimit old, small = {0};
    static const uint64_t shape[1] = {1 << 20};
    static uint8_t block[1 << 16];
    tempdir_create(&dir);
    const char *path = tempdir_file(&dir, "w.safetensors");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_IGN);
    for (int early = 0; early < 2; early++) { // the limit is found when space is reserved, or in the middle
        struct safetensors_writer *writer;
        enum sluice_status status = SLUICE_OK;
        small = (struct rlimit){.rlim_cur = early ? 1 << 17 : 1 << 18, .rlim_max = old.rlim_max};
        assert_int_equal(safetensors_writer_create(path, &writer), SLUICE_OK);
        assert_int_equal(safetensors_writer_declare(writer, "a", SAFETENSORS_U8, 1, shape), SLUICE_OK);
        if (!early)
            assert_int_equal(safetensors_writer_write(writer, "a", block, sizeof block), SLUICE_OK);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        for (int i = 0; i < 16 - !early && status == SLUICE_OK; i++)
            status = safetensors_writer_write(writer, "a", block, sizeof block);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(status, SLUICE_ERR_IO);
        assert_non_null(strstr(error_message(), "1048576 bytes"));
        assert_int_equal(safetensors_writer_finish(writer), SLUICE_ERR_IO);
        safetensors_writer_destroy(writer);
        assert_int_equal(tempdir_count(&dir), 0);
    }
    tempdir_remove(&dir);
}

// A path in a directory that is not there would fail without saying why.
static void an_impossible_path_is_reported(void **state)
{
    (void)state;
    assert_int_equal(write_two("no-such-directory/w.safetensors"), SLUICE_ERR_IO);
    assert_non_null(strstr(error_message(), "no-such-directory/w.safetensors"));
}

// The program would crash or leave rubbish instead of saying that memory is short.
static void every_failing_allocation_is_reported(void **state)
{
    (void)state;
    struct tempdir dir;
    enum sluice_status status = SLUICE_ERR_MEMORY;
    uint64_t failures = 0;
    tempdir_create(&dir);
    while (status != SLUICE_OK) {
        assert_int_equal(tempdir_count(&dir), 0);
        mem_fail_at(failures++);
        status = write_two(tempdir_file(&dir, "w.safetensors"));
        assert_true(status == SLUICE_OK || status == SLUICE_ERR_MEMORY);
    }
    mem_fail_at(UINT64_MAX);
    assert_true(failures > 6);
    safetensors_writer_destroy(NULL);
    tempdir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(places_give_the_same_file_as_the_order),
        cmocka_unit_test(a_second_writer_is_refused),
        cmocka_unit_test(misuse_is_refused_and_leaves_nothing),
        cmocka_unit_test(a_full_disk_is_reported_and_leaves_nothing),
        cmocka_unit_test(an_impossible_path_is_reported),
        cmocka_unit_test(every_failing_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
