// Containers that a drive, a download or an enemy changed: always a status and a message, never a crash, never silence.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "container_sample.h"
#include "offload/container_directory.h"
#include "offload/container_private.h"
#include "runtime/base/mem.h"

#if defined(__SANITIZE_ADDRESS__)
enum { FLIP_STEP = 7 }; // coprime to every alignment
#else
enum { FLIP_STEP = 1 };
#endif

static uint8_t *good; // the sample's bytes
static size_t good_bytes;
static uint8_t *image; // the same in a shared mapping of `memory`, to be damaged
static int memory;

static int set_up(void **state)
{
    (void)state;
    char folder[64], path[96];
    folder_create(folder, true);
    snprintf(path, sizeof path, "%s/sample.sluice", folder);
    sample_write(path);
    good = file_load(path, &good_bytes);
    folder_remove(folder);
    memory = memfd_create("container", MFD_CLOEXEC);
    assert_int_equal(ftruncate(memory, (off_t)good_bytes), 0);
    image = mmap(NULL, good_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    assert_true(image != MAP_FAILED);
    memcpy(image, good, good_bytes);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(good);
    munmap(image, good_bytes);
    close(memory);
    return 0;
}

// Reads every item through the interface that a model uses.
static enum sluice_status read_everything(const struct container *c)
{
    enum sluice_status status = SLUICE_OK;
    uint8_t *data = malloc(good_bytes);
    for (uint32_t i = 0; i < container_document_count(c); i++) {
        char *text;
        size_t bytes;
        TRY(container_document(c, container_document_name(c, i), &text, &bytes));
        mem_free(text);
    }
    for (uint32_t i = 0; i < container_tensor_count(c); i++)
        TRY(container_read_tensor(c, container_tensor_at(c, i), data));
    for (uint32_t i = 0; i < container_expert_layer_count(c); i++)
        for (uint32_t e = 0; e < container_expert_layer_at(c, i)->expert_count; e++)
            TRY(container_read_expert(c, container_expert_layer_at(c, i)->layer, e, data));
fail:
    free(data);
    return status;
}

// What becomes of the image: the first failure of opening and verifying. Each failure has a message that names the
// file.
static enum sluice_status outcome(void)
{
    struct container *c;
    error_set(SLUICE_OK, "%s", "");
    enum sluice_status status = container_open_descriptor(dup(memory), "image.sluice", &c);
    assert_true((status == SLUICE_OK) == (c != NULL));
    if (status == SLUICE_OK)
        status = container_verify(c, NULL, NULL);
    container_close(c);
    if (status < 0)
        assert_memory_equal(error_message(), "image.sluice: ", 14);
    return status;
}

// What becomes of reading everything instead.
static enum sluice_status read_outcome(void)
{
    struct container *c;
    enum sluice_status status = container_open_descriptor(dup(memory), "image.sluice", &c);
    if (status == SLUICE_OK)
        status = read_everything(c);
    container_close(c);
    return status;
}

// A cosmic ray or a worn flash cell anywhere in 45 GB would go unnoticed.
static void every_flipped_bit_is_noticed(void **state)
{
    (void)state;
    assert_int_equal(outcome(), SLUICE_OK);
    for (size_t i = 0; i < good_bytes; i += FLIP_STEP) {
        image[i] ^= (uint8_t)(1u << (i % 8));
        enum sluice_status status = outcome();
        image[i] = good[i];
        assert_true(status == SLUICE_ERR_CHECKSUM || (status == SLUICE_ERR_FORMAT && i < 8));
    }
}

// A changed weight or document would be used without a word, because only the full verify would notice it.
static void every_flipped_bit_is_noticed_by_reading(void **state)
{
    (void)state;
    assert_int_equal(read_outcome(), SLUICE_OK);
    for (size_t i = 0; i < good_bytes; i += 101) {
        image[i] ^= (uint8_t)(1u << (i % 8));
        enum sluice_status status = read_outcome();
        image[i] = good[i];
        assert_true(status == SLUICE_ERR_CHECKSUM || (status == SLUICE_ERR_FORMAT && i < 8));
    }
}

// After a verify the user would not know what is damaged.
static void the_damaged_place_is_named(void **state)
{
    (void)state;
    const struct container_disk_header *header = (const struct container_disk_header *)good;
    const struct {
        uint64_t offset;
        const char *text;
    } places[] = {
        {header->documents_offset + 7, "document 'config.json'"},
        {header->tensors_offset + 50, "tensor 'model.norm.weight'"},
        {header->tensors_offset + 4095, "tensor 'model.norm.weight'"}, // its padding
        {header->experts_offset + 2 * 4096, "layer 0 expert 2"},
        {header->file_bytes - 1, "layer 2 expert 1"},
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        image[places[i].offset] ^= 0x80;
        assert_int_equal(outcome(), SLUICE_ERR_CHECKSUM);
        assert_non_null(strstr(error_message(), places[i].text));
        image[places[i].offset] = good[places[i].offset];
    }
}

// A download that broke off, or that something was appended to, would be opened.
static void every_other_length_is_refused(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes < good_bytes + 9000; bytes += bytes % 4096 < 4000 ? 499 : 1) {
        if (bytes == good_bytes)
            continue;
        assert_int_equal(ftruncate(memory, (off_t)bytes), 0);
        assert_int_equal(outcome(), SLUICE_ERR_FORMAT);
    }
    assert_int_equal(ftruncate(memory, (off_t)good_bytes), 0);
    memcpy(image, good, good_bytes);
    assert_int_equal(outcome(), SLUICE_OK);
}

