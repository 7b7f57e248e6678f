// The template of Qwen3-Coder-Next: tools and calls in an XML-like spelling.
#include <string.h>

#include "runtime/text/chat_message.h"
#include "runtime/text/json_text.h"
#include "runtime/text/python_text.h"

static const char default_system[] =
    "You are Qwen, a helpful AI assistant that can interact with a computer to solve tasks.";
static const char tools_head[] = "\n\n# Tools\n\nYou have access to the following functions:\n\n<tools>";
static const char tools_tail[] =
    "\n</tools>\n\nIf you choose to call a function ONLY reply in the following format with NO suffix:\n\n"
    "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n"
    "<parameter=example_parameter_2>\nThis is the value for the second parameter\nthat can span\nmultiple lines\n"
    "</parameter>\n</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n"
    "- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested within "
    "<tool_call></tool_call> XML tags\n"
    "- Required parameters MUST be specified\n"
    "- You may provide optional reasoning for your function call in natural language BEFORE the function call, but NOT "
    "after\n"
    "- If there is no function call available, answer the question like normal with your current knowledge and do not "
    "tell the user about function calls\n"
    "</IMPORTANT>";

// ---- tools

// A string as it is, anything else as JSON.
static enum sluice_status put_value(struct chat_prompt *out, const json_t *value)
{
    return json_is_string(value) ? python_str_append(&out->text, value) : python_json_append(&out->text, value);
}

// Text that is not the template's: a key of somebody's object.
static enum sluice_status put_key(struct chat_prompt *out, const char *key)
{
    return text_buffer_append_string(&out->text, key);
}

// "\n<key>str(value)</key>", stripped on request; `key` is the template's.
static enum sluice_status put_tag(struct chat_prompt *out, const char *key, const json_t *value, bool strip)
{
    struct text_buffer text = {0};
    enum sluice_status status;
    TRY(python_str_append(&text, value));
    const char *data = text.data;
    size_t bytes = text.bytes;
    if (strip)
        python_strip(&data, &bytes);
    TRY(CHAT_PUT(out, "\n<", key, ">"));
    TRY(text_buffer_append(&out->text, data, bytes));
    TRY(CHAT_PUT(out, "</", key, ">"));
fail:
    text_buffer_finish(&text);
    return status;
}

static bool is_one_of(const char *key, const char *const *keys)
{
    for (; *keys; keys++)
        if (strcmp(key, *keys) == 0)
            return true;
    return false;
}

// All keys but `handled`, in their order.
static enum sluice_status put_extra_keys(struct chat_prompt *out, json_t *object, const char *const *handled)
{
    enum sluice_status status = SLUICE_OK;
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);
        if (is_one_of(key, handled))
            continue;
        TRY(CHAT_PUT(out, "\n<"));
        TRY(put_key(out, key));
        TRY(CHAT_PUT(out, ">"));
        TRY(put_value(out, json_object_iter_value(at)));
        TRY(CHAT_PUT(out, "</"));
        TRY(put_key(out, key));
        TRY(CHAT_PUT(out, ">"));
    }
fail:
    return status;
}

static enum sluice_status put_parameter(struct chat_prompt *out, const char *name, json_t *fields)
{
    static const char *const handled[] = {"name", "type", "description", NULL};
    const json_t *type = json_object_get(fields, "type"), *description = json_object_get(fields, "description");
    enum sluice_status status;
    TRY(CHAT_PUT(out, "\n<parameter>\n<name>"));
    TRY(put_key(out, name));
    TRY(CHAT_PUT(out, "</name>"));
    if (type)
        TRY(put_tag(out, "type", type, false));
    if (description)
        TRY(put_tag(out, "description", description, true));
    TRY(put_extra_keys(out, fields, handled));
    TRY(CHAT_PUT(out, "\n</parameter>"));
fail:
    return status;
}

static enum sluice_status put_tool(struct chat_prompt *out, json_t *tool)
{
    static const char *const handled[] = {"type", "name", "description", "parameters", NULL};
    static const char *const handled_parameters[] = {"type", "properties", NULL};
    json_t *parameters = json_object_get(tool, "parameters"), *properties = json_object_get(parameters, "properties");
    const json_t *description = json_object_get(tool, "description");
    enum sluice_status status;
    TRY(CHAT_PUT(out, "\n<function>"));
    TRY(put_tag(out, "name", json_object_get(tool, "name"), false));
    if (description)
        TRY(put_tag(out, "description", description, true));
    TRY(CHAT_PUT(out, "\n<parameters>"));
    for (void *at = json_object_iter(properties); at; at = json_object_iter_next(properties, at))
        TRY(put_parameter(out, json_object_iter_key(at), json_object_iter_value(at)));
    TRY(put_extra_keys(out, parameters, handled_parameters));
    TRY(CHAT_PUT(out, "\n</parameters>"));
    TRY(put_extra_keys(out, tool, handled));
    TRY(CHAT_PUT(out, "\n</function>"));
fail:
    return status;
}

