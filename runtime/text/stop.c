#include "runtime/text/stop.h"

#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/text/text_buffer.h"

// One stop string with its Knuth-Morris-Pratt table.
struct stop_string {
    char *text;
    size_t bytes;
    size_t *fallback; // [bytes] length of the longest proper prefix of text[0..i] that ends there
    size_t matched;   // how much of it the text so far ends with
};

struct stop {
    struct stop_string *strings; // [string_count]
    size_t string_count;
    int32_t *ids; // [id_count]
    size_t id_count;
    struct text_buffer text; // what was emitted by the last call, then what is held back
    size_t emitted;
    bool found;
};

static void fill_fallback(struct stop_string *string)
{
    size_t matched = 0;
    for (size_t i = 1; i < string->bytes; i++) {
        while (matched > 0 && string->text[i] != string->text[matched])
            matched = string->fallback[matched - 1];
        if (string->text[i] == string->text[matched])
            matched++;
        string->fallback[i] = matched;
    }
}

static enum sluice_status add_string(struct stop_string *string, const char *text)
{
    string->bytes = strlen(text);
    if (string->bytes == 0)
        return error_set(SLUICE_ERR_ARGUMENT, "a stop string is empty");
    string->text = mem_strndup(text, string->bytes);
    string->fallback = mem_alloc(string->bytes, sizeof *string->fallback);
    if (!string->text || !string->fallback)
        return SLUICE_ERR_MEMORY;
    fill_fallback(string);
    return SLUICE_OK;
}

enum sluice_status stop_create(const char *const *strings, size_t string_count, const int32_t *ids, size_t id_count,
                               struct stop **stop)
{
    *stop = NULL;
    enum sluice_status status = SLUICE_ERR_MEMORY;
    struct stop *made = mem_alloc(1, sizeof *made);
    if (!made)
        return SLUICE_ERR_MEMORY;
    made->strings = mem_alloc(string_count, sizeof *made->strings);
    made->ids = mem_alloc(id_count, sizeof *made->ids);
    if (!made->strings || !made->ids)
        goto fail;
    made->string_count = string_count;
    made->id_count = id_count;
    if (id_count > 0)
        memcpy(made->ids, ids, id_count * sizeof *ids);
    for (size_t i = 0; i < string_count; i++)
        TRY(add_string(&made->strings[i], strings[i]));
    *stop = made;
    return SLUICE_OK;
fail:
    stop_destroy(made);
    return status;
}

void stop_destroy(struct stop *stop)
{
    if (!stop)
        return;
    for (size_t i = 0; i < stop->string_count; i++) {
        mem_free(stop->strings[i].text);
        mem_free(stop->strings[i].fallback);
    }
    mem_free(stop->strings);
    mem_free(stop->ids);
    text_buffer_finish(&stop->text);
    mem_free(stop);
}

bool stop_is_id(const struct stop *stop, int32_t id)
{
    for (size_t i = 0; i < stop->id_count; i++)
        if (stop->ids[i] == id)
            return true;
    return false;
}

// Takes one byte; true if the string ends here.
static bool advance(struct stop_string *string, char byte)
{
    if (string->matched == string->bytes)
        string->matched = string->fallback[string->matched - 1];
    while (string->matched > 0 && string->text[string->matched] != byte)
        string->matched = string->fallback[string->matched - 1];
    if (string->text[string->matched] == byte)
        string->matched++;
    return string->matched == string->bytes;
}

// The longest of the stop strings that end with this byte, or -1.
static int advance_all(struct stop *stop, char byte)
{
    int found = -1;
    for (size_t i = 0; i < stop->string_count; i++)
        if (advance(&stop->strings[i], byte) && (found < 0 || stop->strings[i].bytes > stop->strings[found].bytes))
            found = (int)i;
    return found;
}

static size_t held_bytes(const struct stop *stop)
{
    size_t held = 0;
    for (size_t i = 0; i < stop->string_count; i++)
        if (stop->strings[i].matched > held)
            held = stop->strings[i].matched;
    return held;
}

static void drop_emitted(struct stop *stop)
{
    if (stop->emitted == 0)
        return;
    stop->text.bytes -= stop->emitted;
    memmove(stop->text.data, stop->text.data + stop->emitted, stop->text.bytes);
    stop->emitted = 0;
}

enum sluice_status stop_push(struct stop *stop, const char *text, size_t bytes, const char **out, size_t *out_bytes,
                             int *found)
{
    *out = "";
    *out_bytes = 0;
    *found = -1;
    drop_emitted(stop);
    if (stop->found)
        return SLUICE_OK;
    size_t before = stop->text.bytes;
    if (text_buffer_append(&stop->text, text, bytes) < 0)
        return SLUICE_ERR_MEMORY;
    *out = stop->text.data ? stop->text.data : "";
    for (size_t i = before; i < stop->text.bytes; i++) {
        *found = advance_all(stop, stop->text.data[i]);
        if (*found >= 0) {
            stop->found = true;
            *out_bytes = i + 1 - stop->strings[*found].bytes;
            stop->emitted = stop->text.bytes;
            return SLUICE_OK;
        }
    }
    *out_bytes = stop->emitted = stop->text.bytes - held_bytes(stop);
    return SLUICE_OK;
}

void stop_finish(struct stop *stop, const char **out, size_t *out_bytes)
{
    drop_emitted(stop);
    *out = stop->text.data ? stop->text.data : "";
    *out_bytes = stop->text.bytes;
    stop->text.bytes = 0;
    stop->found = false;
    for (size_t i = 0; i < stop->string_count; i++)
        stop->strings[i].matched = 0;
}
