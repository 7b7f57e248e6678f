#include "quant/halffloat.h"
#include "quant_tempdir.h"
#include "runtime/base/mem.h"

struct broken {
    const char *header;
    size_t data_bytes;
    const char *message; // part of it
};

#define T(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const struct broken broken_headers[] = {
    {"[]", 0, "not a JSON object"},
    {"{}x", 0, "not valid JSON"},
    {"{\"a\":", 0, "not valid JSON"},
    {"\"a\"", 0, "JSON"},
    {"{\"a\xff\":" T("U8", "[1]", "[0,1]") "}", 1, "not valid JSON"},
    {"{\"a\":1}", 8, "'a'"},
    {"{\"a\":[]}", 8, "'a'"},
    {"{\"a\":{}}", 8, "'a'"},
    {"{\"\":" T("U8", "[1]", "[0,1]") "}", 1, "no name"},
    {"{\"a\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "no dtype"},
    {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "no shape"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":3,\"data_offsets\":[0,1]}}", 1, "no shape"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "data_offsets"},
    {"{\"a\":" T("U8", "[-1]", "[0,1]") "}", 1, "dimension"},
    {"{\"a\":" T("U8", "[1.0]", "[0,1]") "}", 1, "dimension"},
    {"{\"a\":" T("U8", "[\"1\"]", "[0,1]") "}", 1, "dimension"},
    {"{\"a\":" T("U8", "[99999999999999999999]", "[0,1]") "}", 1, "JSON"},
    {"{\"a\":" T("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, "more than 8"},
    {"{\"a\":" T("U8", "[4294967296,4294967296]", "[0,0]") "}", 8, "overflows"},
    {"{\"a\":" T("F64", "[4611686018427387904]", "[0,0]") "}", 8, "do not fit"},
    {"{\"a\":" T("F32", "[2]", "[0,7]") "}", 8, "do not fit"},
    {"{\"a\":" T("BF16", "[2,2]", "[0,4]") "}", 8, "do not fit"},
    {"{\"a\":" T("U8", "[1]", "[0]") "}", 8, "two integers"},
    {"{\"a\":" T("U8", "[1]", "[0,1,2]") "}", 8, "two integers"},
    {"{\"a\":" T("U8", "[1]", "[-1,0]") "}", 8, "two integers"},
    {"{\"a\":" T("U8", "[1]", "[0.0,1.0]") "}", 8, "two integers"},
    {"{\"a\":" T("U8", "[1]", "[1,0]") "}", 8, "beyond the file"},
    {"{\"a\":" T("U8", "[9]", "[0,9]") "}", 8, "beyond the file"},
    {"{\"a\":" T("U8", "[1]", "[9223372036854775806,9223372036854775807]") "}", 8, "beyond the file"},
    {"{\"a\":" T("X4", "[1]", "[0,9]") "}", 8, "beyond the file"},
    {"{\"a\":" T("U8", "[4]", "[0,4]") ",\"b\":" T("U8", "[4]", "[3,7]") "}", 8, "overlap"},
    {"{\"a\":" T("U8", "[8]", "[0,8]") ",\"b\":" T("U8", "[0]", "[3,3]") ",\"c\":" T("U8", "[1]", "[4,5]") "}", 8,
     "overlap"},
    {"{\"a\":" T("U8", "[1]", "[0,1]") ",\"a\":" T("U8", "[1]", "[1,2]") "}", 8, "duplicate"},
    {"{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 8, "duplicate"},
};

// A damaged or malicious download would crash the program or make it read someone else's memory.
static void broken_headers_are_refused_with_the_file_name(void **state)
{
    (void)state;
    struct tempdir dir;
    tempdir_create(&dir);
    const char *path = tempdir_file(&dir, "broken.safetensors");
    for (size_t i = 0; i < sizeof broken_headers / sizeof broken_headers[0]; i++) {
        struct safetensors *st = (struct safetensors *)&dir;
        safetensors_file_write(path, broken_headers[i].header, broken_headers[i].data_bytes);
        assert_int_equal(safetensors_open(path, &st), SLUICE_ERR_FORMAT);
        assert_null(st);
        if (!strstr(error_message(), broken_headers[i].message) || !strstr(error_message(), path))
            fail_msg("header %zu: message is '%s'", i, error_message());
    }
    tempdir_remove(&dir);
}

// A file cut short, or one that is no safetensors file at all, would be taken for gigabytes of header.
static void impossible_lengths_are_refused(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {0, 1, 3, 100, 100000001, (uint64_t)1 << 63, UINT64_MAX, UINT64_MAX - 7};
    struct tempdir dir;
    struct safetensors *st;
    tempdir_create(&dir);
    const char *path = tempdir_file(&dir, "short.safetensors");
    uint8_t bytes[10] = {0, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        memcpy(bytes, &lengths[i], 8);
        file_write(path, bytes, sizeof bytes);
        assert_int_equal(safetensors_open(path, &st), SLUICE_ERR_FORMAT);
    }
    for (size_t count = 0; count < 8; count++) {
        file_write(path, bytes, count);
        assert_int_equal(safetensors_open(path, &st), SLUICE_ERR_FORMAT);
    }
    tempdir_remove(&dir);
}

// A small file of empty arrays would take all memory while it is parsed.
static void a_header_that_would_explode_in_memory_is_refused(void **state)
{
    (void)state;
    enum { BYTES = 24 << 20 };
    struct tempdir dir;
    struct safetensors *st;
    tempdir_create(&dir);
    char *header = malloc(BYTES + 1);
    assert_non_null(header);
    for (size_t i = 0; i < BYTES; i++)
        header[i] = "[],"[i % 3];
    header[BYTES] = '\0';
    safetensors_file_write(tempdir_file(&dir, "bomb.safetensors"), header, 0);
    assert_int_equal(safetensors_open(dir.file, &st), SLUICE_ERR_FORMAT);
    assert_non_null(strstr(error_message(), "more entries"));
    free(header);
    tempdir_remove(&dir);
}

// The program would hang or read nonsense when given a directory, a pipe or a name that is not there.
static void things_that_are_no_files_are_refused(void **state)
{
    (void)state;
    struct tempdir dir;
    struct safetensors *st;
    tempdir_create(&dir);
    assert_int_equal(safetensors_open(dir.path, &st), SLUICE_ERR_IO);
    assert_int_equal(safetensors_open(tempdir_file(&dir, "absent"), &st), SLUICE_ERR_IO);
    assert_int_equal(mkfifo(tempdir_file(&dir, "pipe"), 0600), 0);
    assert_int_equal(safetensors_open(dir.file, &st), SLUICE_ERR_IO);
    assert_non_null(strstr(error_message(), "not a regular file"));
    tempdir_remove(&dir);
}

static const char good_header[] =
    "{\"__metadata__\":{\"format\":\"pt\"},\"odd\":" T("BF16", "[3]", "[9,15]") ",\"bytes\":" T(
        "U8", "[3,3]", "[0,9]") ",\"none\":" T("F32", "[0,7]",
                                               "[4,4]") ",\"scalar\":" T("F32", "[]",
                                                                         "[16,20]") ",\"new\":" T("F4_E2M1", "[7]",
                                                                                                  "[20,24]") "} ";

// Files that other programs wrote in an unusual but legal way (any order, odd offsets, gaps, scalars) would not open.
static void legal_oddities_are_read(void **state)
{
    (void)state;
    struct tempdir dir;
    struct safetensors *st;
    uint8_t bytes[9], wanted[9] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    uint16_t bits;
    float value;
    tempdir_create(&dir);
    safetensors_file_write(tempdir_file(&dir, "odd.safetensors"), good_header, 24);
    assert_int_equal(safetensors_open(dir.file, &st), SLUICE_OK);
    assert_int_equal(safetensors_count(st), 5);
    assert_string_equal(safetensors_at(st, 0)->name, "bytes");
    assert_int_equal(safetensors_file_count(st), 1);
    assert_string_equal(safetensors_file_path(st, 0), dir.file);
    const struct safetensors_tensor *tensor = safetensors_find(st, "bytes");
    assert_int_equal(tensor->rank, 2);
    assert_int_equal(tensor->elements, 9);
    assert_int_equal(safetensors_read(st, tensor, 0, 9, bytes), SLUICE_OK);
    assert_memory_equal(bytes, wanted, 9);
    assert_int_equal(safetensors_read(st, safetensors_find(st, "odd"), 1, 1, &bits), SLUICE_OK);
    assert_int_equal(bits, 0x0C0B);
    tensor = safetensors_find(st, "scalar");
    assert_int_equal(tensor->rank, 0);
    assert_int_equal(safetensors_read_f32(st, tensor, 0, 1, &value), SLUICE_OK);
    assert_int_equal(f32_bits(value), 0x13121110);
    assert_int_equal(safetensors_find(st, "none")->elements, 0);
    assert_int_equal(safetensors_read_f32(st, safetensors_find(st, "none"), 0, 0, NULL), SLUICE_OK);
    safetensors_close(st);
    tempdir_remove(&dir);
}

// Reading beyond a tensor would deliver the next one's bytes; unknown formats would be taken for known ones.
static void reads_outside_a_tensor_are_refused(void **state)
{
    (void)state;
    struct tempdir dir;
    struct safetensors *st;
    float value;
    tempdir_create(&dir);
    safetensors_file_write(tempdir_file(&dir, "odd.safetensors"), good_header, 24);
    assert_int_equal(safetensors_open(dir.file, &st), SLUICE_OK);
    const struct safetensors_tensor *tensor = safetensors_find(st, "odd");
    assert_int_equal(safetensors_read(st, tensor, 3, 1, &value), SLUICE_ERR_ARGUMENT);
    assert_int_equal(safetensors_read(st, tensor, 4, 0, &value), SLUICE_ERR_ARGUMENT);
    assert_int_equal(safetensors_read(st, tensor, 1, UINT64_MAX, &value), SLUICE_ERR_ARGUMENT);
    assert_int_equal(safetensors_read_f32(st, tensor, 2, 2, &value), SLUICE_ERR_ARGUMENT);
    assert_int_equal(safetensors_read_f32(st, safetensors_find(st, "bytes"), 0, 1, &value), SLUICE_ERR_UNSUPPORTED);
    assert_non_null(strstr(error_message(), "is U8"));
    assert_int_equal(safetensors_find(st, "new")->dtype, SAFETENSORS_UNKNOWN);
    assert_int_equal(safetensors_read(st, safetensors_find(st, "new"), 0, 1, &value), SLUICE_ERR_UNSUPPORTED);
    assert_int_equal(safetensors_require(st, "missing", &tensor), SLUICE_ERR_FORMAT);
    assert_non_null(strstr(error_message(), "'missing'"));
    assert_int_equal(truncate(dir.file, 20), 0);
    assert_int_equal(safetensors_read(st, safetensors_find(st, "odd"), 0, 3, &value), SLUICE_ERR_IO);
    assert_non_null(strstr(error_message(), "shorter"));
    safetensors_close(st);
    tempdir_remove(&dir);
}

// Norms stored as F32, F16 or F64 instead of BF16 would be read with wrong values.
static void all_float_types_convert_across_chunks(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    static const char header[] =
        "{\"f64\":" T("F64", "[10000]", "[0,80000]") ",\"f32\":" T("F32", "[10000]", "[80000,120000]") ",\"f16\":" T(
            "F16", "[10000]", "[120000,140000]") ",\"bf16\":" T("BF16", "[10000]", "[140000,160000]") "}";
    static float out[COUNT];
    static uint8_t file[8 + sizeof header - 1 + 160000];
    uint64_t length = sizeof header - 1;
    memcpy(file, &length, 8);
    memcpy(file + 8, header, length);
    uint8_t *data = file + 8 + length;
    for (size_t i = 0; i < COUNT; i++) { // i / 8 - 500 is exact in all but bf16
        double f64 = (double)i / 8 - 500;
        float f32 = (float)f64;
        uint16_t f16 = f16_from_f32(f32), bf16 = bf16_from_f32(f32);
        memcpy(data + 8 * i, &f64, 8);
        memcpy(data + 80000 + 4 * i, &f32, 4);
        memcpy(data + 120000 + 2 * i, &f16, 2);
        memcpy(data + 140000 + 2 * i, &bf16, 2);
    }
    struct tempdir dir;
    struct safetensors *st;
    tempdir_create(&dir);
    file_write(tempdir_file(&dir, "floats.safetensors"), file, sizeof file);
    assert_int_equal(safetensors_open(dir.file, &st), SLUICE_OK);
    static const char *const names[] = {"f64", "f32", "f16", "bf16"};
    for (int t = 0; t < 4; t++) {
        const uint64_t first = 777, count = COUNT - 777;
        assert_int_equal(safetensors_read_f32(st, safetensors_find(st, names[t]), first, count, out), SLUICE_OK);
        for (size_t i = 0; i < count; i++) {
            float wanted = (float)(i + first) / 8 - 500;
            if (t == 2)
                wanted = f32_from_f16(f16_from_f32(wanted));
            if (t == 3)
                wanted = f32_from_bf16(bf16_from_f32(wanted));
            if (out[i] != wanted)
                fail_msg("%s[%zu] is %g, not %g", names[t], i, (double)out[i], (double)wanted);
        }
    }
    safetensors_close(st);
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
    tempdir_create(&dir);
    safetensors_file_write(tempdir_file(&dir, "odd.safetensors"), good_header, 24);
    while (status != SLUICE_OK) {
        mem_fail_at(failures++);
        status = safetensors_open(dir.file, &st);
        assert_true(status == SLUICE_OK || (status == SLUICE_ERR_MEMORY && !st));
    }
    mem_fail_at(UINT64_MAX);
    assert_true(failures > 8);
    safetensors_close(st);
    safetensors_close(NULL);
    tempdir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_headers_are_refused_with_the_file_name),
        cmocka_unit_test(impossible_lengths_are_refused),
        cmocka_unit_test(a_header_that_would_explode_in_memory_is_refused),
        cmocka_unit_test(things_that_are_no_files_are_refused),
        cmocka_unit_test(legal_oddities_are_read),
        cmocka_unit_test(reads_outside_a_tensor_are_refused),
        cmocka_unit_test(all_float_types_convert_across_chunks),
        cmocka_unit_test(every_failing_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
