#include "runtime/text/json_text.h"

#include <stdbool.h>
#include <string.h>

#include "runtime/text/snippet.h"

// jansson leaves the text empty in most places where it runs out of memory.
static bool is_out_of_memory(const json_error_t *error)
{
    return json_error_code(error) == json_error_out_of_memory || error->text[0] == '\0';
}

enum sluice_status json_text_parse(const char *text, size_t bytes, const char *what, json_t **json)
{
    json_error_t error;
    *json = json_loadb(text, bytes, JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
    if (*json)
        return SLUICE_OK;
    if (is_out_of_memory(&error))
        return error_set(SLUICE_ERR_MEMORY, "out of memory while reading %s (%zu bytes)", what, bytes);
    return error_set(SLUICE_ERR_FORMAT, "%s is not valid JSON: %s (line %d, column %d)", what,
                     snippet_of(error.text, strlen(error.text)).text, error.line, error.column);
}

enum sluice_status json_text_try(const char *text, size_t bytes, size_t flags, json_t **json, size_t *used)
{
    json_error_t error;
    *json = json_loadb(text, bytes, JSON_ALLOW_NUL | flags, &error);
    if (*json && used)
        *used = (size_t)error.position;
    if (!*json && is_out_of_memory(&error))
        return error_set(SLUICE_ERR_MEMORY, "out of memory while reading %zu bytes of JSON", bytes);
    return SLUICE_OK;
}

json_t *json_from_ids(const int32_t *ids, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; array && i < count; i++)
        if (json_array_append_new(array, json_integer(ids[i])) < 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}
