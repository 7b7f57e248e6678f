#include "runtime/text/toolcall.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/text/chat_message.h"
#include "runtime/text/json_text.h"
#include "runtime/text/text_buffer.h"
#include "runtime/text/toolcall_private.h"

static const struct {
    const char *text;
    size_t bytes;
} marks[MARK_COUNT] = {
#define MARK(text)            \
    {                         \
        text, sizeof text - 1 \
    }
    [MARK_OPEN] = MARK("<tool_call>"),
    [MARK_CLOSE] = MARK("</tool_call>"),
    [MARK_FUNCTION] = MARK("<function="),
    [MARK_PARAMETER] = MARK("<parameter="),
    [MARK_NEXT_PARAMETER] = MARK("\n<parameter="),
    [MARK_PARAMETER_CLOSE] = MARK("</parameter>"),
    [MARK_FUNCTION_CLOSE] = MARK("</function>"),
#undef MARK
};

bool toolcall_starts_with(struct toolcall_cursor at, enum toolcall_mark mark)
{
    return (size_t)(at.end - at.text) >= marks[mark].bytes && memcmp(at.text, marks[mark].text, marks[mark].bytes) == 0;
}

const char *toolcall_find(struct toolcall_cursor at, enum toolcall_mark mark)
{
    struct toolcall_memo *memo = at.memo;
    if (!memo->from[mark] || at.text < memo->from[mark] || at.text > memo->found[mark]) {
        const char *found = memmem(at.text, (size_t)(memo->end - at.text), marks[mark].text, marks[mark].bytes);
        memo->from[mark] = at.text;
        memo->found[mark] = found ? found : memo->end;
    }
    return memo->found[mark] < at.end ? memo->found[mark] : at.end;
}

void toolcall_skip_space(struct toolcall_cursor *at)
{
    while (at->text < at->end && (*at->text == ' ' || (*at->text >= '\t' && *at->text <= '\r')))
        at->text++;
}

bool toolcall_skip(struct toolcall_cursor *at, enum toolcall_mark mark)
{
    if (!toolcall_starts_with(*at, mark))
        return false;
    at->text += marks[mark].bytes;
    return true;
}

enum sluice_status toolcall_add(json_t *calls, const char *name, size_t name_bytes, json_t *arguments)
{
    json_t *call = json_pack("{s:s%, s:O}", "name", name, name_bytes, "arguments", arguments);
    if (!call || json_array_append_new(calls, call) < 0)
        return error_set(SLUICE_ERR_MEMORY, "out of memory while reading a tool call");
    return SLUICE_OK;
}

// ---- the JSON spelling

// The arguments of a call as an object: a new reference, NULL if they are something else.
static enum sluice_status arguments_of(const json_t *call, json_t **object)
{
    json_t *arguments = json_object_get(call, "arguments");
    enum sluice_status status = SLUICE_OK;
    *object = NULL;
    if (!arguments)
        arguments = json_object_get(call, "parameters");
    if (!arguments || json_is_null(arguments)) {
        *object = json_object();
        return *object ? SLUICE_OK : error_set(SLUICE_ERR_MEMORY, "out of memory while reading a tool call");
    }
    if (json_is_string(arguments))
        status = json_text_try(json_string_value(arguments), json_string_length(arguments), 0, object, NULL);
    else
        *object = json_incref(arguments);
    if (*object && !json_is_object(*object)) {
        json_decref(*object);
        *object = NULL;
    }
    return status;
}

// Copies JSON in which a model forgot to escape line breaks in strings or to close brackets before </tool_call>.
static enum sluice_status repair(const char *text, size_t bytes, bool closed, struct text_buffer *out)
{
    enum { DEPTH_MAX = 64 };
    char closers[DEPTH_MAX];
    size_t depth = 0;
    bool in_string = false;
    enum sluice_status status = SLUICE_OK;
    for (size_t i = 0; i < bytes; i++) {
        char byte = text[i];
        if (in_string && byte == '\\' && i + 1 < bytes) {
            TRY(text_buffer_append(out, text + i++, 2));
            continue;
        }
        if (in_string && (unsigned char)byte < 0x20) {
            TRY(text_buffer_append_string(out, byte == '\n'   ? "\\n"
                                               : byte == '\t' ? "\\t"
                                               : byte == '\r' ? "\\r"
                                                              : " "));
            continue;
        }
        in_string ^= byte == '"';
        if (!in_string && (byte == '{' || byte == '[') && depth < DEPTH_MAX)
            closers[depth++] = byte == '{' ? '}' : ']';
        else if (!in_string && (byte == '}' || byte == ']') && depth > 0)
            depth--;
        TRY(text_buffer_append(out, &byte, 1));
    }
    while (closed && !in_string && depth > 0)
        TRY(text_buffer_append(out, &closers[--depth], 1));
fail:
    return status;
}

// Parses one JSON value at the cursor and moves behind it. *value is NULL if there is none.
static enum sluice_status read_json(struct toolcall_cursor *at, json_t **value)
{
    size_t used;
    enum sluice_status status =
        json_text_try(at->text, (size_t)(at->end - at->text), JSON_DISABLE_EOF_CHECK, value, &used);
    if (status < 0)
        return status;
    if (*value) {
        at->text += used;
        return SLUICE_OK;
    }
    const char *close = toolcall_find(*at, MARK_CLOSE), *open = toolcall_find(*at, MARK_OPEN);
    const char *end = close < open ? close : open;
    struct text_buffer repaired = {0};
    TRY(repair(at->text, (size_t)(end - at->text), close < open, &repaired));
    if (repaired.bytes > 0)
        TRY(json_text_try(repaired.data, repaired.bytes, 0, value, NULL));
    if (*value)
        at->text = end;
fail:
    text_buffer_finish(&repaired);
    return status;
}

