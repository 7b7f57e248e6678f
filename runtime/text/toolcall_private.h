// What the parsers of the two spellings of tool calls share. For toolcall*.c only.
#ifndef SLUICE_TEXT_TOOLCALL_PRIVATE_H
#define SLUICE_TEXT_TOOLCALL_PRIVATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"

enum toolcall_mark {
    MARK_OPEN,           // <tool_call>
    MARK_CLOSE,          // </tool_call>
    MARK_FUNCTION,       // <function=
    MARK_PARAMETER,      // <parameter=
    MARK_NEXT_PARAMETER, // the same at the beginning of a line
    MARK_PARAMETER_CLOSE,
    MARK_FUNCTION_CLOSE,
    MARK_COUNT,
};

// Where each mark was found last, so that all searches together walk the text once: a search from anywhere between
// `from` and `found` has the same result. An answer can contain thousands of marks whose counterparts are missing.
struct toolcall_memo {
    const char *end; // of the whole text
    const char *from[MARK_COUNT];
    const char *found[MARK_COUNT]; // `end`: nowhere
};

// The text that is still to be read: valid UTF-8.
struct toolcall_cursor {
    const char *text;
    const char *end;
    struct toolcall_memo *memo; // shared by all cursors of one text
};

bool toolcall_starts_with(struct toolcall_cursor at, enum toolcall_mark mark);
const char *toolcall_find(struct toolcall_cursor at, enum toolcall_mark mark); // `end` if there is none
void toolcall_skip_space(struct toolcall_cursor *at);
bool toolcall_skip(struct toolcall_cursor *at, enum toolcall_mark mark); // false, and nothing moves, if it is not next

// Appends {"name": ..., "arguments": ...}; `arguments` is borrowed. Errors: MEMORY.
enum sluice_status toolcall_add(json_t *calls, const char *name, size_t name_bytes, json_t *arguments);

// Reads <function=...>...</function> at the cursor, which is at <function=. *read tells whether it was a call; the
// cursor moves past what was looked at either way. Errors: MEMORY.
enum sluice_status toolcall_read_xml(struct toolcall_cursor *at, const json_t *tools, json_t *calls, bool *read);

#endif
