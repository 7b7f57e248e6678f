#include "tools/ids_load.h"

#include <jansson.h>

#include "runtime/base/mem.h"
#include "tools/document_load.h"
#include "tools/text_load.h"

static enum sluice_status take_ids(const char *path, const json_t *array, int32_t *ids)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *id = json_array_get(array, i);
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value > INT32_MAX)
            return error_set(SLUICE_ERR_FORMAT, "%s: element %zu is not a token id", path, i);
        ids[i] = (int32_t)value;
    }
    return SLUICE_OK;
}

enum sluice_status ids_load_json(const char *path, int32_t **ids, size_t *count)
{
    enum sluice_status status;
    json_error_t error;
    char *text;
    size_t bytes;
    *ids = NULL;
    status = document_load(path, &text, &bytes);
    if (status < 0)
        return status;
    json_t *root = json_loadb(text, bytes, 0, &error);
    mem_free(text);
    if (!root)
        return error_set(SLUICE_ERR_FORMAT, "%s: line %d: %s", path, error.line, error.text);
    const json_t *array = json_is_object(root) ? json_object_get(root, "ids") : root;
    *count = json_array_size(array);
    if (*count == 0)
        status = error_set(SLUICE_ERR_FORMAT, "%s: not an array of token ids", path);
    else if (!(*ids = mem_alloc(*count, sizeof **ids)))
        status = SLUICE_ERR_MEMORY;
    else
        status = take_ids(path, array, *ids);
    json_decref(root);
    if (status < 0) {
        mem_free(*ids);
        *ids = NULL;
    }
    return status;
}

enum sluice_status ids_load_text(const char *path, const char *model_path, int32_t **ids, size_t *count)
{
    enum sluice_status status;
    struct text_bundle text = {0};
    char *document = NULL;
    size_t bytes;
    *ids = NULL;
    TRY(document_load(path, &document, &bytes));
    TRY(text_load(model_path, &text));
    TRY(tokenizer_encode(text.tokenizer, document, bytes, true, ids, count));
fail:
    text_bundle_finish(&text);
    mem_free(document);
    return status;
}