// Reads {"name": ..., "arguments": ...} at the cursor; *read tells whether it was one.
static enum sluice_status read_json_call(struct toolcall_cursor *at, json_t *calls, bool *read)
{
    struct toolcall_cursor after = *at;
    json_t *call = NULL, *arguments = NULL;
    enum sluice_status status;
    TRY(read_json(&after, &call));
    const json_t *name = json_object_get(call, "name");
    if (json_string_length(name) > 0)
        TRY(arguments_of(call, &arguments));
    *read = arguments != NULL;
    if (*read) {
        TRY(toolcall_add(calls, json_string_value(name), json_string_length(name), arguments));
        *at = after;
    }
fail:
    json_decref(arguments);
    json_decref(call);
    return status;
}

// ---- blocks

// Closing brackets that are too many, white space, and the closing tag.
static void skip_close(struct toolcall_cursor *at)
{
    struct toolcall_cursor after = *at;
    while (after.text < after.end && strchr(" \t\r\n}]", *after.text) && *after.text)
        after.text++;
    if (toolcall_skip(&after, MARK_CLOSE)) {
        *at = after;
        return;
    }
    after = *at;
    toolcall_skip_space(&after);
    if (after.text == after.end || toolcall_starts_with(after, MARK_OPEN))
        *at = after;
}

// Reads one call of a block; *read tells whether there was one. The cursor moves past what was looked at either way.
static enum sluice_status read_call(struct toolcall_cursor *at, bool opened, const json_t *tools, json_t *calls,
                                    bool *read)
{
    *read = false;
    toolcall_skip_space(at);
    if (toolcall_starts_with(*at, MARK_FUNCTION))
        return toolcall_read_xml(at, tools, calls, read);
    if (opened && at->text < at->end && *at->text == '{')
        return read_json_call(at, calls, read);
    return SLUICE_OK;
}

// Reads the calls of one block at the cursor, which is at <tool_call> or <function=; *read: at least one. If there is
// none, the cursor moves past what was looked at: a later block does not begin there, so no part of the text is looked
// at twice.
static enum sluice_status read_block(struct toolcall_cursor *at, const json_t *tools, json_t *calls, bool *read)
{
    struct toolcall_cursor next = *at, last;
    bool opened = toolcall_skip(&next, MARK_OPEN), more;
    *read = false;
    do {
        last = next;
        enum sluice_status status = read_call(&next, opened, tools, calls, &more);
        if (status < 0)
            return status;
        *read = *read || more;
    } while (more);
    if (*read)
        skip_close(&last);
    *at = *read ? last : next;
    return SLUICE_OK;
}

// Where the next block may begin, or the end.
static const char *next_block(struct toolcall_cursor at)
{
    const char *open = toolcall_find(at, MARK_OPEN), *function = toolcall_find(at, MARK_FUNCTION);
    return function < open ? function : open;
}

static enum sluice_status read_all(struct toolcall_cursor at, const json_t *tools, struct text_buffer *content,
                                   json_t *calls)
{
    enum sluice_status status = SLUICE_OK;
    while (at.text < at.end) {
        const char *block = next_block(at);
        TRY(text_buffer_append(content, at.text, (size_t)(block - at.text)));
        at.text = block;
        if (block == at.end)
            break;
        bool read;
        TRY(read_block(&at, tools, calls, &read));
        if (!read) // not a call, so it is text
            TRY(text_buffer_append(content, block, (size_t)(at.text - block)));
    }
fail:
    return status;
}

static void trim_end(struct text_buffer *text)
{
    while (text->bytes > 0 && strchr(" \t\r\n", text->data[text->bytes - 1]) && text->data[text->bytes - 1])
        text->bytes--;
}

enum sluice_status toolcall_parse(const char *text, size_t bytes, const json_t *tools, char **content,
                                  size_t *content_bytes, json_t **calls)
{
    struct text_buffer valid = {0}, outside = {0};
    enum sluice_status status = SLUICE_ERR_MEMORY;
    *content = NULL;
    *content_bytes = 0;
    *calls = json_array();
    if (!*calls) {
        error_set(SLUICE_ERR_MEMORY, "out of memory while reading tool calls");
        goto fail;
    }
    TRY(text_buffer_reserve(&valid, bytes));
    TRY(text_buffer_append_repaired(&valid, (const uint8_t *)text, bytes));
    struct toolcall_memo memo = {.end = valid.data + valid.bytes};
    TRY(read_all((struct toolcall_cursor){valid.data, memo.end, &memo}, tools, &outside, *calls));
    if (json_array_size(*calls) > 0)
        trim_end(&outside);
    TRY(text_buffer_take(&outside, content, content_bytes));
fail:
    text_buffer_finish(&valid);
    text_buffer_finish(&outside);
    if (status < 0) {
        json_decref(*calls);
        *calls = NULL;
    }
    return status;
}
