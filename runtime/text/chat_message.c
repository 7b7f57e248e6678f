#include "runtime/text/chat_message.h"

#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/text/snippet.h"

static const char *const role_names[] = {
    [CHAT_SYSTEM] = "system", [CHAT_USER] = "user", [CHAT_ASSISTANT] = "assistant", [CHAT_TOOL] = "tool"};

static struct chat_text text_of(const json_t *string)
{
    return (struct chat_text){json_string_value(string), json_string_length(string)};
}

static enum sluice_status read_role(const json_t *message, size_t index, enum chat_role *role)
{
    struct chat_text text = text_of(json_object_get(message, "role"));
    if (!text.data)
        return error_set(SLUICE_ERR_ARGUMENT, "messages[%zu] is not an object with a \"role\"", index);
    for (size_t i = 0; i < sizeof role_names / sizeof role_names[0]; i++)
        if (strlen(role_names[i]) == text.bytes && memcmp(role_names[i], text.data, text.bytes) == 0) {
            *role = (enum chat_role)i;
            return SLUICE_OK;
        }
    return error_set(SLUICE_ERR_ARGUMENT, "messages[%zu]: the role \"%s\" is not system, user, assistant or tool",
                     index, snippet_of(text.data, text.bytes).text);
}

// The text of one part of a content array, or NULL if it is not text.
static const json_t *part_text(const json_t *part)
{
    if (json_is_string(part))
        return part;
    const json_t *text = json_object_get(part, "text");
    return json_is_string(text) ? text : NULL;
}

static enum sluice_status join_parts(const json_t *parts, size_t index, struct chat_message *message)
{
    struct text_buffer joined = {0};
    enum sluice_status status = SLUICE_OK;
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *text = part_text(json_array_get(parts, i));
        if (!text) {
            status =
                error_set(SLUICE_ERR_ARGUMENT,
                          "messages[%zu].content[%zu] is not text; images and other media are not supported", index, i);
            goto fail;
        }
        TRY(text_buffer_append(&joined, json_string_value(text), json_string_length(text)));
    }
    TRY(text_buffer_take(&joined, &message->joined, &message->content.bytes));
    message->content.data = message->joined;
fail:
    text_buffer_finish(&joined);
    return status;
}

static enum sluice_status read_content(const json_t *content, size_t index, struct chat_message *message)
{
    if (!content || json_is_null(content)) {
        message->content = (struct chat_text){"", 0};
        return SLUICE_OK;
    }
    if (json_is_array(content))
        return join_parts(content, index, message);
    if (!json_is_string(content))
        return error_set(SLUICE_ERR_ARGUMENT, "messages[%zu].content is not a string, null or a list of parts", index);
    message->content = text_of(content);
    return SLUICE_OK;
}

const json_t *chat_unwrap(const json_t *wrapped)
{
    const json_t *function = json_object_get(wrapped, "function");
    return json_is_object(function) ? function : wrapped;
}

static enum sluice_status read_calls(const json_t *calls, size_t index, struct chat_message *message)
{
    if (!calls || json_is_null(calls))
        return SLUICE_OK;
    if (!json_is_array(calls))
        return error_set(SLUICE_ERR_ARGUMENT, "messages[%zu].tool_calls is not a list", index);
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *call = chat_unwrap(json_array_get(calls, i));
        if (!json_is_string(json_object_get(call, "name")))
            return error_set(SLUICE_ERR_ARGUMENT, "messages[%zu].tool_calls[%zu] has no function name", index, i);
    }
    message->calls = json_array_size(calls) > 0 ? calls : NULL;
    return SLUICE_OK;
}

static enum sluice_status read_message(const json_t *json, size_t index, struct chat_message *message)
{
    enum sluice_status status;
    TRY(read_role(json, index, &message->role));
    TRY(read_content(json_object_get(json, "content"), index, message));
    if (message->role == CHAT_ASSISTANT) {
        message->reasoning = text_of(json_object_get(json, "reasoning_content"));
        TRY(read_calls(json_object_get(json, "tool_calls"), index, message));
    }
fail:
    return status;
}

