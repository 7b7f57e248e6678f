#include <stdbool.h>
#include <string.h>

#include "quant/safetensors_internal.h"
#include "runtime/base/mem.h"

// Memory that parsing may take. A list of 100,000 tensors needs a tenth of it.
static const uint64_t json_tree_bytes_max = (uint64_t)1 << 30;

static const struct {
    const char *name;
    uint32_t bytes;
} dtypes[] = {
#define X(enumerator, text, bytes) [enumerator] = {text, bytes},
    SAFETENSORS_DTYPE_LIST(X)
#undef X
        [SAFETENSORS_UNKNOWN] = {"unknown", 0},
};

const char *safetensors_dtype_name(enum safetensors_dtype dtype)
{
    return dtypes[dtype <= SAFETENSORS_UNKNOWN ? dtype : SAFETENSORS_UNKNOWN].name;
}

uint32_t safetensors_dtype_bytes(enum safetensors_dtype dtype)
{
    return dtypes[dtype <= SAFETENSORS_UNKNOWN ? dtype : SAFETENSORS_UNKNOWN].bytes;
}

static enum safetensors_dtype dtype_from_name(const char *name)
{
    enum safetensors_dtype dtype = 0;
    while (dtype < SAFETENSORS_UNKNOWN && strcmp(dtypes[dtype].name, name) != 0)
        dtype++;
    return dtype;
}

// An upper estimate of the parser's memory: 100 MB of "[[],[],..." would otherwise become gigabytes of empty arrays.
static uint64_t json_tree_bytes(const char *text, size_t bytes)
{
    uint64_t containers = 0, commas = 0;
    for (size_t i = 0; i < bytes; i++) {
        containers += text[i] == '[' || text[i] == '{';
        commas += text[i] == ',';
    }
    return 256 * containers + 128 * commas + 2 * (uint64_t)bytes;
}

enum sluice_status safetensors_json_parse(const char *path, const char *what, const char *text, size_t bytes,
                                          json_t **root)
{
    json_error_t error;
    *root = NULL;
    if (json_tree_bytes(text, bytes) > json_tree_bytes_max)
        return error_set(SLUICE_ERR_FORMAT, "%s: the %s has more entries than any list of tensors", path, what);
    *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (*root)
        return SLUICE_OK;
    if (json_error_code(&error) == json_error_out_of_memory)
        return error_set(SLUICE_ERR_MEMORY, "%s: out of memory while parsing the %s of %zu bytes", path, what, bytes);
    return error_set(SLUICE_ERR_FORMAT, "%s: the %s is not valid JSON: %s (byte %d)", path, what, error.text,
                     error.position);
}

static enum sluice_status tensor_bad(const struct safetensors *st, const struct safetensors_tensor *tensor,
                                     const char *name, const char *what)
{
    return error_set(SLUICE_ERR_FORMAT, "%s: tensor '%.200s': %s", st->files[tensor->file].path, name, what);
}

// A number from 0 to 2^63 - 1; anything else is false.
static bool json_read_u64(const json_t *value, uint64_t *number)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *number = (uint64_t)json_integer_value(value);
    return true;
}

// NULL, or what is wrong with the shape.
static const char *shape_read(const json_t *shape, struct safetensors_tensor *tensor)
{
    if (!json_is_array(shape))
        return "it has no shape";
    if (json_array_size(shape) > SAFETENSORS_RANK_MAX)
        return "it has more than 8 dimensions";
    tensor->rank = (uint32_t)json_array_size(shape);
    tensor->elements = 1;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        if (!json_read_u64(json_array_get(shape, i), &tensor->shape[i]))
            return "a dimension is no integer from 0 to 2^63 - 1";
        if (__builtin_mul_overflow(tensor->elements, tensor->shape[i], &tensor->elements))
            return "the product of its shape overflows";
    }
    return NULL;
}

// NULL, or what is wrong with the range of bytes.
static const char *range_read(const json_t *offsets, uint64_t data_offset, uint64_t file_bytes,
                              struct safetensors_tensor *tensor)
{
    uint64_t begin, end, wanted;
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !json_read_u64(json_array_get(offsets, 0), &begin) || !json_read_u64(json_array_get(offsets, 1), &end))
        return "its data_offsets are not two integers";
    if (begin > end || end > file_bytes - data_offset)
        return "its data_offsets reach beyond the file (incomplete download?)";
    tensor->offset = data_offset + begin;
    tensor->bytes = end - begin;
    if (tensor->dtype == SAFETENSORS_UNKNOWN)
        return NULL; // element size not known; such a tensor cannot be read
    if (__builtin_mul_overflow(tensor->elements, (uint64_t)safetensors_dtype_bytes(tensor->dtype), &wanted) ||
        wanted != tensor->bytes)
        return "its data_offsets do not fit its shape and dtype";
    return NULL;
}

static enum sluice_status tensor_add(struct safetensors *st, struct safetensors_tensor *tensor, const char *name)
{
    if (st->tensor_count == st->tensor_capacity) {
        size_t capacity = st->tensor_capacity ? 2 * st->tensor_capacity : 64;
        struct safetensors_tensor *grown = mem_realloc(st->tensors, capacity, sizeof *grown);
        if (!grown)
            return SLUICE_ERR_MEMORY;
        st->tensors = grown;
        st->tensor_capacity = capacity;
    }
    tensor->name = mem_strndup(name, strlen(name));
    if (!tensor->name)
        return SLUICE_ERR_MEMORY;
    st->tensors[st->tensor_count++] = *tensor;
    return SLUICE_OK;
}

static enum sluice_status tensor_read(struct safetensors *st, uint32_t file, uint64_t data_offset, const char *name,
                                      const json_t *entry)
{
    struct safetensors_tensor tensor = {.file = file};
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (name[0] == '\0' || !json_is_object(entry) || !dtype)
        return tensor_bad(st, &tensor, name, "it has no name or no dtype");
    tensor.dtype = dtype_from_name(dtype);
    const char *wrong = shape_read(json_object_get(entry, "shape"), &tensor);
    if (!wrong)
        wrong = range_read(json_object_get(entry, "data_offsets"), data_offset, st->files[file].bytes, &tensor);
    return wrong ? tensor_bad(st, &tensor, name, wrong) : tensor_add(st, &tensor, name);
}

enum sluice_status safetensors_header_add(struct safetensors *st, uint32_t file, uint64_t data_offset,
                                          const json_t *header)
{
    if (!json_is_object(header))
        return error_set(SLUICE_ERR_FORMAT, "%s: the header is not a JSON object", st->files[file].path);
    enum sluice_status status = SLUICE_OK;
    const char *name;
    json_t *entry;
    json_object_foreach((json_t *)(uintptr_t)header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        status = tensor_read(st, file, data_offset, name, entry);
        if (status < 0)
            break;
    }
    return status;
}
