#include "quant/checkpoint.h"
#include "quant_tempdir.h"
#include "runtime/base/mem.h"

static const char one_a[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}";
static const char one_b[] = "{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[1,4]}}";

static void index_write(struct tempdir *dir, const char *text)
{
    file_write(tempdir_file(dir, "model.safetensors.index.json"), text, strlen(text));
}

static void shards_create(struct tempdir *dir)
{
    tempdir_create(dir);
    safetensors_file_write(tempdir_file(dir, "s1.safetensors"), one_a, 4);
    safetensors_file_write(tempdir_file(dir, "s2.safetensors"), one_b, 4);
}

// The 41 shards of the published model would not be found as one set of tensors.
static void shards_are_one_set_of_tensors(void **state)
{
    (void)state;
    struct tempdir dir;
    struct safetensors *st;
    uint8_t bytes[3];
    shards_create(&dir);
    index_write(&dir,
                "{\"metadata\":{\"total_size\":5},\"weight_map\":{\"b\":\"s2.safetensors\",\"a\":\"s1.safetensors\"}}");
    assert_int_equal(checkpoint_open(dir.path, &st), SLUICE_OK);
    assert_int_equal(safetensors_count(st), 2);
    assert_int_equal(safetensors_file_count(st), 2);
    assert_int_equal(safetensors_read(st, safetensors_find(st, "b"), 0, 3, bytes), SLUICE_OK);
    assert_int_equal(bytes[0], 1);
    assert_non_null(strstr(safetensors_file_path(st, safetensors_find(st, "b")->file), "s2.safetensors"));
    safetensors_close(st);
    tempdir_remove(&dir);
}

// Small checkpoints have one file and no index.
static void a_single_file_needs_no_index(void **state)
{
    (void)state;
    struct tempdir dir;
    struct safetensors *st;
    shards_create(&dir);
    assert_int_equal(checkpoint_open(dir.path, &st), SLUICE_ERR_IO);
    assert_null(st);
    assert_non_null(strstr(error_message(), "no checkpoint"));
    safetensors_file_write(tempdir_file(&dir, "model.safetensors"), one_a, 4);
    assert_int_equal(checkpoint_open(dir.path, &st), SLUICE_OK);
    assert_non_null(safetensors_find(st, "a"));
    safetensors_close(st);
    tempdir_remove(&dir);
}

// A malicious index could make the program open any file; a wrong one would surface only hours into a conversion.
static void broken_indexes_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
        enum sluice_status status;
    } cases[] = {
        {"{}", "weight_map", SLUICE_ERR_FORMAT},
        {"[]", "weight_map", SLUICE_ERR_FORMAT},
        {"{\"weight_map\":{}}", "weight_map", SLUICE_ERR_FORMAT},
        {"{\"weight_map\":[]}", "weight_map", SLUICE_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":1}}", "'a'", SLUICE_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"../s1.safetensors\"}}", "plain file name", SLUICE_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "plain file name", SLUICE_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"x/s1.safetensors\"}}", "plain file name", SLUICE_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"..\"}}", "plain file name", SLUICE_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"\"}}", "plain file name", SLUICE_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"s3.safetensors\"}}", "s3.safetensors", SLUICE_ERR_IO},
        {"{\"weight_map\":{\"a\":\"s2.safetensors\"}}", "nowhere", SLUICE_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"s1.safetensors\"}}", "'b'", SLUICE_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"s2.safetensors\",\"b\":\"s1.safetensors\"}}", "where the index says",
         SLUICE_ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"a\":\"s2.safetensors\"}}", "duplicate", SLUICE_ERR_FORMAT},
        {"{\"weight_map\":", "not valid JSON", SLUICE_ERR_FORMAT},
        {"{", "not an index", SLUICE_ERR_FORMAT},
    };
    struct tempdir dir;
    shards_create(&dir);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct safetensors *st = (struct safetensors *)&dir;
        index_write(&dir, cases[i].text);
        assert_int_equal(checkpoint_open(dir.path, &st), cases[i].status);
        assert_null(st);
        if (!strstr(error_message(), cases[i].message))
            fail_msg("index %zu: message is '%s'", i, error_message());
    }
    tempdir_remove(&dir);
}

// It would be a matter of luck which of two different weights is used.
static void a_tensor_in_two_shards_is_refused(void **state)
{
    (void)state;
    struct tempdir dir;
    struct safetensors *st;
    tempdir_create(&dir);
    static const char both[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                               "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}";
    safetensors_file_write(tempdir_file(&dir, "s1.safetensors"), one_a, 4);
    safetensors_file_write(tempdir_file(&dir, "s2.safetensors"), both, 4);
    index_write(&dir, "{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"s2.safetensors\"}}");
    assert_int_equal(checkpoint_open(dir.path, &st), SLUICE_ERR_FORMAT);
    assert_non_null(strstr(error_message(), "'a'"));
    tempdir_remove(&dir);
}

// The program would crash or leak instead of saying that memory is short.
static void every_failing_allocation_is_reported(void **state)
{
    (void)state;
    struct tempdir dir;
    struct safetensors *st;
    enum sluice_status status = SLUICE_ERR_MEMORY;
    uint64_t failures = 0;
    shards_create(&dir);
    index_write(&dir, "{\"weight_map\":{\"b\":\"s2.safetensors\",\"a\":\"s1.safetensors\"}}");
    while (status != SLUICE_OK) {
        mem_fail_at(failures++);
        status = checkpoint_open(dir.path, &st);
        assert_true(status == SLUICE_OK || (status == SLUICE_ERR_MEMORY && !st));
    }
    mem_fail_at(UINT64_MAX);
    assert_true(failures > 12);
    safetensors_close(st);
    tempdir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_are_one_set_of_tensors),        cmocka_unit_test(a_single_file_needs_no_index),
        cmocka_unit_test(broken_indexes_are_refused),           cmocka_unit_test(a_tensor_in_two_shards_is_refused),
        cmocka_unit_test(every_failing_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
