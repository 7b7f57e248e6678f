#include "runtime/text/answer.h"

#include <stdint.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "runtime/text/text_buffer.h"
#include "runtime/text/toolcall.h"

enum answer_state {
    BEFORE_THOUGHTS, // white space and a possible <think>
    IN_THOUGHTS,
    BEFORE_TEXT, // newlines after </think>
    IN_TEXT,
    IN_CALLS, // everything is collected until the end
};

// Bytes [start, end) of a text.
struct stretch {
    size_t start, end;
};

struct answer {
    enum answer_state state;
    enum answer_thoughts thoughts;
    struct stretch tag;      // of the whole answer: the token </think>; both SIZE_MAX: not yet known
    json_t *tools;           // a reference of our own, NULL: no calls
    struct text_buffer text; // handed out by the last call, then what is held back
    size_t text_start;       // of the whole answer
    size_t handed_out;
};

enum sluice_status answer_create(enum answer_thoughts thoughts, const json_t *tools, struct answer **answer)
{
    *answer = mem_alloc(1, sizeof **answer);
    if (!*answer)
        return SLUICE_ERR_MEMORY;
    (*answer)->state = thoughts == ANSWER_WITHOUT_THOUGHTS ? IN_TEXT : BEFORE_THOUGHTS;
    (*answer)->thoughts = thoughts;
    (*answer)->tag = (struct stretch){SIZE_MAX, SIZE_MAX};
    if (json_array_size(tools) > 0) {
        (*answer)->tools = json_deep_copy(tools);
        if (!(*answer)->tools) {
            answer_destroy(*answer);
            *answer = NULL;
            return error_set(SLUICE_ERR_MEMORY, "out of memory while copying the tools");
        }
    }
    return SLUICE_OK;
}

void answer_destroy(struct answer *answer)
{
    if (!answer)
        return;
    json_decref(answer->tools);
    text_buffer_finish(&answer->text);
    mem_free(answer);
}

void answer_end_thoughts(struct answer *answer, size_t start, size_t end)
{
    CHECK(start <= end);
    if (answer->tag.end == SIZE_MAX)
        answer->tag = (struct stretch){start, end};
}

// ---- what must wait

// The length of the longest end of `text` that is a proper beginning of `mark`.
static size_t partial_mark(const char *text, size_t bytes, const char *mark)
{
    size_t length = strlen(mark) - 1;
    if (length > bytes)
        length = bytes;
    while (length > 0 && memcmp(text + bytes - length, mark, length) != 0)
        length--;
    return length;
}