// Blocks that a drive returned from the wrong place, or as zeros, would pass.
static void swapped_and_lost_blocks_are_noticed(void **state)
{
    (void)state;
    enum { BLOCK = 4096 };
    size_t count = good_bytes / BLOCK;
    for (size_t a = 0; a < count; a++) {
        memset(image + a * BLOCK, 0, BLOCK);
        assert_true(memcmp(image, good, good_bytes) == 0 || outcome() < 0); // one block holds zeros
        for (size_t b = a + 1; b < count; b++) {
            memcpy(image + a * BLOCK, good + b * BLOCK, BLOCK);
            memcpy(image + b * BLOCK, good + a * BLOCK, BLOCK);
            assert_true(outcome() < 0);
            memcpy(image + b * BLOCK, good + b * BLOCK, BLOCK);
        }
        memcpy(image + a * BLOCK, good + a * BLOCK, BLOCK);
    }
}

// Checksums that fit a changed directory, as an enemy would make them.
static void seal(void)
{
    struct container_disk_header *header = (struct container_disk_header *)image;
    uint64_t bytes = container_padded_bytes(header->directory_bytes);
    if (bytes <= good_bytes - CONTAINER_HEADER_BYTES)
        container_hash(image + CONTAINER_HEADER_BYTES, bytes, header->directory_xxh3);
    container_hash(header, offsetof(struct container_disk_header, header_xxh3), header->header_xxh3);
}

static const uint64_t hostile_values[] = {
    0,          1,
    15,         4095,
    4096,       0x7FFFFFFF,
    UINT32_MAX, UINT64_C(1) << 32,
    INT64_MAX,  UINT64_C(1) << 63,
    UINT64_MAX, UINT64_MAX - 4095,
};

// Sets `width` bytes at `offset` to each hostile value, and to its neighbours; returns how many were accepted.
static uint32_t try_values(size_t offset, size_t width)
{
    uint32_t accepted = 0;
    uint64_t was = 0;
    memcpy(&was, good + offset, width);
    enum { HOSTILE = sizeof hostile_values / sizeof *hostile_values };
    for (size_t i = 0; i < HOSTILE + 4; i++) {
        const uint64_t near[] = {was + 1, was - 1, was + 4096, was - 4096};
        uint64_t value = i < HOSTILE ? hostile_values[i] : near[i - HOSTILE];
        memcpy(image + offset, &value, width);
        if (memcmp(image + offset, good + offset, width) != 0) {
            seal();
            accepted += outcome() == SLUICE_OK;
            (void)read_outcome();
        }
        memcpy(image, good, CONTAINER_HEADER_BYTES);
        memcpy(image + offset, good + offset, width);
    }
    return accepted;
}

// A file from the internet could crash the program, or make it read outside its own memory.
static void hostile_fields_are_harmless(void **state)
{
    (void)state;
    const struct container_disk_header *header = (const struct container_disk_header *)good;
    size_t tables = CONTAINER_HEADER_BYTES + header->directory_bytes - header->string_bytes;
    uint32_t accepted = 0;
    for (size_t offset = 0; offset < offsetof(struct container_disk_header, fingerprint); offset += 4) {
        accepted += try_values(offset, 4);
        accepted += offset % 8 == 0 ? try_values(offset, 8) : 0;
    }
    assert_int_equal(accepted, 0); // every field of the header is determined by the rest
    for (size_t offset = CONTAINER_HEADER_BYTES; offset < tables; offset += 4) {
        (void)try_values(offset, 4);
        if (offset % 8 == 0)
            (void)try_values(offset, 8);
    }
    memcpy(image, good, good_bytes);
    assert_int_equal(outcome(), SLUICE_OK);
}

