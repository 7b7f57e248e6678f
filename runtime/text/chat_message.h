// The messages of a conversation, checked and with their contents flattened. For chat*.c only.
#ifndef SLUICE_TEXT_CHAT_MESSAGE_H
#define SLUICE_TEXT_CHAT_MESSAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"
#include "runtime/text/chat.h"

enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT, CHAT_TOOL };

// A stretch of somebody's text, not terminated.
struct chat_text {
    const char *data;
    size_t bytes;
};

struct chat_message {
    enum chat_role role;
    struct chat_text content;   // "" if there is none
    struct chat_text reasoning; // data is NULL if there is none
    const json_t *calls;        // array of at least one call, or NULL
    char *joined;               // content's memory if it had parts, owned
};

struct chat_messages {
    struct chat_message *list; // [count], owned; what they point to belongs to the JSON values
    size_t count;
    const json_t *tools; // array of at least one tool, or NULL
};

// Checks `messages` and `tools` (see chat.h). Errors: ARGUMENT, MEMORY; `*result` is then empty.
enum sluice_status chat_messages_read(const json_t *messages, const json_t *tools, struct chat_messages *result);

void chat_messages_finish(struct chat_messages *messages);

// The object with "name" and the rest inside an OpenAI wrapper {"type": "function", "function": {...}}, or the value
// itself.
const json_t *chat_unwrap(const json_t *wrapped);

// The renderers append to `out`; the messages are checked. Errors: ARGUMENT (arguments that are no object), MEMORY.
enum sluice_status chat_render_chatml(const struct chat_messages *messages, bool thinking, bool generation_prompt,
                                      struct chat_prompt *out);
enum sluice_status chat_render_coder(const struct chat_messages *messages, bool generation_prompt,
                                     struct chat_prompt *out);

// The template's own words, up to a NULL: the only way to write what may become any control token. What is appended to
// out->text otherwise is text. Errors of these: MEMORY.
enum sluice_status chat_put_strings(struct chat_prompt *out, const char *const *strings);
#define CHAT_PUT(out, ...) chat_put_strings(out, (const char *const[]){__VA_ARGS__, NULL})

// A message's text: CONTROL_TAGS if it is the assistant's.
enum sluice_status chat_put_text(struct chat_prompt *out, enum chat_role role, struct chat_text text);

// Makes what was appended to out->text since it had `start` bytes the assistant's.
enum sluice_status chat_mark_answer(struct chat_prompt *out, size_t start);

// What the templates have in common: "<|im_start|>role\n" + content + "<|im_end|>\n", and a tool's answer.
enum sluice_status chat_put_turn(struct chat_prompt *out, const struct chat_message *message);
enum sluice_status chat_put_tool_response(struct chat_prompt *out, const struct chat_messages *messages, size_t index);

#endif