static enum sluice_status put_system(struct chat_prompt *out, const struct chat_messages *messages)
{
    const struct chat_message *first = &messages->list[0];
    bool given = first->role == CHAT_SYSTEM;
    if (!given && !messages->tools)
        return SLUICE_OK;
    enum sluice_status status;
    TRY(CHAT_PUT(out, "<|im_start|>system\n"));
    TRY(given ? chat_put_text(out, CHAT_SYSTEM, first->content) : CHAT_PUT(out, default_system));
    if (messages->tools) {
        TRY(CHAT_PUT(out, tools_head));
        for (size_t i = 0; i < json_array_size(messages->tools); i++)
            TRY(put_tool(out, (json_t *)chat_unwrap(json_array_get(messages->tools, i))));
        TRY(CHAT_PUT(out, tools_tail));
    }
    TRY(CHAT_PUT(out, "<|im_end|>\n"));
fail:
    return status;
}

// ---- calls

static enum sluice_status put_arguments(struct chat_prompt *out, json_t *arguments)
{
    enum sluice_status status = SLUICE_OK;
    for (void *at = json_object_iter(arguments); at; at = json_object_iter_next(arguments, at)) {
        TRY(CHAT_PUT(out, "<parameter="));
        size_t start = out->text.bytes;
        TRY(put_key(out, json_object_iter_key(at)));
        TRY(chat_mark_answer(out, start));
        TRY(CHAT_PUT(out, ">\n"));
        start = out->text.bytes;
        TRY(put_value(out, json_object_iter_value(at)));
        TRY(chat_mark_answer(out, start));
        TRY(CHAT_PUT(out, "\n</parameter>\n"));
    }
fail:
    return status;
}

// The arguments as an object: clients send them as a string of JSON. A new reference.
static enum sluice_status read_arguments(json_t *arguments, json_t **object)
{
    *object = NULL;
    if (!arguments || json_is_null(arguments) || (json_is_string(arguments) && json_string_length(arguments) == 0)) {
        *object = json_object();
        return *object ? SLUICE_OK : error_set(SLUICE_ERR_MEMORY, "out of memory");
    }
    if (json_is_string(arguments)) {
        enum sluice_status status = json_text_parse(json_string_value(arguments), json_string_length(arguments),
                                                    "the text of arguments", object);
        if (status < 0)
            return status == SLUICE_ERR_FORMAT ? error_prefix(SLUICE_ERR_ARGUMENT, "tool_calls") : status;
    } else {
        *object = json_incref(arguments);
    }
    if (json_is_object(*object))
        return SLUICE_OK;
    json_decref(*object);
    *object = NULL;
    return error_set(SLUICE_ERR_ARGUMENT, "tool_calls: arguments is not an object");
}

static enum sluice_status put_call(struct chat_prompt *out, const json_t *call)
{
    json_t *arguments;
    enum sluice_status status = read_arguments(json_object_get(call, "arguments"), &arguments);
    if (status < 0)
        return status;
    TRY(CHAT_PUT(out, "\n<tool_call>\n<function="));
    size_t start = out->text.bytes;
    TRY(python_str_append(&out->text, json_object_get(call, "name")));
    TRY(chat_mark_answer(out, start));
    TRY(CHAT_PUT(out, ">\n"));
    TRY(put_arguments(out, arguments));
    TRY(CHAT_PUT(out, "</function>\n</tool_call>"));
fail:
    json_decref(arguments);
    return status;
}

static enum sluice_status put_assistant_with_calls(struct chat_prompt *out, const struct chat_message *message)
{
    struct chat_text text = message->content;
    python_strip(&text.data, &text.bytes);
    enum sluice_status status;
    TRY(CHAT_PUT(out, "<|im_start|>assistant"));
    if (text.bytes > 0) {
        TRY(CHAT_PUT(out, "\n"));
        TRY(chat_put_text(out, CHAT_ASSISTANT, text));
        TRY(CHAT_PUT(out, "\n"));
    }
    for (size_t i = 0; i < json_array_size(message->calls); i++)
        TRY(put_call(out, chat_unwrap(json_array_get(message->calls, i))));
    TRY(CHAT_PUT(out, "<|im_end|>\n"));
fail:
    return status;
}

static enum sluice_status put_message(struct chat_prompt *out, const struct chat_messages *messages, size_t index)
{
    const struct chat_message *message = &messages->list[index];
    if (message->role == CHAT_TOOL)
        return chat_put_tool_response(out, messages, index);
    if (message->calls) {
        enum sluice_status status = put_assistant_with_calls(out, message);
        return status < 0 ? error_prefix(status, "messages[%zu]", index) : status;
    }
    return chat_put_turn(out, message);
}

enum sluice_status chat_render_coder(const struct chat_messages *messages, bool generation_prompt,
                                     struct chat_prompt *out)
{
    enum sluice_status status;
    TRY(put_system(out, messages));
    for (size_t i = messages->list[0].role == CHAT_SYSTEM ? 1 : 0; i < messages->count; i++)
        TRY(put_message(out, messages, i));
    if (generation_prompt)
        TRY(CHAT_PUT(out, "<|im_start|>assistant\n"));
fail:
    return status;
}
