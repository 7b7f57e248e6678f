// The XML-like spelling: <function=f><parameter=x>value</parameter></function>.
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/text/chat_message.h"
#include "runtime/text/json_text.h"
#include "runtime/text/python_text.h"
#include "runtime/text/toolcall_private.h"

static enum sluice_status no_memory(void)
{
    return error_set(SLUICE_ERR_MEMORY, "out of memory while reading a tool call");
}

// ---- declared types

// "properties" of the tool `name`, or NULL.
static const json_t *properties_of(const json_t *tools, const char *name)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *tool = chat_unwrap(json_array_get(tools, i));
        const char *other = json_string_value(json_object_get(tool, "name"));
        if (other && strcmp(other, name) == 0)
            return json_object_get(json_object_get(tool, "parameters"), "properties");
    }
    return NULL;
}

// The text of a parameter.
struct toolcall_value {
    const char *text;
    size_t bytes;
};

struct declared {
    bool string, null, other;
};

static void note_type(const json_t *type, struct declared *declared)
{
    const char *name = json_string_value(type);
    if (!name)
        return;
    if (strcmp(name, "string") == 0)
        declared->string = true;
    else if (strcmp(name, "null") == 0)
        declared->null = true;
    else
        declared->other = true;
}

// The types that a parameter's schema allows: "type" as a string or a list, or those of "anyOf" and "oneOf".
static struct declared declared_types(const json_t *schema)
{
    static const char *const unions[] = {"anyOf", "oneOf"};
    struct declared declared = {0};
    const json_t *type = json_object_get(schema, "type");
    note_type(type, &declared);
    for (size_t i = 0; i < json_array_size(type); i++)
        note_type(json_array_get(type, i), &declared);
    for (size_t u = 0; u < 2; u++) {
        const json_t *options = json_object_get(schema, unions[u]);
        for (size_t i = 0; i < json_array_size(options); i++)
            note_type(json_object_get(json_array_get(options, i), "type"), &declared);
    }
    return declared;
}

static bool is_word(struct toolcall_value value, const char *word)
{
    return value.bytes == strlen(word) && memcmp(value.text, word, value.bytes) == 0;
}

// JSON, or Python's words for its constants. NULL if it is neither.
static enum sluice_status parse_value(struct toolcall_value value, json_t **json)
{
    *json = is_word(value, "True") ? json_true() : is_word(value, "False") ? json_false() : NULL;
    if (!*json && is_word(value, "None"))
        *json = json_null();
    return *json ? SLUICE_OK : json_text_try(value.text, value.bytes, JSON_DECODE_ANY, json, NULL);
}

// What the declared type makes of the text: a new reference.
static enum sluice_status convert(const json_t *schema, struct toolcall_value value, json_t **json)
{
    struct declared declared = declared_types(schema);
    struct toolcall_value stripped = value;
    python_strip(&stripped.text, &stripped.bytes);
    *json = NULL;
    if (declared.null && (is_word(stripped, "null") || is_word(stripped, "None")))
        *json = json_null();
    else if (declared.other && !declared.string && parse_value(stripped, json) < 0)
        return SLUICE_ERR_MEMORY;
    if (!*json)
        *json = json_stringn(value.text, value.bytes);
    return *json ? SLUICE_OK : no_memory();
}

// ---- text

// "NAME>" at the cursor, without quotation marks around NAME.
static bool read_name(struct toolcall_cursor *at, const char **name, size_t *bytes)
{
    const char *end = at->text;
    while (end < at->end && *end != '>' && *end != '\n' && *end != '<')
        end++;
    if (end == at->end || *end != '>')
        return false;
    *name = at->text;
    *bytes = (size_t)(end - at->text);
    at->text = end + 1;
    python_strip(name, bytes);
    if (*bytes >= 2 && (**name == '"' || **name == '\'') && (*name)[*bytes - 1] == **name) {
        (*name)++;
        *bytes -= 2;
    }
    return *bytes > 0 && !memchr(*name, '\0', *bytes);
}

// Where the value at the cursor ends, and behind its closing tag. It normally ends at </parameter>, and may contain
// anything else: code with </function> in it, say. If the tag was forgotten, the next tag of the outer structure ends
// it. `at.end`: the answer was cut off within the value.
static const char *value_end(struct toolcall_cursor at, const char **after)
{
    struct toolcall_cursor closing = at;
    const char *closed = toolcall_find(at, MARK_PARAMETER_CLOSE), *next = toolcall_find(at, MARK_NEXT_PARAMETER);
    if (closed < next) {
        closing.text = closed;
        toolcall_skip(&closing, MARK_PARAMETER_CLOSE);
        *after = closing.text;
        return closed;
    }
    const char *function = toolcall_find(at, MARK_FUNCTION_CLOSE), *call = toolcall_find(at, MARK_CLOSE);
    const char *outer = function < call ? function : call;
    *after = outer < next || next == at.end ? outer : next + 1;
    return *after;
}

static enum sluice_status put_argument(json_t *arguments, const json_t *properties, const char *name, size_t name_bytes,
                                       struct toolcall_value value)
{
    if (value.bytes > 0 && value.text[0] == '\n') {
        value.text++;
        value.bytes--;
    }
    if (value.bytes > 0 && value.text[value.bytes - 1] == '\n')
        value.bytes--;
    json_t *json;
    enum sluice_status status;
    char *key = mem_strndup(name, name_bytes);
    if (!key)
        return SLUICE_ERR_MEMORY;
    TRY(convert(json_object_get(properties, key), value, &json));
    TRY(json_object_set_new(arguments, key, json) < 0 ? no_memory() : SLUICE_OK);
fail:
    mem_free(key);
    return status;
}

// Reads <parameter=...> elements up to the function's end. *read: false if the text ends within a value or goes on with
// something else.
static enum sluice_status read_parameters(struct toolcall_cursor *at, const json_t *properties, json_t *arguments,
                                          bool *read)
{
    *read = false;
    for (;;) {
        const char *name, *end, *after;
        size_t name_bytes;
        toolcall_skip_space(at);
        if (!toolcall_skip(at, MARK_PARAMETER))
            break;
        if (!read_name(at, &name, &name_bytes))
            return SLUICE_OK;
        end = value_end(*at, &after);
        if (end == at->end) {
            at->text = at->end;
            return SLUICE_OK;
        }
        struct toolcall_value value = {at->text, (size_t)(end - at->text)};
        enum sluice_status status = put_argument(arguments, properties, name, name_bytes, value);
        if (status < 0)
            return status;
        at->text = after;
    }
    bool closed = toolcall_skip(at, MARK_FUNCTION_CLOSE) || toolcall_starts_with(*at, MARK_CLOSE);
    *read = closed || (json_object_size(arguments) > 0 && at->text == at->end);
    return SLUICE_OK;
}

enum sluice_status toolcall_read_xml(struct toolcall_cursor *at, const json_t *tools, json_t *calls, bool *read)
{
    const char *name;
    size_t name_bytes;
    *read = false;
    toolcall_skip(at, MARK_FUNCTION);
    if (!read_name(at, &name, &name_bytes))
        return SLUICE_OK;
    char *function = mem_strndup(name, name_bytes);
    json_t *arguments = json_object();
    enum sluice_status status = function && arguments ? SLUICE_OK : no_memory();
    if (status == SLUICE_OK)
        TRY(read_parameters(at, properties_of(tools, function), arguments, read));
    if (*read)
        TRY(toolcall_add(calls, name, name_bytes, arguments));
fail:
    mem_free(function);
    json_decref(arguments);
    return status;
}