static bool is_space(char byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

// Without white space at the end: it is dropped if a mark or nothing follows.
static size_t without_space(const char *text, size_t bytes)
{
    while (bytes > 0 && is_space(text[bytes - 1]))
        bytes--;
    return bytes;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

// The first of `marks` in the text, or NULL.
static const char *first_mark(const char *text, size_t bytes, const char *const marks[2])
{
    const char *found = NULL;
    for (size_t i = 0; i < 2; i++) {
        const char *at =
            marks[i] ? memmem(text, found ? (size_t)(found - text) : bytes, marks[i], strlen(marks[i])) : NULL;
        found = at ? at : found;
    }
    return found;
}

// ---- states: each takes what it can from the unread text and returns whether the state changed

// The text not handed out yet.
struct unread {
    const char *text;
    size_t bytes;
};

static void take(struct unread *unread, size_t bytes)
{
    unread->text += bytes;
    unread->bytes -= bytes;
}

static bool before_thoughts(struct answer *answer, struct unread *unread, bool last)
{
    static const char mark[] = "<think>";
    size_t space = 0;
    while (space < unread->bytes && is_space(unread->text[space]))
        space++;
    const char *rest = unread->text + space;
    size_t bytes = unread->bytes - space;
    if (bytes >= sizeof mark - 1 && memcmp(rest, mark, sizeof mark - 1) == 0) {
        take(unread, space + sizeof mark - 1);
        return true; // white space follows
    }
    if (!last && (bytes == 0 || (bytes < sizeof mark - 1 && memcmp(rest, mark, bytes) == 0)))
        return false;
    take(unread, space);
    answer->state = IN_THOUGHTS;
    return true;
}

static size_t behind(size_t position, size_t start)
{
    return position > start ? position - start : 0;
}

// Where the thoughts in the unread text end, and the tag with them: behind the unread text if the tag is not whole.
static struct stretch find_tag(const struct answer *answer, const struct unread *unread, bool last)
{
    static const char mark[] = "</think>";
    if (answer->thoughts == ANSWER_THOUGHTS_TO_TOKEN) {
        size_t position = answer->text_start + (answer->text.bytes - unread->bytes);
        size_t start = behind(answer->tag.start, position);
        return (struct stretch){start < unread->bytes ? start : unread->bytes, behind(answer->tag.end, position)};
    }
    const char *at = memmem(unread->text, unread->bytes, mark, sizeof mark - 1);
    size_t held = last ? 0 : partial_mark(unread->text, unread->bytes, mark);
    size_t start = at ? (size_t)(at - unread->text) : unread->bytes - held;
    return (struct stretch){start, start + sizeof mark - 1};
}

static bool in_thoughts(struct answer *answer, struct unread *unread, struct answer_delta *delta, bool last)
{
    struct stretch tag = find_tag(answer, unread, last);
    bool ended = tag.end <= unread->bytes;
    delta->reasoning = unread->text;
    delta->reasoning_bytes = without_space(unread->text, tag.start);
    take(unread, ended ? tag.end : delta->reasoning_bytes);
    if (ended)
        answer->state = BEFORE_TEXT;
    return ended;
}

static bool before_text(struct answer *answer, struct unread *unread)
{
    while (unread->bytes > 0 && (*unread->text == '\n' || *unread->text == '\r'))
        take(unread, 1);
    if (unread->bytes > 0)
        answer->state = IN_TEXT;
    return unread->bytes > 0;
}

static bool in_text(struct answer *answer, struct unread *unread, struct answer_delta *delta, bool last)
{
    static const char *const marks[2] = {"<tool_call>", "<function="};
    delta->content = unread->text;
    delta->content_bytes = unread->bytes;
    if (answer->tools && !last) {
        const char *mark = first_mark(unread->text, unread->bytes, marks);
        size_t bytes = mark ? (size_t)(mark - unread->text) : unread->bytes;
        if (!mark)
            bytes -= larger(partial_mark(unread->text, bytes, marks[0]), partial_mark(unread->text, bytes, marks[1]));
        delta->content_bytes = without_space(unread->text, bytes);
        answer->state = mark ? IN_CALLS : IN_TEXT;
    }
    take(unread, delta->content_bytes);
    return false;
}

static void advance(struct answer *answer, struct answer_delta *delta, bool last)
{
    struct unread unread = {answer->text.data ? answer->text.data : "", answer->text.bytes};
    bool more = true;
    while (more && answer->state != IN_CALLS)
        more = answer->state == BEFORE_THOUGHTS ? before_thoughts(answer, &unread, last)
               : answer->state == IN_THOUGHTS   ? in_thoughts(answer, &unread, delta, last)
               : answer->state == BEFORE_TEXT   ? before_text(answer, &unread)
                                                : in_text(answer, &unread, delta, last);
    answer->handed_out = answer->text.bytes - unread.bytes;
}

static void drop_handed_out(struct answer *answer, struct answer_delta *delta)
{
    *delta = (struct answer_delta){.reasoning = "", .content = ""};
    if (answer->handed_out == 0)
        return;
    answer->text_start += answer->handed_out;
    answer->text.bytes -= answer->handed_out;
    memmove(answer->text.data, answer->text.data + answer->handed_out, answer->text.bytes);
    answer->handed_out = 0;
}

enum sluice_status answer_push(struct answer *answer, const char *text, size_t bytes, struct answer_delta *delta)
{
    drop_handed_out(answer, delta);
    if (text_buffer_append(&answer->text, text, bytes) < 0)
        return SLUICE_ERR_MEMORY;
    advance(answer, delta, false);
    return SLUICE_OK;
}

// Replaces the collected text by what of it is not a call.
static enum sluice_status read_calls(struct answer *answer, struct answer_delta *delta, json_t **calls)
{
    struct text_buffer content = {0};
    enum sluice_status status =
        toolcall_parse(answer->text.data, answer->text.bytes, answer->tools, &content.data, &content.bytes, calls);
    if (status < 0)
        return status;
    content.capacity = content.bytes + 1;
    text_buffer_finish(&answer->text);
    answer->text = content;
    answer->handed_out = content.bytes;
    delta->content = content.data;
    delta->content_bytes = content.bytes;
    return SLUICE_OK;
}

enum sluice_status answer_finish(struct answer *answer, struct answer_delta *delta, json_t **calls)
{
    drop_handed_out(answer, delta);
    *calls = NULL;
    if (answer->state == IN_CALLS)
        return read_calls(answer, delta, calls);
    *calls = json_array();
    if (!*calls)
        return error_set(SLUICE_ERR_MEMORY, "out of memory while ending an answer");
    advance(answer, delta, true);
    return SLUICE_OK;
}