static enum sluice_status read_tools(const json_t *tools, struct chat_messages *result)
{
    if (!tools || json_is_null(tools))
        return SLUICE_OK;
    if (!json_is_array(tools))
        return error_set(SLUICE_ERR_ARGUMENT, "tools is not a list");
    for (size_t i = 0; i < json_array_size(tools); i++)
        if (!json_is_string(json_object_get(chat_unwrap(json_array_get(tools, i)), "name")))
            return error_set(SLUICE_ERR_ARGUMENT, "tools[%zu] has no function name", i);
    result->tools = json_array_size(tools) > 0 ? tools : NULL;
    return SLUICE_OK;
}

enum sluice_status chat_messages_read(const json_t *messages, const json_t *tools, struct chat_messages *result)
{
    *result = (struct chat_messages){0};
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return error_set(SLUICE_ERR_ARGUMENT, "messages is not a list of at least one message");
    size_t count = json_array_size(messages);
    result->list = mem_alloc(count, sizeof *result->list);
    if (!result->list)
        return SLUICE_ERR_MEMORY;
    result->count = count;
    enum sluice_status status;
    TRY(read_tools(tools, result));
    for (size_t i = 0; i < count; i++)
        TRY(read_message(json_array_get(messages, i), i, &result->list[i]));
    return SLUICE_OK;
fail:
    chat_messages_finish(result);
    return status;
}

void chat_messages_finish(struct chat_messages *messages)
{
    for (size_t i = 0; i < messages->count; i++)
        mem_free(messages->list[i].joined);
    mem_free(messages->list);
    *messages = (struct chat_messages){0};
}

enum sluice_status chat_put_strings(struct chat_prompt *out, const char *const *strings)
{
    size_t start = out->text.bytes;
    enum sluice_status status = SLUICE_OK;
    for (; *strings; strings++)
        TRY(text_buffer_append_string(&out->text, *strings));
    TRY(control_spans_add(&out->controls, start, out->text.bytes, CONTROL_ALL));
fail:
    return status;
}

enum sluice_status chat_put_text(struct chat_prompt *out, enum chat_role role, struct chat_text text)
{
    size_t start = out->text.bytes;
    enum sluice_status status = text_buffer_append(&out->text, text.data, text.bytes);
    return status == SLUICE_OK && role == CHAT_ASSISTANT ? chat_mark_answer(out, start) : status;
}

enum sluice_status chat_mark_answer(struct chat_prompt *out, size_t start)
{
    return control_spans_add(&out->controls, start, out->text.bytes, CONTROL_TAGS);
}

enum sluice_status chat_put_turn(struct chat_prompt *out, const struct chat_message *message)
{
    enum sluice_status status;
    TRY(CHAT_PUT(out, "<|im_start|>", role_names[message->role], "\n"));
    TRY(chat_put_text(out, message->role, message->content));
    TRY(CHAT_PUT(out, "<|im_end|>\n"));
fail:
    return status;
}

static bool is_tool(const struct chat_messages *messages, size_t index)
{
    return index < messages->count && messages->list[index].role == CHAT_TOOL;
}

// Answers in a row share one turn of the user.
enum sluice_status chat_put_tool_response(struct chat_prompt *out, const struct chat_messages *messages, size_t index)
{
    enum sluice_status status;
    if (index == 0 || !is_tool(messages, index - 1))
        TRY(CHAT_PUT(out, "<|im_start|>user"));
    TRY(CHAT_PUT(out, "\n<tool_response>\n"));
    TRY(chat_put_text(out, CHAT_TOOL, messages->list[index].content));
    TRY(CHAT_PUT(out, "\n</tool_response>"));
    if (!is_tool(messages, index + 1))
        TRY(CHAT_PUT(out, "<|im_end|>\n"));
fail:
    return status;
}
