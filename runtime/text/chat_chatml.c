// The Instruct and Thinking templates. They differ in what becomes of thoughts and in the generation prompt.
#include <string.h>

#include "runtime/text/chat_message.h"
#include "runtime/text/python_text.h"

static const char tools_head[] = "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
                                 "You are provided with function signatures within <tools></tools> XML tags:\n<tools>";
static const char tools_tail[] =
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n"
    "</tool_call><|im_end|>\n";

// ---- text

static struct chat_text strip_newlines(struct chat_text text, bool left, bool right)
{
    while (left && text.bytes > 0 && text.data[0] == '\n') {
        text.data++;
        text.bytes--;
    }
    while (right && text.bytes > 0 && text.data[text.bytes - 1] == '\n')
        text.bytes--;
    return text;
}

// Where `mark` begins in `text`, the last time if `last`; NULL if it does not occur.
static const char *find(struct chat_text text, const char *mark, bool last)
{
    size_t length = strlen(mark);
    const char *found = NULL, *from = text.data;
    const char *end = text.data + text.bytes;
    while ((from = memmem(from, (size_t)(end - from), mark, length)) != NULL) {
        found = from;
        if (!last)
            break;
        from += length;
    }
    return found;
}

// content = "<think>thoughts</think>answer" as clients without reasoning_content send it back.
static void split_thoughts(struct chat_text *content, struct chat_text *reasoning)
{
    const char *end = content->data + content->bytes;
    const char *first = find(*content, "</think>", false);
    if (!first)
        return;
    const char *last = find(*content, "</think>", true) + strlen("</think>");
    *reasoning = strip_newlines((struct chat_text){content->data, (size_t)(first - content->data)}, false, true);
    const char *begin = find(*reasoning, "<think>", true);
    if (begin) {
        begin += strlen("<think>");
        reasoning->bytes -= (size_t)(begin - reasoning->data);
        reasoning->data = begin;
    }
    *reasoning = strip_newlines(*reasoning, true, false);
    *content = strip_newlines((struct chat_text){last, (size_t)(end - last)}, true, false);
}

// ---- parts of the prompt

static enum sluice_status put_system(struct chat_prompt *out, const struct chat_messages *messages)
{
    const struct chat_message *first = &messages->list[0];
    enum sluice_status status = SLUICE_OK;
    if (!messages->tools)
        return first->role == CHAT_SYSTEM ? chat_put_turn(out, first) : SLUICE_OK;
    TRY(CHAT_PUT(out, "<|im_start|>system\n"));
    if (first->role == CHAT_SYSTEM) {
        TRY(chat_put_text(out, CHAT_SYSTEM, first->content));
        TRY(CHAT_PUT(out, "\n\n"));
    }
    TRY(CHAT_PUT(out, tools_head));
    for (size_t i = 0; i < json_array_size(messages->tools); i++) {
        TRY(CHAT_PUT(out, "\n"));
        TRY(python_json_append(&out->text, json_array_get(messages->tools, i)));
    }
    TRY(CHAT_PUT(out, tools_tail));
fail:
    return status;
}

static enum sluice_status put_arguments(struct chat_prompt *out, const json_t *arguments)
{
    if (!arguments)
        return text_buffer_append_string(&out->text, "{}");
    return json_is_string(arguments) ? python_str_append(&out->text, arguments)
                                     : python_json_append(&out->text, arguments);
}

static enum sluice_status put_call(struct chat_prompt *out, const json_t *call)
{
    enum sluice_status status;
    TRY(CHAT_PUT(out, "<tool_call>\n{\"name\": \""));
    size_t start = out->text.bytes;
    TRY(python_str_append(&out->text, json_object_get(call, "name")));
    TRY(chat_mark_answer(out, start));
    TRY(CHAT_PUT(out, "\", \"arguments\": "));
    start = out->text.bytes;
    TRY(put_arguments(out, json_object_get(call, "arguments")));
    TRY(chat_mark_answer(out, start));
    TRY(CHAT_PUT(out, "}\n</tool_call>"));
fail:
    return status;
}

static enum sluice_status put_calls(struct chat_prompt *out, const json_t *calls, bool after_text)
{
    enum sluice_status status = SLUICE_OK;
    for (size_t i = 0; i < json_array_size(calls); i++) {
        if (i > 0 || after_text)
            TRY(CHAT_PUT(out, "\n"));
        TRY(put_call(out, chat_unwrap(json_array_get(calls, i))));
    }
fail:
    return status;
}

static enum sluice_status put_thoughts(struct chat_prompt *out, struct chat_text reasoning)
{
    enum sluice_status status;
    TRY(CHAT_PUT(out, "<think>\n"));
    TRY(chat_put_text(out, CHAT_ASSISTANT, strip_newlines(reasoning, true, true)));
    TRY(CHAT_PUT(out, "\n</think>\n\n"));
fail:
    return status;
}

// Thoughts of the current turn (after the last question) are kept, those of earlier turns dropped.
static enum sluice_status put_assistant(struct chat_prompt *out, const struct chat_message *message, bool thinking,
                                        bool current, bool last)
{
    struct chat_text content = message->content, reasoning = message->reasoning;
    enum sluice_status status;
    if (thinking && !reasoning.data)
        split_thoughts(&content, &reasoning);
    TRY(CHAT_PUT(out, "<|im_start|>assistant\n"));
    if (thinking && current && (last || reasoning.bytes > 0)) {
        TRY(put_thoughts(out, reasoning));
        TRY(chat_put_text(out, CHAT_ASSISTANT, strip_newlines(content, true, false)));
    } else {
        TRY(chat_put_text(out, CHAT_ASSISTANT, content));
    }
    TRY(put_calls(out, message->calls, content.bytes > 0));
    TRY(CHAT_PUT(out, "<|im_end|>\n"));
fail:
    return status;
}

static bool is_wrapped_response(struct chat_text text)
{
    static const char head[] = "<tool_response>", tail[] = "</tool_response>";
    size_t head_bytes = sizeof head - 1, tail_bytes = sizeof tail - 1;
    return text.bytes >= tail_bytes && memcmp(text.data, head, head_bytes) == 0 &&
           memcmp(text.data + text.bytes - tail_bytes, tail, tail_bytes) == 0;
}

// The index of the last real question; thoughts after it belong to the current turn.
static size_t last_query(const struct chat_messages *messages)
{
    for (size_t i = messages->count; i > 0; i--) {
        const struct chat_message *message = &messages->list[i - 1];
        if (message->role == CHAT_USER && !is_wrapped_response(message->content))
            return i - 1;
    }
    return messages->count - 1;
}

enum sluice_status chat_render_chatml(const struct chat_messages *messages, bool thinking, bool generation_prompt,
                                      struct chat_prompt *out)
{
    size_t query = last_query(messages);
    enum sluice_status status;
    TRY(put_system(out, messages));
    for (size_t i = 0; i < messages->count; i++) {
        const struct chat_message *message = &messages->list[i];
        if (message->role == CHAT_ASSISTANT)
            TRY(put_assistant(out, message, thinking, i > query, i + 1 == messages->count));
        else if (message->role == CHAT_TOOL)
            TRY(chat_put_tool_response(out, messages, i));
        else if (i > 0 || message->role == CHAT_USER)
            TRY(chat_put_turn(out, message));
    }
    if (generation_prompt)
        TRY(CHAT_PUT(out, thinking ? "<|im_start|>assistant\n<think>\n" : "<|im_start|>assistant\n"));
fail:
    return status;
}
