// The prompts of the three Qwen3-Next checkpoints, rendered in C to the byte as their Jinja templates render them.
//
// Conversations use the OpenAI chat format as jansson values:
//   messages   array of {"role": "system"|"user"|"assistant"|"tool", "content": string or null or absent,
//              "reasoning_content": string, "tool_calls": [{"function": {"name": ..., "arguments": object or string}}
//              or {"name": ..., "arguments": ...}]}. A content that is an array of parts ({"type": "text", "text": ...}
//              or plain strings) is joined first; a part of another type (an image) is an error.
//   tools      NULL, null or an array of {"type": "function", "function": {...}} or of the bare function objects
// Values are written as Python's json.dumps(ensure_ascii=False) writes them: ", " and ": ", keys in the given order.
//
// Control tokens: the text is that of the Jinja templates, but not all of it may become control tokens
// (control_spans.h)
//   CONTROL_ALL   what the template writes: turns, the tags around thoughts, calls and tools' answers
//   CONTROL_TAGS  what an assistant's message holds: content, reasoning, names and arguments of calls. The model wrote
//                 <think> and <tool_call> there as tokens; <|im_end|> it can only have written as text
//   nothing       the rest, which may come from strangers: the content of system, user and tool messages, and all of
//                 `tools`. <think>, <tool_call> and <tool_response> are text there, too: results of tools belong into
//                 messages of the role "tool"
#ifndef SLUICE_TEXT_CHAT_H
#define SLUICE_TEXT_CHAT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"
#include "runtime/text/control_spans.h"
#include "runtime/text/text_buffer.h"

enum chat_template {
    CHAT_TEMPLATE_UNKNOWN,
    CHAT_TEMPLATE_INSTRUCT, // ChatML, tool calls as JSON (Qwen3-Next-Instruct; also any plain ChatML template)
    CHAT_TEMPLATE_THINKING, // the same, and the answer starts inside <think> (Qwen3-Next-Thinking)
    CHAT_TEMPLATE_CODER,    // tool calls as XML-like text (Qwen3-Coder-Next)
};

// The kind named "instruct", "thinking" or "coder", as a user gives it to --template; UNKNOWN for any other text.
enum chat_template chat_template_from_name(const char *name);

// Tells which of the three templates the Jinja text `jinja` (a checkpoint's own chat_template) is, by what it does: the
// markers it writes, not its exact wording. UNKNOWN if it is none of them; chat_template_unknown_message then says what
// was found.
enum chat_template chat_template_recognise(const char *jinja);

// Sets and returns a failure (UNSUPPORTED) that names the template by its first line and hash and tells the user to
// choose one with --template.
enum sluice_status chat_template_unknown_message(const char *jinja);

// Finds a checkpoint's template: `jinja` (the text of chat_template.jinja, or NULL) wins, else "chat_template" of
// `tokenizer_config_json` (or NULL), a string or a list of {"name", "template"} of which "default" is taken.
//   *found   the caller's (mem_free); NULL if there is none: that is not an error
// Errors: FORMAT (the configuration is not JSON or the entry has another type), MEMORY.
enum sluice_status chat_template_find(const char *jinja, size_t jinja_bytes, const char *tokenizer_config_json,
                                      size_t config_bytes, char **found);

// A rendered conversation. Encode it with tokenizer_encode_spans(tokenizer, text.data, text.bytes, &controls, ...).
struct chat_prompt {
    struct text_buffer text;       // NUL-terminated (it may contain NULs), owned
    struct control_spans controls; // of `text`, owned
};

// Renders a conversation. `generation_prompt` appends the beginning of the assistant's answer.
//   *prompt   the caller's, release with chat_prompt_finish; empty after a failure
// Errors: ARGUMENT (a message that the format above does not allow: names its index and what is wrong), MEMORY.
enum sluice_status chat_render(enum chat_template kind, const json_t *messages, const json_t *tools,
                               bool generation_prompt, struct chat_prompt *prompt);

// An empty prompt ({0}) is allowed.
void chat_prompt_finish(struct chat_prompt *prompt);

#endif
