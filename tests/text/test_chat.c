#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/text/chat.h"
#include "runtime/text/python_text.h"
#include "tests/text/text_data.h"

static json_t *parse(const char *text)
{
    json_error_t error;
    json_t *value = json_loads(text, JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
    if (!value)
        print_error("%s: %s\n", text, error.text);
    assert_non_null(value);
    return value;
}

static void expect_render(enum chat_template kind, const char *messages, const char *tools, const char *wanted)
{
    json_t *list = parse(messages), *tool_list = parse(tools);
    struct chat_prompt prompt;
    enum sluice_status status = chat_render(kind, list, tool_list, true, &prompt);
    if (status < 0)
        print_error("%s\n", error_message());
    assert_int_equal(status, SLUICE_OK);
    assert_string_equal(prompt.text.data, wanted);
    chat_prompt_finish(&prompt);
    json_decref(list);
    json_decref(tool_list);
}

static void expect_refused(enum chat_template kind, const char *messages, const char *tools, const char *complaint)
{
    json_t *list = parse(messages), *tool_list = parse(tools);
    struct chat_prompt prompt;
    assert_int_equal(chat_render(kind, list, tool_list, true, &prompt), SLUICE_ERR_ARGUMENT);
    assert_null(prompt.text.data);
    assert_null(prompt.controls.list);
    if (!strstr(error_message(), complaint))
        fail_msg("\"%s\" is not in \"%s\"", complaint, error_message());
    json_decref(list);
    json_decref(tool_list);
}

// The model would see a prompt that differs from those it was trained on, and call tools wrongly or not at all.
static void prompts_equal_those_of_the_jinja_templates(void **state)
{
    (void)state;
    json_t *cases = data_json_lines("text/chat-cases.jsonl");
    assert_int_equal(json_array_size(cases), 126);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i), *wanted = json_object_get(one, "text");
        enum chat_template kind = chat_template_from_name(json_string_value(json_object_get(one, "template")));
        struct chat_prompt prompt;
        assert_int_equal(chat_render(kind, json_object_get(one, "messages"), json_object_get(one, "tools"),
                                     json_is_true(json_object_get(one, "add_generation_prompt")), &prompt),
                         SLUICE_OK);
        assert_string_equal(prompt.text.data, json_string_value(wanted));
        assert_int_equal(prompt.text.bytes, json_string_length(wanted));
        chat_prompt_finish(&prompt);
    }
    json_decref(cases);
}

// Agents send content as a list of parts; qwen-code does so in every request.
static void content_parts_are_joined(void **state)
{
    (void)state;
    expect_render(CHAT_TEMPLATE_INSTRUCT,
                  "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},\"b\",{\"text\":\"c\"}]}]",
                  "null", "<|im_start|>user\nabc<|im_end|>\n<|im_start|>assistant\n");
    expect_refused(CHAT_TEMPLATE_INSTRUCT, "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]", "null",
                   "messages[0].content[0] is not text");
}

// OpenAI clients send the arguments of earlier calls as a string of JSON.
static void arguments_may_be_a_string(void **state)
{
    (void)state;
    static const char messages[] =
        "[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":null,"
        "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":[1,2.50]}\"}}]}]";
    expect_render(CHAT_TEMPLATE_CODER, messages, "null",
                  "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<tool_call>\n<function=f>\n<parameter=x>\n"
                  "[1, 2.5]\n</parameter>\n</function>\n</tool_call><|im_end|>\n<|im_start|>assistant\n");
    expect_render(CHAT_TEMPLATE_INSTRUCT, messages, "null",
                  "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<tool_call>\n{\"name\": \"f\", \"arguments\": "
                  "{\"x\":[1,2.50]}}\n</tool_call><|im_end|>\n<|im_start|>assistant\n");
}

// A request that cannot be rendered must be answered with what is wrong, not with a guess.
static void impossible_messages_are_refused(void **state)
{
    (void)state;
    static const char user[] = "[{\"role\":\"user\",\"content\":\"q\"}]";
    expect_refused(CHAT_TEMPLATE_INSTRUCT, "[]", "null", "at least one message");
    expect_refused(CHAT_TEMPLATE_INSTRUCT, "{}", "null", "at least one message");
    expect_refused(CHAT_TEMPLATE_INSTRUCT, "[1]", "null", "messages[0]");
    expect_refused(CHAT_TEMPLATE_INSTRUCT, "[{\"role\":\"wizard\"}]", "null", "\"wizard\"");
    expect_refused(CHAT_TEMPLATE_INSTRUCT, "[{\"role\":\"user\",\"content\":7}]", "null", "messages[0].content");
    expect_refused(CHAT_TEMPLATE_INSTRUCT, user, "{}", "tools is not a list");
    expect_refused(CHAT_TEMPLATE_CODER, user, "[{\"type\":\"web_search\"}]", "tools[0]");
    expect_refused(CHAT_TEMPLATE_CODER, "[{\"role\":\"assistant\",\"tool_calls\":[{}]}]", "null",
                   "messages[0].tool_calls[0]");
    expect_refused(CHAT_TEMPLATE_CODER,
                   "[{\"role\":\"assistant\",\"tool_calls\":[{\"name\":\"f\",\"arguments\":\"{\"}]}]", "null",
                   "messages[0]: tool_calls");
    expect_refused(CHAT_TEMPLATE_CODER,
                   "[{\"role\":\"assistant\",\"tool_calls\":[{\"name\":\"f\",\"arguments\":[1]}]}]", "null",
                   "not an object");
    expect_refused(CHAT_TEMPLATE_UNKNOWN, user, "null", "--template");
}

