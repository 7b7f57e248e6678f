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

struct answer;

// Whether the answer starts inside the model's thoughts (it may repeat <think> itself), and what ends them.
enum answer_thoughts {
    ANSWER_WITHOUT_THOUGHTS,
    ANSWER_THOUGHTS_TO_TEXT,  // the characters </think>: for tokenizers without such a token
    ANSWER_THOUGHTS_TO_TOKEN, // the token, see answer_end_thoughts; these characters alone are thoughts like others:
                              // a model that reads a page on chat templates may quote them
};

// One call's worth of output; the pointers are valid until the next call.
struct answer_delta {
    const char *reasoning; // the thoughts, without the white space around them
    size_t reasoning_bytes;
    const char *content; // the text, without the newlines between </think> and it
    size_t content_bytes;
};

// `tools`: as toolcall_parse takes them, borrowed only for this call; NULL or empty: tool calls are not looked for and
// stay text. Errors: MEMORY. One thread at a time.
enum sluice_status answer_create(enum answer_thoughts thoughts, const json_t *tools, struct answer **answer);

// NULL is allowed.
void answer_destroy(struct answer *answer);

// The token </think> was sampled: its own text is bytes [start, end) of the whole answer, counted from its first byte
// (start = end if it gives none). Call it before that text is pushed; text in front of it may still be on its way, for
// example held back by the stop strings. Only the first call counts, and none without ANSWER_THOUGHTS_TO_TOKEN.
void answer_end_thoughts(struct answer *answer, size_t start, size_t end);

// Takes the next piece of text.
enum sluice_status answer_push(struct answer *answer, const char *text, size_t bytes, struct answer_delta *delta);

// Ends the answer: what was held back comes out, and `*calls` is the array of tool calls (the caller's, json_decref;
// empty if there are none).
enum sluice_status answer_finish(struct answer *answer, struct answer_delta *delta, json_t **calls);

#endif
