// Fuzz target: bytes as a model's answer, whole and in a stream. The first byte chooses the kind and the pieces'
// length.
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "runtime/text/answer.h"
#include "runtime/text/text_buffer.h"
#include "runtime/text/toolcall.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

static const json_t *tools(void)
{
    static json_t *list;
    if (!list)
        list =
            json_loads("[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"s\":{"
                       "\"type\":\"string\"},\"i\":{\"type\":\"integer\"},\"o\":{\"type\":\"object\"},\"u\":{\"type\":["
                       "\"boolean\",\"null\"]}}}}}]",
                       0, NULL);
    CHECK(list);
    return list;
}

static void check_calls(const json_t *calls)
{
    CHECK(json_is_array(calls));
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *call = json_array_get(calls, i);
        CHECK(json_string_length(json_object_get(call, "name")) > 0);
        CHECK(json_is_object(json_object_get(call, "arguments")));
    }
}

struct result {
    struct text_buffer reasoning, content;
    json_t *calls;
};

static void add(struct result *result, const struct answer_delta *delta)
{
    CHECK(text_buffer_append(&result->reasoning, delta->reasoning, delta->reasoning_bytes) == SLUICE_OK);
    CHECK(text_buffer_append(&result->content, delta->content, delta->content_bytes) == SLUICE_OK);
}

static struct result stream(enum answer_thoughts thoughts, const char *text, size_t bytes, size_t piece)
{
    struct result result = {0};
    struct answer *answer;
    struct answer_delta delta;
    CHECK(answer_create(thoughts, tools(), &answer) == SLUICE_OK);
    answer_end_thoughts(answer, bytes / 2, bytes / 2 + bytes / 4);
    for (size_t at = 0; at < bytes; at += piece) {
        CHECK(answer_push(answer, text + at, bytes - at < piece ? bytes - at : piece, &delta) == SLUICE_OK);
        add(&result, &delta);
    }
    CHECK(answer_finish(answer, &delta, &result.calls) == SLUICE_OK);
    add(&result, &delta);
    check_calls(result.calls);
    answer_destroy(answer);
    return result;
}

static void finish(struct result *result)
{
    text_buffer_finish(&result->reasoning);
    text_buffer_finish(&result->content);
    json_decref(result->calls);
}

static bool same(const struct text_buffer *a, const struct text_buffer *b)
{
    return a->bytes == b->bytes && (a->bytes == 0 || memcmp(a->data, b->data, a->bytes) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    if (count == 0)
        return 0;
    enum answer_thoughts thoughts = (enum answer_thoughts)(bytes[0] % 3);
    const char *text = (const char *)bytes + 1;
    char *content;
    size_t content_bytes;
    json_t *calls;
    CHECK(toolcall_parse(text, count - 1, tools(), &content, &content_bytes, &calls) == SLUICE_OK);
    check_calls(calls);
    CHECK(json_array_size(calls) > 0 || content_bytes >= count - 1);
    mem_free(content);
    json_decref(calls);

    struct result whole = stream(thoughts, text, count - 1, count),
                  pieces = stream(thoughts, text, count - 1, 1 + bytes[0] / 2 % 16);
    CHECK(same(&whole.reasoning, &pieces.reasoning) && same(&whole.content, &pieces.content));
    CHECK(json_equal(whole.calls, pieces.calls));
    finish(&whole);
    finish(&pieces);
    return 0;
}