// JSON schemas contain numbers, lists as types and missing parts, which Jinja writes as Python would.
static void schemas_are_written_as_python_writes_them(void **state)
{
    (void)state;
    static const char tools[] = "[{\"name\":\"f\",\"description\":null,\"strict\":true,\"parameters\":{\"properties\":{"
                                "\"a\":{\"type\":[\"string\","
                                "\"null\"],\"maximum\":1e16,\"minimum\":0.00001,\"default\":100.0},\"b\":true}}}]";
    struct chat_prompt prompt;
    json_t *messages = parse("[{\"role\":\"user\",\"content\":\"q\"}]"), *list = parse(tools);
    assert_int_equal(chat_render(CHAT_TEMPLATE_CODER, messages, list, true, &prompt), SLUICE_OK);
    assert_non_null(strstr(prompt.text.data,
                           "<function>\n<name>f</name>\n<description>None</description>\n<parameters>\n<parameter>\n"
                           "<name>a</name>\n<type>['string', 'null']</type>\n<maximum>1e+16</maximum>\n"
                           "<minimum>1e-05</minimum>\n<default>100.0</default>\n</parameter>\n<parameter>\n"
                           "<name>b</name>\n</parameter>\n</parameters>\n<strict>true</strict>\n</function>"));
    chat_prompt_finish(&prompt);
    json_decref(messages);
    json_decref(list);
}

