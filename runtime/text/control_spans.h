// Which bytes of a prompt may become control tokens.
//
// A chat template marks turns by added tokens (<|im_start|>, <|im_end|>, <think>, ...). A document or a tool's result
// may contain the same characters, and must not be able to end the user's turn or to speak as the system. So who
// renders a prompt lists the stretches that may hold added tokens; everything outside of them is text, whatever it
// looks like. The list is kept beside the text, not in it, so that no text can forge it.
#ifndef SLUICE_TEXT_CONTROL_SPANS_H
#define SLUICE_TEXT_CONTROL_SPANS_H

#include <stddef.h>

#include "runtime/base/status.h"

enum control_scope {
    // Every added token: what the template itself wrote.
    CONTROL_ALL,
    // The added tokens that the tokenizer's file does not mark as special, in Qwen's <think>, <tool_call> and the like:
    // what the model answered earlier. They are those that a decoder leaves in the text of an answer, so what was one
    // token when the model wrote it is one token when it reads it again (so is a tag that the model spelt in letters:
    // the text does not tell). The ones marked special end an answer and never are a part of it.
    CONTROL_TAGS,
};

struct control_span {
    size_t start, end; // bytes [start, end), not empty
    enum control_scope scope;
};

// Starts as {0}: nothing is a control token.
struct control_spans {
    struct control_span *list; // [count], by rising position, without overlap; owned
    size_t count, capacity;
};

// Adds [start, end), behind all spans there are. A span that continues the last one in the same scope extends it; an
// empty one is left out. Errors: MEMORY; the list is then unchanged.
enum sluice_status control_spans_add(struct control_spans *spans, size_t start, size_t end, enum control_scope scope);

void control_spans_finish(struct control_spans *spans);

#endif
