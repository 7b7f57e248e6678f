#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "runtime/text/answer.h"
#include "runtime/text/text_buffer.h"
#include "runtime/text/toolcall.h"
#include "tests/text/text_data.h"

static const char tools_text[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"s\":{\"type\":\"string\"},"
    "\"i\":{\"type\":\"integer\"},\"n\":{\"type\":\"number\"},\"b\":{\"type\":\"boolean\"},\"o\":{\"type\":\"object\"},"
    "\"a\":{\"type\":\"array\"},\"u\":{\"type\":[\"string\",\"null\"]},\"v\":{\"anyOf\":[{\"type\":\"integer\"},{"
    "\"type\":"
    "\"null\"}]}}}}}]";

static json_t *tools(void)
{
    json_t *list = json_loads(tools_text, 0, NULL);
    assert_non_null(list);
    return list;
}

static void expect_json(const json_t *value, const char *wanted)
{
    char *text = json_dumps(value, JSON_COMPACT);
    assert_string_equal(text, wanted);
    free(text);
}

static void expect(const char *text, const char *content, const char *calls)
{
    json_t *list = tools(), *found;
    char *outside;
    size_t bytes;
    assert_int_equal(toolcall_parse(text, strlen(text), list, &outside, &bytes, &found), SLUICE_OK);
    assert_string_equal(outside, content);
    expect_json(found, calls);
    mem_free(outside);
    json_decref(found);
    json_decref(list);
}

// Agents would get text instead of calls from Instruct and Thinking.
static void json_calls(void **state)
{
    (void)state;
    expect("Sure.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>", "Sure.",
           "[{\"name\":\"f\",\"arguments\":{\"x\":1}}]");
    expect(
        "<tool_call>\n{\"name\": \"a\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"b\"}\n</tool_call>",
        "", "[{\"name\":\"a\",\"arguments\":{}},{\"name\":\"b\",\"arguments\":{}}]");
    expect("<tool_call>{\"name\":\"f\",\"arguments\":{\"c\":\"</tool_call>\"}}</tool_call>", "",
           "[{\"name\":\"f\",\"arguments\":{\"c\":\"</tool_call>\"}}]");
    expect("no call", "no call", "[]");
    expect("", "", "[]");
}

// Small mistakes of the model must not lose a call.
static void damaged_json_calls(void **state)
{
    (void)state;
    static const char call[] = "[{\"name\":\"f\",\"arguments\":{\"x\":1}}]";
    expect("<tool_call>{\"name\":\"f\",\"arguments\":{\"x\":1}}", "", call);              // no closing tag
    expect("<tool_call>{\"name\":\"f\",\"arguments\":{\"x\":1}</tool_call>", "", call);   // a bracket is missing
    expect("<tool_call>{\"name\":\"f\",\"arguments\":{\"x\":1}}}</tool_call>", "", call); // one too many
    expect("<tool_call>{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1}\"}</tool_call>", "", call);
    expect("<tool_call>{\"name\":\"f\",\"parameters\":{\"x\":1}}</tool_call>", "", call);
    expect("<tool_call>{\"name\":\"f\",\"arguments\":{\"s\":\"a\nb\"}}</tool_call>", "",
           "[{\"name\":\"f\",\"arguments\":{\"s\":\"a\\nb\"}}]");
    expect("<tool_call>{\"name\":\"a\",\"arguments\":{}}\n{\"name\":\"b\",\"arguments\":{}}</tool_call>", "",
           "[{\"name\":\"a\",\"arguments\":{}},{\"name\":\"b\",\"arguments\":{}}]");
}

// Half a call (the answer hit its limit) must not be executed, and what is not a call must stay visible.
static void what_is_no_call_stays_text(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "<tool_call>{\"name\":\"f\",\"arguments\":{\"x\":1",
        "<tool_call>{\"name\":\"f\",\"arguments\":{\"s\":\"rm -rf",
        "<tool_call>hello</tool_call>",
        "<tool_call>{\"name\":\"\",\"arguments\":{}}</tool_call>",
        "<tool_call>{\"name\":\"f\",\"arguments\":[1]}</tool_call>",
        "<tool_call>{\"arguments\":{}}</tool_call>",
        "<tool_call>",
        "<function=",
        "<function=f",
        "<function=f>\n",
        "<tool_call>\n<function=f>\n<parameter=s>\nrm -rf /tmp",
        "a <function=f> is written like this",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        expect(texts[i], texts[i], "[]");
}

// Agents would get text instead of calls from Coder-Next.
static void xml_calls(void **state)
{
    (void)state;
    expect("Sure.\n\n<tool_call>\n<function=f>\n<parameter=s>\na\nb\n</parameter>\n<parameter=i>\n12\n</parameter>\n"
           "</function>\n</tool_call>\n<tool_call>\n<function=g>\n</function>\n</tool_call>",
           "Sure.", "[{\"name\":\"f\",\"arguments\":{\"s\":\"a\\nb\",\"i\":12}},{\"name\":\"g\",\"arguments\":{}}]");
    expect("<tool_call>\n<function=f>\n<parameter=s>\n\n x \n\n</parameter>\n</function>\n</tool_call>", "",
           "[{\"name\":\"f\",\"arguments\":{\"s\":\"\\n x \\n\"}}]");
}

// A file written by an agent would miss its end if it contains tags.
static void values_may_contain_tags(void **state)
{
    (void)state;
    expect("<function=f><parameter=s>\n</function></tool_call><tool_call>\n</parameter></function>", "",
           "[{\"name\":\"f\",\"arguments\":{\"s\":\"</function></tool_call><tool_call>\"}}]");
}

// Coder-Next forgets tags now and then (most often the first <tool_call>).
static void damaged_xml_calls(void **state)
{
    (void)state;
    static const char call[] = "[{\"name\":\"f\",\"arguments\":{\"s\":\"x\",\"i\":1}}]";
    expect("<function=f>\n<parameter=s>\nx\n</parameter>\n<parameter=i>\n1\n</parameter>\n</function>\n</tool_call>",
           "", call);
    expect("<tool_call><function=f>\n<parameter=s>\nx\n</parameter>\n<parameter=i>\n1\n</parameter>", "", call);
    expect("<tool_call><function=f>\n<parameter=s>\nx\n<parameter=i>\n1\n</function>\n</tool_call>", "", call);
    expect("<tool_call><function=f>\n<parameter=s>\nx\n</parameter>\n<parameter=i>\n1\n</tool_call>", "", call);
    expect("<tool_call><function=\"f\"> <parameter='s'>x</parameter><parameter=i>1</parameter></function></tool_call>",
           "", call);
    // The closing tag is missing in the first of two calls: the next parameter's line tells.
    expect("<function=f><parameter=s>x</function><function=f>\n<parameter=s>y</parameter></function>", "",
           "[{\"name\":\"f\",\"arguments\":{\"s\":\"x\"}},{\"name\":\"f\",\"arguments\":{\"s\":\"y\"}}]");
}

// A string where the tool expects a number makes it fail.
static void values_take_their_declared_type(void **state)
{
    (void)state;
    static const struct {
        const char *parameter, *value, *json;
    } cases[] = {
        {"s", "12", "\"12\""},    {"s", "null", "\"null\""},
        {"i", "12", "12"},        {"i", "twelve", "\"twelve\""},
        {"n", "1.5", "1.5"},      {"b", "true", "true"},
        {"b", "False", "false"},  {"o", "{\"k\": [1]}", "{\"k\":[1]}"},
        {"a", "[1, 2]", "[1,2]"}, {"a", "[1, 2", "\"[1, 2\""},
        {"u", "null", "null"},    {"u", "12", "\"12\""},
        {"v", "None", "null"},    {"v", " 3 ", "3"},
        {"other", "3", "\"3\""},  {"s", "", "\"\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *text =
            json_sprintf("<function=f><parameter=%s>\n%s\n</parameter></function>", cases[i].parameter, cases[i].value);
        json_t *calls = json_sprintf("[{\"name\":\"f\",\"arguments\":{\"%s\":%s}}]", cases[i].parameter, cases[i].json);
        expect(json_string_value(text), "", json_string_value(calls));
        json_decref(text);
        json_decref(calls);
    }
}

// Any bytes must be survived, and nothing visible may be lost without a call.
static void random_answers_are_survived(void **state)
{
    (void)state;
    static const char *const pieces[] = {"<tool_call>",
                                         "</tool_call>",
                                         "<function=f>",
                                         "</function>",
                                         "<parameter=s>",
                                         "</parameter>",
                                         "\n",
                                         "{\"name\":",
                                         "\"f\"",
                                         ",\"arguments\":{",
                                         "}",
                                         "x",
                                         "\xFF",
                                         "<",
                                         "\"",
                                         "<think>",
                                         "</think>",
                                         " ",
                                         "\n<parameter=i>"};
    uint64_t seed = 99;
    json_t *list = tools();
    for (int round = 0; round < 20000; round++) {
        struct text_buffer text = {0};
        for (size_t left = random_next(&seed) % 14; left > 0; left--)
            assert_int_equal(text_buffer_append_string(&text, pieces[random_next(&seed) % 19]), SLUICE_OK);
        char *content;
        size_t bytes;
        json_t *calls;
        assert_int_equal(toolcall_parse(text.data, text.bytes, list, &content, &bytes, &calls), SLUICE_OK);
        if (json_array_size(calls) == 0)
            assert_true(bytes >= text.bytes);
        mem_free(content);
        json_decref(calls);
        text_buffer_finish(&text);
    }
    json_decref(list);
}

// An answer full of opening tags (a model in a loop) must not take quadratic time: this test would not end.
static void many_unfinished_calls_take_linear_time(void **state)
{
    (void)state;
    static const char *const units[] = {"<tool_call>{",
                                        "<function=f><parameter=s>x",
                                        "<tool_call>{\"name\":\"f\"",
                                        "<function=f>\n<parameter=s>x",
                                        "<function=f></function>",
                                        "<function=f><parameter=s>x</function>"};
    enum { BYTES = 1 << 20 };
    char *text = malloc(BYTES);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        size_t unit = strlen(units[i]), bytes = BYTES / unit * unit;
        for (size_t at = 0; at < bytes; at += unit)
            memcpy(text + at, units[i], unit);
        char *content;
        json_t *calls;
        assert_int_equal(toolcall_parse(text, bytes, NULL, &content, &bytes, &calls), SLUICE_OK);
        mem_free(content);
        json_decref(calls);
    }
    free(text);
}

// ---- streaming

struct result {
    struct text_buffer reasoning, content;
    json_t *calls;
};

static void add(struct result *result, const struct answer_delta *delta)
{
    assert_int_equal(text_buffer_append(&result->reasoning, delta->reasoning, delta->reasoning_bytes), SLUICE_OK);
    assert_int_equal(text_buffer_append(&result->content, delta->content, delta->content_bytes), SLUICE_OK);
}

// A tag that gives `bytes` bytes of text at `start`, told when `told` bytes or more have been pushed; SIZE_MAX: none.
struct tag {
    size_t start, bytes, told;
};

static void stream(enum answer_thoughts thoughts, bool with_tools, const char *text, size_t piece, struct tag tag,
                   struct result *result)
{
    json_t *list = with_tools ? tools() : NULL;
    struct answer *answer;
    struct answer_delta delta;
    *result = (struct result){0};
    assert_int_equal(answer_create(thoughts, list, &answer), SLUICE_OK);
    json_decref(list);
    size_t bytes = strlen(text);
    for (size_t at = 0; at < bytes; at += piece) {
        if (tag.start != SIZE_MAX && (at >= tag.told || tag.start < at + piece))
            answer_end_thoughts(answer, tag.start, tag.start + tag.bytes);
        assert_int_equal(answer_push(answer, text + at, bytes - at < piece ? bytes - at : piece, &delta), SLUICE_OK);
        add(result, &delta);
    }
    assert_int_equal(answer_finish(answer, &delta, &result->calls), SLUICE_OK);
    add(result, &delta);
    assert_int_equal(text_buffer_append(&result->reasoning, "", 1), SLUICE_OK);
    assert_int_equal(text_buffer_append(&result->content, "", 1), SLUICE_OK);
    answer_destroy(answer);
}

static void expect_result(struct result *result, const char *reasoning, const char *content, const char *calls)
{
    assert_string_equal(result->reasoning.data, reasoning);
    assert_string_equal(result->content.data, content);
    expect_json(result->calls, calls);
    text_buffer_finish(&result->reasoning);
    text_buffer_finish(&result->content);
    json_decref(result->calls);
}

static void expect_answer(enum answer_thoughts thoughts, bool with_tools, const char *text, const char *reasoning,
                          const char *content, const char *calls)
{
    for (size_t piece = 1; piece <= strlen(text) + 1; piece++) {
        struct result result;
        stream(thoughts, with_tools, text, piece, (struct tag){SIZE_MAX, 0, 0}, &result);
        expect_result(&result, reasoning, content, calls);
    }
}

// A tokenizer with the token </think>, which is sampled where `before` ends and then stands in the text as `tag`. It is
// told with its own text, or as much as the whole answer earlier, because text before it was held back.
static void expect_tagged(const char *before, const char *tag, const char *after, const char *reasoning,
                          const char *content, const char *calls)
{
    struct text_buffer text = {0};
    assert_int_equal(text_buffer_append_string(&text, before), SLUICE_OK);
    assert_int_equal(text_buffer_append_string(&text, tag), SLUICE_OK);
    assert_int_equal(text_buffer_append_string(&text, after), SLUICE_OK);
    assert_int_equal(text_buffer_terminate(&text), SLUICE_OK);
    for (size_t piece = 1; piece <= text.bytes + 1; piece++)
        for (size_t told = 0; told <= strlen(before); told++) {
            struct result result;
            stream(ANSWER_THOUGHTS_TO_TOKEN, true, text.data, piece, (struct tag){strlen(before), strlen(tag), told},
                   &result);
            expect_result(&result, reasoning, content, calls);
        }
    text_buffer_finish(&text);
}

// Thoughts would be shown as the answer, or the answer hidden among them.
static void thoughts_end_at_the_first_closing_tag(void **state)
{
    (void)state;
    const enum answer_thoughts thinking = ANSWER_THOUGHTS_TO_TEXT;
    expect_answer(thinking, false, "I think.\n</think>\n\nHello </think>!", "I think.", "Hello </think>!", "[]");
    expect_answer(thinking, false, "<think>\nI think.\n</think>\n\nHello!", "I think.", "Hello!", "[]");
    expect_answer(thinking, false, "\n\n</think>\n\nHello!\n", "", "Hello!\n", "[]");
    expect_answer(thinking, false, "cut off </thi", "cut off </thi", "", "[]");
    expect_answer(thinking, false, "", "", "", "[]");
    expect_answer(thinking, false, "<thi", "<thi", "", "[]");
    expect_answer(ANSWER_WITHOUT_THOUGHTS, false, " a </think> b ", "", " a </think> b ", "[]");
}

// A model that thinks about a page on chat templates and quotes it: half of its thoughts would be shown as its answer.
static void thoughts_end_at_the_token_where_there_is_one(void **state)
{
    (void)state;
    const enum answer_thoughts thinking = ANSWER_THOUGHTS_TO_TOKEN;
    static const char tag[] = "</think>";
    expect_tagged("It says </think> here.\n", tag, "\n\nA </think>!", "It says </think> here.", "A </think>!", "[]");
    expect_tagged("<think>\nI think.\n", tag, "Hello!\n", "I think.", "Hello!\n", "[]");
    expect_tagged("\n", tag, "\n\nHello!", "", "Hello!", "[]");
    expect_tagged("", tag, "", "", "", "[]");
    expect_tagged("a</thi", tag, "nk>b", "a</thi", "nk>b", "[]");
    expect_tagged("Need it. <tool_call>", tag, "\n<tool_call>\n{\"name\":\"f\",\"arguments\":{}}\n</tool_call>",
                  "Need it. <tool_call>", "", "[{\"name\":\"f\",\"arguments\":{}}]");
    expect_answer(thinking, false, "cut off </think> and on </thi", "cut off </think> and on </thi", "", "[]");
    expect_answer(thinking, false, "", "", "", "[]");
    expect_tagged("\nI think.", "", "Hello </think>!", "I think.", "Hello </think>!", "[]"); // the token gives no text
    expect_tagged(" ", "", "\n\nHello!", "", "Hello!", "[]");
}

// After the first </think> another is a part of the answer.
static void only_the_first_token_ends_thoughts(void **state)
{
    (void)state;
    struct answer *answer;
    struct answer_delta delta;
    json_t *calls;
    assert_int_equal(answer_create(ANSWER_THOUGHTS_TO_TOKEN, NULL, &answer), SLUICE_OK);
    answer_end_thoughts(answer, 1, 9);
    answer_end_thoughts(answer, 10, 18);
    assert_int_equal(answer_push(answer, "a</think>b</think>c", 19, &delta), SLUICE_OK);
    assert_int_equal(delta.reasoning_bytes, 1);
    assert_int_equal(delta.content_bytes, 10);
    assert_memory_equal(delta.content, "b</think>c", 10);
    assert_int_equal(answer_finish(answer, &delta, &calls), SLUICE_OK);
    json_decref(calls);
    answer_destroy(answer);
}

// A stop string may lie across the token: what is left of it is neither thought nor answer.
static void a_token_cut_short_is_left_out(void **state)
{
    (void)state;
    struct answer *answer;
    struct answer_delta delta;
    json_t *calls;
    assert_int_equal(answer_create(ANSWER_THOUGHTS_TO_TOKEN, NULL, &answer), SLUICE_OK);
    answer_end_thoughts(answer, 2, 10);
    assert_int_equal(answer_push(answer, "a </th", 6, &delta), SLUICE_OK);
    assert_int_equal(delta.reasoning_bytes, 1);
    assert_int_equal(answer_finish(answer, &delta, &calls), SLUICE_OK);
    assert_int_equal(delta.reasoning_bytes + delta.content_bytes, 0);
    json_decref(calls);
    answer_destroy(answer);
}

// A streaming client would see half of "<tool_call>" as text.
static void calls_are_held_back_until_the_end(void **state)
{
    (void)state;
    static const char call[] = "[{\"name\":\"f\",\"arguments\":{\"s\":\"x\"}}]";
    expect_answer(
        ANSWER_THOUGHTS_TO_TEXT, true,
        "Need it.\n</think>\n\nSure. \n<tool_call>\n{\"name\":\"f\",\"arguments\":{\"s\":\"x\"}}\n</tool_call>",
        "Need it.", "Sure.", call);
    expect_answer(ANSWER_WITHOUT_THOUGHTS, true,
                  "<function=f>\n<parameter=s>\nx\n</parameter>\n</function>\n</tool_call>", "", "", call);
    expect_answer(ANSWER_WITHOUT_THOUGHTS, true, "a <tool> b <func c \n", "", "a <tool> b <func c \n", "[]");
    expect_answer(ANSWER_WITHOUT_THOUGHTS, true, "a <tool_call", "", "a <tool_call", "[]");
    expect_answer(ANSWER_WITHOUT_THOUGHTS, true, "a\n<tool_call>b", "", "a\n<tool_call>b", "[]");
    expect_answer(ANSWER_WITHOUT_THOUGHTS, false, "a <tool_call>{\"name\":\"f\"}</tool_call>", "",
                  "a <tool_call>{\"name\":\"f\"}</tool_call>", "[]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_calls),
        cmocka_unit_test(damaged_json_calls),
        cmocka_unit_test(what_is_no_call_stays_text),
        cmocka_unit_test(xml_calls),
        cmocka_unit_test(values_may_contain_tags),
        cmocka_unit_test(damaged_xml_calls),
        cmocka_unit_test(values_take_their_declared_type),
        cmocka_unit_test(random_answers_are_survived),
        cmocka_unit_test(many_unfinished_calls_take_linear_time),
        cmocka_unit_test(thoughts_end_at_the_first_closing_tag),
        cmocka_unit_test(thoughts_end_at_the_token_where_there_is_one),
        cmocka_unit_test(only_the_first_token_ends_thoughts),
        cmocka_unit_test(a_token_cut_short_is_left_out),
        cmocka_unit_test(calls_are_held_back_until_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