// Numbers and escapes in tool definitions must have Python's spelling, or the prompt differs from the trained one.
static void json_is_spelt_as_in_python(void **state)
{
    (void)state;
    static const struct {
        const char *json, *dumps, *str;
    } cases[] = {
        {"[1,2]", "[1, 2]", "[1, 2]"},
        {"{\"b\":{},\"a\":[]}", "{\"b\": {}, \"a\": []}", "{'b': {}, 'a': []}"},
        {"[true,false,null]", "[true, false, null]", "[True, False, None]"},
        {"[0.1,1.0,-0.0,1e22,123456789012345680.0,1e-7,0.0001,9007199254740993,1.5e300,5e-324]",
         "[0.1, 1.0, -0.0, 1e+22, 1.2345678901234568e+17, 1e-07, 0.0001, 9007199254740993, 1.5e+300, 5e-324]",
         "[0.1, 1.0, -0.0, 1e+22, 1.2345678901234568e+17, 1e-07, 0.0001, 9007199254740993, 1.5e+300, 5e-324]"},
        {"[\"\\u0001\\u007f\\\"\\\\/\\n\\u2028\\u00e9<>&'\"]", "[\"\\u0001\x7f\\\"\\\\/\\n\u2028\u00e9<>&'\"]",
         "['\\x01\\x7f\"\\\\/\\n\\u2028\u00e9<>&\\'']"},
        {"[\"it's\"]", "[\"it's\"]", "[\"it's\"]"},
        {"[\"\\u200b\\ud83d\\ude00\\udb40\\udc01\"]", "[\"\u200b\U0001F600\U000E0001\"]",
         "['\\u200b\U0001F600\\U000e0001']"},
        {"\"plain\"", "\"plain\"", "plain"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *value = parse(cases[i].json);
        struct text_buffer dumps = {0}, str = {0};
        assert_int_equal(python_json_append(&dumps, value), SLUICE_OK);
        assert_int_equal(python_str_append(&str, value), SLUICE_OK);
        dumps.data[dumps.bytes] = str.data[str.bytes] = '\0';
        assert_string_equal(dumps.data, cases[i].dumps);
        assert_string_equal(str.data, cases[i].str);
        text_buffer_finish(&dumps);
        text_buffer_finish(&str);
        json_decref(value);
    }
}

#define CHATML "'<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n'"
#define HERMES \
    "For each function call <tool_call>\\n{\\\"name\\\": <function-name>, \\\"arguments\\\": <args>}\\n</tool_call>"

// With the wrong template the model answers nonsense; an unknown one must be reported instead of guessed.
static void templates_are_recognised_by_what_they_write(void **state)
{
    (void)state;
    static const struct {
        const char *jinja;
        enum chat_template kind;
    } cases[] = {
        {CHATML "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}", CHAT_TEMPLATE_INSTRUCT},
        {"{%- if tools %}" HERMES CHATML "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}",
         CHAT_TEMPLATE_INSTRUCT},
        {"{%- if tools %}" HERMES CHATML "{%- if '</think>' in content %}"
         "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}",
         CHAT_TEMPLATE_THINKING},
        {"<tool_call>\\n<function=example>\\n<parameter=p>" CHATML "{%- if add_generation_prompt %}",
         CHAT_TEMPLATE_CODER},
        // Qwen3.5: XML calls and thoughts. Qwen3: a switch. Qwen2.5: a default system message. Others: no ChatML.
        {"<tool_call>\\n<function=example>\\n<parameter=p>" CHATML "</think>", CHAT_TEMPLATE_UNKNOWN},
        {"{%- if tools %}" HERMES CHATML "</think>{%- if add_generation_prompt %}{%- if enable_thinking is defined",
         CHAT_TEMPLATE_UNKNOWN},
        {CHATML "You are Qwen, created by Alibaba Cloud.", CHAT_TEMPLATE_UNKNOWN},
        {"[INST] {{ message.content }} [/INST]", CHAT_TEMPLATE_UNKNOWN},
        {"", CHAT_TEMPLATE_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(chat_template_recognise(cases[i].jinja), cases[i].kind);
    assert_int_equal(chat_template_unknown_message("{# my template #}\nx"), SLUICE_ERR_UNSUPPORTED);
    assert_non_null(strstr(error_message(), "{# my template #}"));
    assert_non_null(strstr(error_message(), "--template"));
}

// Names that the user types.
static void templates_have_names(void **state)
{
    (void)state;
    assert_int_equal(chat_template_from_name("instruct"), CHAT_TEMPLATE_INSTRUCT);
    assert_int_equal(chat_template_from_name("thinking"), CHAT_TEMPLATE_THINKING);
    assert_int_equal(chat_template_from_name("coder"), CHAT_TEMPLATE_CODER);
    assert_int_equal(chat_template_from_name("unknown"), CHAT_TEMPLATE_UNKNOWN);
    assert_int_equal(chat_template_from_name("Instruct"), CHAT_TEMPLATE_UNKNOWN);
}

static void expect_found(const char *jinja, const char *config, enum sluice_status wanted_status, const char *wanted)
{
    char *found;
    assert_int_equal(chat_template_find(jinja, jinja ? strlen(jinja) : 0, config, config ? strlen(config) : 0, &found),
                     wanted_status);
    if (wanted)
        assert_string_equal(found, wanted);
    else
        assert_null(found);
    mem_free(found);
}

// Older and newer repositories keep the template in different places.
static void templates_are_found_where_checkpoints_keep_them(void **state)
{
    (void)state;
    expect_found("J", "{\"chat_template\": \"C\"}", SLUICE_OK, "J");
    expect_found(NULL, "{\"chat_template\": \"C\"}", SLUICE_OK, "C");
    expect_found(NULL,
                 "{\"chat_template\": [{\"name\": \"x\", \"template\": \"X\"}, {\"name\": \"default\", \"template\": "
                 "\"D\"}]}",
                 SLUICE_OK, "D");
    expect_found(NULL, "{\"chat_template\": [{\"name\": \"x\", \"template\": \"X\"}]}", SLUICE_OK, "X");
    expect_found(NULL, "{}", SLUICE_OK, NULL);
    expect_found(NULL, NULL, SLUICE_OK, NULL);
    expect_found(NULL, "{\"chat_template\": 3}", SLUICE_ERR_FORMAT, NULL);
    expect_found(NULL, "{\"chat_template\": []}", SLUICE_ERR_FORMAT, NULL);
    expect_found(NULL, "{", SLUICE_ERR_FORMAT, NULL);
}

// The demo checkpoint has a plain ChatML template of its own.
static void demo_template_is_instruct(void **state)
{
    (void)state;
    size_t bytes;
    char *config = data_read("../../tools/demo/tokenizer_config.json", &bytes), *found;
    assert_int_equal(chat_template_find(NULL, 0, config, bytes, &found), SLUICE_OK);
    assert_int_equal(chat_template_recognise(found), CHAT_TEMPLATE_INSTRUCT);
    mem_free(found);
    free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_equal_those_of_the_jinja_templates),
        cmocka_unit_test(content_parts_are_joined),
        cmocka_unit_test(arguments_may_be_a_string),
        cmocka_unit_test(impossible_messages_are_refused),
        cmocka_unit_test(schemas_are_written_as_python_writes_them),
        cmocka_unit_test(json_is_spelt_as_in_python),
        cmocka_unit_test(templates_are_recognised_by_what_they_write),
        cmocka_unit_test(templates_have_names),
        cmocka_unit_test(templates_are_found_where_checkpoints_keep_them),
        cmocka_unit_test(demo_template_is_instruct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
