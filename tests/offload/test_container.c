// A container read back: everything that was written, and nothing else.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <xxhash.h>

#include "container_sample.h"
#include "offload/container.h"
#include "offload/container_directory.h"
#include "runtime/base/mem.h"

static char folder[64], path[96];

static int set_up(void **state)
{
    (void)state;
    folder_create(folder, true);
    snprintf(path, sizeof path, "%s/sample.sluice", folder);
    sample_write(path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

static struct container *open_sample(void)
{
    struct container *c;
    assert_int_equal(container_open(path, &c), SLUICE_OK);
    return c;
}

// Tokens would be garbage and the model's shape unknown if documents did not come back byte for byte.
static void documents_come_back(void **state)
{
    (void)state;
    struct container *c = open_sample();
    assert_int_equal(container_document_count(c), 3);
    for (uint32_t i = 0; i < 3; i++) {
        char *text;
        size_t bytes;
        const struct container_plan_document *wanted = &sample_plan.documents[i];
        assert_string_equal(container_document_name(c, i), wanted->name);
        assert_int_equal(container_document_bytes(c, i), wanted->bytes);
        assert_int_equal(container_document(c, wanted->name, &text, &bytes), SLUICE_OK);
        assert_int_equal(bytes, wanted->bytes);
        assert_memory_equal(text, wanted->text, bytes);
        assert_int_equal(text[bytes], 0);
        mem_free(text);
    }
    char *text;
    size_t bytes;
    assert_int_equal(container_document(c, "chat_template.jinja", &text, &bytes), SLUICE_ERR_UNSUPPORTED);
    assert_null(text);
    assert_non_null(strstr(error_message(), "chat_template.jinja"));
    container_close(c);
}

// Answers would be nonsense if a tensor came back with another shape, format or content.
static void tensors_come_back(void **state)
{
    (void)state;
    struct container *c = open_sample();
    uint8_t wanted[16384], got[16384];
    assert_int_equal(container_tensor_count(c), SAMPLE_TENSORS);
    for (uint32_t i = 0; i < SAMPLE_TENSORS; i++) {
        const struct container_plan_tensor *plan = &sample_plan.tensors[i];
        const struct container_tensor *t = container_tensor_find(c, plan->name);
        assert_ptr_equal(t, container_tensor_at(c, i));
        assert_string_equal(t->name, plan->name);
        assert_int_equal(t->type_id, plan->type_id);
        assert_int_equal(t->layout, plan->layout);
        assert_true(t->rows == plan->rows && t->cols == plan->cols && t->bytes == plan->bytes);
        assert_int_equal(t->file_offset % 4096, 0);
        sample_tensor(i, wanted);
        assert_int_equal(container_read_tensor(c, t, got), SLUICE_OK);
        assert_memory_equal(got, wanted, t->bytes);
    }
    assert_null(container_tensor_find(c, "lm_head"));
    assert_null(container_tensor_find(c, ""));
    container_close(c);
}

struct stream {
    uint8_t data[16384];
    uint64_t bytes;
    uint64_t stop_at;
};

static enum sluice_status collect_piece(void *user, uint64_t offset, const void *data, size_t bytes)
{
    struct stream *stream = user;
    assert_true(offset == stream->bytes);
    memcpy(stream->data + offset, data, bytes);
    stream->bytes += bytes;
    return stream->bytes >= stream->stop_at ? error_set(SLUICE_ERR_CANCELLED, "enough") : SLUICE_OK;
}

// Uploads through a small staging buffer would lose or repeat a piece of a tensor.
static void tensors_stream_in_order(void **state)
{
    (void)state;
    struct container *c = open_sample();
    uint8_t buffer[4099], wanted[16384];
    for (uint32_t i = 0; i < SAMPLE_TENSORS; i++) {
        struct stream stream = {.stop_at = UINT64_MAX};
        const struct container_tensor *t = container_tensor_at(c, i);
        sample_tensor(i, wanted);
        assert_int_equal(container_tensor_stream(c, t, buffer, sizeof buffer, collect_piece, &stream), SLUICE_OK);
        assert_true(stream.bytes == t->bytes);
        assert_memory_equal(stream.data, wanted, t->bytes);
    }
    struct stream stream = {.stop_at = 5000};
    const struct container_tensor *t = container_tensor_find(c, "lm_head.weight");
    assert_int_equal(container_tensor_stream(c, t, buffer, sizeof buffer, collect_piece, &stream),
                     SLUICE_ERR_CANCELLED);
    container_close(c);
}

// A layer would compute with another layer's experts if the table and the records disagreed.
static void experts_come_back(void **state)
{
    (void)state;
    struct container *c = open_sample();
    uint8_t wanted[8192], got[8192];
    uint64_t first = 0;
    assert_int_equal(container_expert_layer_count(c), SAMPLE_LAYERS);
    assert_int_equal(container_expert_count(c), SAMPLE_EXPERTS);
    assert_int_equal(container_expert_record_bytes_max(c), 8192);
    assert_null(container_expert_layer(c, 1));
    for (uint32_t i = 0; i < SAMPLE_LAYERS; i++) {
        const struct container_plan_experts *plan = &sample_plan.layers[i];
        const struct container_expert_layer *l = container_expert_layer(c, plan->layer);
        assert_ptr_equal(l, container_expert_layer_at(c, i));
        assert_int_equal(l->expert_count, plan->expert_count);
        assert_int_equal(l->gate_up_type_id, plan->gate_up_type_id);
        assert_int_equal(l->down_type_id, plan->down_type_id);
        assert_true(l->hidden == plan->hidden && l->intermediate == plan->intermediate);
        assert_true(l->down_offset == plan->down_offset && l->record_bytes == plan->record_bytes);
        assert_true(l->expert_first == first);
        first += l->expert_count;
        for (uint32_t e = 0; e < l->expert_count; e++) {
            assert_true(container_expert_offset(c, l->layer, e) == l->file_offset + e * l->record_bytes);
            sample_expert(l->layer, e, wanted);
            assert_int_equal(container_read_expert(c, l->layer, e, got), SLUICE_OK);
            assert_memory_equal(got, wanted, l->record_bytes);
            got[17] ^= 1;
            assert_int_equal(container_expert_verify(c, l->layer, e, got), SLUICE_ERR_CHECKSUM);
        }
    }
    // The message is what a user with a failing drive gets to see.
    char offset[32];
    snprintf(offset, sizeof offset, "offset %llu", (unsigned long long)container_expert_offset(c, 2, 1));
    assert_non_null(strstr(error_message(), "layer 2 expert 1"));
    assert_non_null(strstr(error_message(), offset));
    assert_non_null(strstr(error_message(), path));
    container_close(c);
}

// Messages would show bare numbers, or a file would be taken for one made from other inputs.
static void names_and_identity_come_back(void **state)
{
    (void)state;
    struct container *c = open_sample();
    uint8_t fingerprint[16];
    container_fingerprint(c, fingerprint);
    assert_memory_equal(fingerprint, sample_options.fingerprint, 16);
    assert_string_equal(container_type_name(c, SAMPLE_TYPE_TILES), "q4");
    assert_string_equal(container_type_name(c, SAMPLE_TYPE_F32), "f32");
    assert_null(container_type_name(c, 4));
    assert_string_equal(container_path(c), path);
    uint64_t planned;
    assert_int_equal(container_plan_bytes(&sample_plan, &planned), SLUICE_OK);
    assert_true(container_file_bytes(c) == planned);
    assert_true(lseek(container_descriptor(c), 0, SEEK_END) == (off_t)planned);
    container_close(c);
}

struct progress {
    uint64_t done, total, stop_at;
};

static bool watch(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    struct progress *progress = user;
    assert_true(done_bytes > progress->done && done_bytes <= total_bytes);
    progress->done = done_bytes;
    progress->total = total_bytes;
    return done_bytes < progress->stop_at;
}

// A user could not check a download, or not stop the check of 45 GB.
static void verify_covers_the_file(void **state)
{
    (void)state;
    struct container *c = open_sample();
    struct progress progress = {.stop_at = UINT64_MAX};
    assert_int_equal(container_verify(c, NULL, NULL), SLUICE_OK);
    assert_int_equal(container_verify(c, watch, &progress), SLUICE_OK);
    assert_true(progress.done > progress.total - 8192 && progress.total == container_file_bytes(c));
    progress = (struct progress){.stop_at = 20000};
    assert_int_equal(container_verify(c, watch, &progress), SLUICE_ERR_CANCELLED);
    container_close(c);
}

static enum sluice_status open_and_use(void)
{
    struct container *c;
    char *text = NULL;
    size_t bytes;
    enum sluice_status status;
    TRY(container_open(path, &c));
    TRY(container_document(c, "config.json", &text, &bytes));
    TRY(container_verify(c, NULL, NULL));
fail:
    mem_free(text);
    container_close(c);
    return status;
}

// Running out of memory while opening would crash or leak instead of ending in a message.
static void every_failed_allocation_is_an_error(void **state)
{
    (void)state;
    enum sluice_status status = SLUICE_ERR_MEMORY;
    uint64_t index = 0;
    for (; status != SLUICE_OK; index++) {
        mem_fail_at(index);
        status = open_and_use();
        mem_fail_at(UINT64_MAX);
        assert_true(status == SLUICE_OK || status == SLUICE_ERR_MEMORY);
    }
    assert_true(index >= 6 && index <= 20);
}

// Pointing the program at a wrong path would hang, crash or give a riddle.
static void wrong_paths_are_refused(void **state)
{
    (void)state;
    struct container *c;
    assert_int_equal(container_open("/nowhere/model.sluice", &c), SLUICE_ERR_IO);
    assert_non_null(strstr(error_message(), "/nowhere/model.sluice"));
    assert_int_equal(container_open(folder, &c), SLUICE_ERR_FORMAT);
    assert_int_equal(container_open("/dev/null", &c), SLUICE_ERR_FORMAT);
    char other[96], zeros[8192] = {0};
    snprintf(other, sizeof other, "%s/other", folder);
    file_store(other, zeros, 0);
    assert_int_equal(container_open(other, &c), SLUICE_ERR_FORMAT);
    file_store(other, zeros, sizeof zeros);
    assert_int_equal(container_open(other, &c), SLUICE_ERR_FORMAT);
    assert_non_null(strstr(error_message(), "not a Sluice container"));
    assert_null(c);
}

// A container made on another processor would be taken for damaged: checksums are computed in the form that is fastest
// here.
static void checksums_are_the_same_everywhere(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 16, 128, 240, 241, 1024, 1025, 4096, 69632 + 7, 1 << 20};
    static uint8_t data[1 << 20];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t hash[CONTAINER_HASH_BYTES];
        XXH128_canonical_t plain;
        XXH128_canonicalFromHash(&plain, XXH3_128bits(data, sizes[i]));
        container_hash(data, sizes[i], hash);
        assert_memory_equal(hash, plain.digest, sizeof hash);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_come_back),
        cmocka_unit_test(tensors_come_back),
        cmocka_unit_test(tensors_stream_in_order),
        cmocka_unit_test(experts_come_back),
        cmocka_unit_test(names_and_identity_come_back),
        cmocka_unit_test(verify_covers_the_file),
        cmocka_unit_test(every_failed_allocation_is_an_error),
        cmocka_unit_test(wrong_paths_are_refused),
        cmocka_unit_test(checksums_are_the_same_everywhere),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