// A name could carry terminal escapes into a message, run beyond the file, or stand for two tensors.
static void hostile_names_are_refused(void **state)
{
    (void)state;
    const struct container_disk_header *header = (const struct container_disk_header *)good;
    size_t strings = CONTAINER_HEADER_BYTES + header->directory_bytes - header->string_bytes;
    for (size_t i = 0; i < header->string_bytes; i++) {
        image[strings + i] = good[strings + i] ? 0x1B : 'x';
        seal();
        assert_int_equal(outcome(), SLUICE_ERR_FORMAT);
        image[strings + i] = good[strings + i];
    }
    struct container_directory d = {.header = *header};
    size_t tensors =
        CONTAINER_HEADER_BYTES + header->type_count * sizeof *d.types + header->document_count * sizeof *d.documents;
    memcpy(image + tensors + sizeof *d.tensors, good + tensors, sizeof(struct container_disk_name));
    seal();
    assert_int_equal(outcome(), SLUICE_ERR_FORMAT);
    assert_non_null(strstr(error_message(), "two tensors 'model.norm.weight'"));
    memcpy(image, good, good_bytes);
}

// Moves the 64-bit offset at `place` of the image; every such file must be refused.
static void assert_offset_is_fixed(size_t place)
{
    uint64_t was;
    memcpy(&was, good + place, sizeof was);
    const uint64_t wrong[] = {was - 4096, was + 4096, was + 1, 0, 4096, was | UINT64_C(1) << 63, UINT64_MAX - 4095};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        memcpy(image + place, &wrong[i], sizeof wrong[i]);
        seal();
        assert_int_equal(outcome(), SLUICE_ERR_FORMAT);
        memcpy(image, good, good_bytes);
    }
}

// Two tensors could share their bytes, or an expert be read from the middle of another, with checksums that fit.
static void items_elsewhere_are_refused(void **state)
{
    (void)state;
    const struct container_disk_header *header = (const struct container_disk_header *)good;
    size_t place = CONTAINER_HEADER_BYTES + header->type_count * sizeof(struct container_disk_type);
    for (uint32_t i = 0; i < header->document_count; i++, place += sizeof(struct container_disk_document))
        assert_offset_is_fixed(place + offsetof(struct container_disk_document, offset));
    for (uint32_t i = 0; i < header->tensor_count; i++, place += sizeof(struct container_disk_tensor))
        assert_offset_is_fixed(place + offsetof(struct container_disk_tensor, offset));
    for (uint32_t i = 0; i < header->layer_count; i++, place += sizeof(struct container_disk_layer))
        assert_offset_is_fixed(place + offsetof(struct container_disk_layer, offset));
}

// The last name would be read beyond the pool.
static void a_pool_without_its_end_is_refused(void **state)
{
    (void)state;
    struct container_disk_header *header = (struct container_disk_header *)image;
    header->string_bytes--;
    header->directory_bytes--;
    seal();
    assert_int_equal(outcome(), SLUICE_ERR_FORMAT);
    assert_non_null(strstr(error_message(), "the name"));
    memcpy(image, good, good_bytes);
}

// A newer file would be called damaged, and the user would convert 160 GB again in vain.
static void another_version_is_named(void **state)
{
    (void)state;
    struct container_disk_header *header = (struct container_disk_header *)image;
    header->version = 2;
    seal();
    assert_int_equal(outcome(), SLUICE_ERR_FORMAT);
    assert_non_null(strstr(error_message(), "update the program"));
    memcpy(image, good, good_bytes);
}

// A file that is damaged or cut while the program runs would give wrong answers instead of an error.
static void damage_after_opening_is_noticed(void **state)
{
    (void)state;
    struct container *c;
    assert_int_equal(container_open_descriptor(dup(memory), "image.sluice", &c), SLUICE_OK);
    image[10] ^= 1;
    assert_int_equal(container_verify(c, NULL, NULL), SLUICE_ERR_CHECKSUM);
    image[10] ^= 1;
    image[good_bytes - 1] ^= 1;
    assert_int_equal(container_verify(c, NULL, NULL), SLUICE_ERR_CHECKSUM);
    assert_int_equal(read_everything(c), SLUICE_ERR_CHECKSUM);
    image[good_bytes - 1] ^= 1;
    assert_int_equal(ftruncate(memory, (off_t)good_bytes - 4096), 0);
    assert_int_equal(container_verify(c, NULL, NULL), SLUICE_ERR_IO);
    assert_int_equal(read_everything(c), SLUICE_ERR_IO);
    assert_non_null(strstr(error_message(), "cut"));
    assert_int_equal(ftruncate(memory, (off_t)good_bytes), 0);
    memcpy(image, good, good_bytes);
    container_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(every_flipped_bit_is_noticed_by_reading),
        cmocka_unit_test(the_damaged_place_is_named),
        cmocka_unit_test(every_other_length_is_refused),
        cmocka_unit_test(swapped_and_lost_blocks_are_noticed),
        cmocka_unit_test(hostile_fields_are_harmless),
        cmocka_unit_test(hostile_names_are_refused),
        cmocka_unit_test(items_elsewhere_are_refused),
        cmocka_unit_test(a_pool_without_its_end_is_refused),
        cmocka_unit_test(another_version_is_named),
        cmocka_unit_test(damage_after_opening_is_noticed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
