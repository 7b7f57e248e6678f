// A model's answer while it is produced, split into thoughts, text and tool calls.
//
// The thinking checkpoint's answer begins inside its thoughts; they end at the first </think>. Tool calls start at
// <tool_call> or <function=; from there on text is collected until the answer ends, since only a complete call can be
// handed over. What might be the beginning of one of these markers is held back, so that no part of a marker is ever
// emitted as text. The result does not depend on how the text is cut into pieces.
#ifndef SLUICE_TEXT_ANSWER_H
#define SLUICE_TEXT_ANSWER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"
#include "runtime/text/chat.h"

struct answer;

// One call's worth of output; the pointers are valid until the next call.
struct answer_delta {
    const char *reasoning; // the thoughts, without the white space around them
    size_t reasoning_bytes;
    const char *content; // the text, without the newlines between </think> and it
    size_t content_bytes;
};

// `kind` THINKING: the answer starts inside the thoughts (unless it starts with <think> itself). `tools`: as
// toolcall_parse takes them, borrowed only for this call; NULL or empty: tool calls are not looked for and stay text.
// Errors: MEMORY. One thread at a time.
enum sluice_status answer_create(enum chat_template kind, const json_t *tools, struct answer **answer);

// NULL is allowed.
void answer_destroy(struct answer *answer);

// Takes the next piece of text.
enum sluice_status answer_push(struct answer *answer, const char *text, size_t bytes, struct answer_delta *delta);

// Ends the answer: what was held back comes out, and `*calls` is the array of tool calls (the caller's, json_decref;
// empty if there are none).
enum sluice_status answer_finish(struct answer *answer, struct answer_delta *delta, json_t **calls);

#endif
