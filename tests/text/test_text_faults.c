// What the world can do to the text layer: no memory, and damaged files.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "runtime/text/answer.h"
#include "runtime/text/chat.h"
#include "runtime/text/detokenizer.h"
#include "runtime/text/sampler.h"
#include "runtime/text/stop.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/toolcall.h"
#include "tests/text/text_data.h"

// ---- no memory

static void *jansson_alloc(size_t bytes)
{
    return mem_alloc(bytes, 1);
}

struct scenario {
    char *tokenizer_json;
    json_t *messages, *tools;
    struct tokenizer *tokenizer;
};

static const char config_json[] =
    "{\"added_tokens_decoder\": {\"300\": {\"content\": \"<x>\"}}, \"chat_template\": \"T\"}";

static enum sluice_status create_tokenizer(struct scenario *s)
{
    struct tokenizer *tokenizer;
    enum sluice_status status =
        tokenizer_create(s->tokenizer_json, strlen(s->tokenizer_json), config_json, sizeof config_json - 1, &tokenizer);
    assert_true(status < 0 ? tokenizer == NULL : tokenizer != NULL);
    tokenizer_destroy(tokenizer);
    return status;
}

static enum sluice_status encode_and_decode(struct scenario *s)
{
    static const char text[] =
        "e\u0301\xFF <|im_end|> aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "\u0301\u0316\u0301\u0316\u0301\u0316\u0301\u0316\u0301\u0316\u0301\u0316\u0301\u0316\u0301"
        "\u0316\u0301\u0316\u0301\u0316\u0301\u0316\u0301\u0316\u0301\u0316\u0301\u0316\u0301\u0316"
        "\u0301\u0316\u0301\u0316\u0301\u0316";
    int32_t *ids;
    char *decoded = NULL;
    size_t count, bytes;
    enum sluice_status status = tokenizer_encode(s->tokenizer, text, sizeof text - 1, true, &ids, &count);
    if (status == SLUICE_OK)
        status = tokenizer_decode(s->tokenizer, ids, count, false, &decoded, &bytes);
    mem_free(ids);
    mem_free(decoded);
    return status;
}

static enum sluice_status render(struct scenario *s, enum chat_template kind)
{
    struct chat_prompt prompt;
    enum sluice_status status = chat_render(kind, s->messages, s->tools, true, &prompt);
    assert_true(status == SLUICE_OK || !prompt.text.data);
    chat_prompt_finish(&prompt);
    return status;
}

static enum sluice_status render_thinking(struct scenario *s)
{
    return render(s, CHAT_TEMPLATE_THINKING);
}

static enum sluice_status render_coder(struct scenario *s)
{
    return render(s, CHAT_TEMPLATE_CODER);
}

static enum sluice_status find_template(struct scenario *s)
{
    char *found;
    (void)s;
    enum sluice_status status = chat_template_find(NULL, 0, config_json, sizeof config_json - 1, &found);
    mem_free(found);
    return status;
}

static enum sluice_status parse_answer(struct scenario *s)
{
    static const char text[] =
        "thought</think>text<tool_call>{\"name\":\"f\",\"arguments\":{\"s\":\"a\nb\"}}</tool_call>"
        "<function=f><parameter=s>x</parameter></function>";
    struct answer *answer;
    struct answer_delta delta;
    json_t *calls = NULL;
    enum sluice_status status = answer_create(ANSWER_THOUGHTS_TO_TEXT, s->tools, &answer);
    if (status == SLUICE_OK)
        status = answer_push(answer, text, sizeof text - 1, &delta);
    if (status == SLUICE_OK)
        status = answer_finish(answer, &delta, &calls);
    json_decref(calls);
    answer_destroy(answer);
    return status;
}

static enum sluice_status create_others(struct scenario *s)
{
    static const char *const strings[] = {"ab", "cd"};
    struct detokenizer *detokenizer = NULL;
    struct sampler *sampler = NULL;
    struct stop *stop = NULL;
    struct sampler_options options = sampler_options_default();
    const char *out;
    size_t bytes;
    int found;
    enum sluice_status status = detokenizer_create(s->tokenizer, false, &detokenizer);
    if (status == SLUICE_OK)
        status = sampler_create(&options, 10, &sampler);
    if (status == SLUICE_OK)
        status = sampler_bias(sampler, 3, 1);
    if (status == SLUICE_OK)
        status = stop_create(strings, 2, NULL, 0, &stop);
    if (status == SLUICE_OK)
        status = stop_push(stop, "xyz", 3, &out, &bytes, &found);
    detokenizer_destroy(detokenizer);
    sampler_destroy(sampler);
    stop_destroy(stop);
    return status;
}

// Whether the failure at allocation `at` is still to come: then the scenario needs fewer allocations.
static bool is_pending(uint64_t at)
{
    bool pending = false;
    for (uint64_t i = 0; i <= at && !pending; i++) {
        void *probe = mem_alloc(1, 1);
        pending = !probe;
        mem_free(probe);
    }
    mem_fail_at(UINT64_MAX);
    return pending;
}

// `lenient`: only that nothing crashes or leaks. jansson takes some of its own failed allocations for a syntax error,
// and some of PCRE2's are only for speed.
static void sweep(struct scenario *s, enum sluice_status (*run)(struct scenario *), bool lenient)
{
    for (uint64_t at = 0;; at++) {
        assert_true(at < 100000);
        error_set(SLUICE_OK, "no message");
        mem_fail_at(at);
        enum sluice_status status = run(s);
        if (is_pending(at)) {
            assert_int_equal(status, SLUICE_OK);
            assert_true(at > 0);
            break;
        }
        if (lenient || (status == SLUICE_OK && run == create_tokenizer))
            continue;
        if (status != SLUICE_ERR_MEMORY)
            print_error("allocation %u: %s\n", (unsigned)at, error_message());
        assert_int_equal(status, SLUICE_ERR_MEMORY);
        assert_non_null(strstr(error_message(), "memory"));
    }
}

static void sweep_all(struct scenario *s, bool lenient)
{
    sweep(s, encode_and_decode, lenient);
    sweep(s, render_thinking, lenient);
    sweep(s, render_coder, lenient);
    sweep(s, find_template, lenient);
    sweep(s, parse_answer, lenient);
    sweep(s, create_others, lenient);
    sweep(s, create_tokenizer, lenient);
}

static void with_scenario(void (*run)(struct scenario *, bool), bool lenient)
{
    static const char *const merges[] = {"a a", "aa aa", NULL};
    json_t *file = data_small_tokenizer(merges);
    struct scenario s = {
        .tokenizer_json = json_dumps(file, JSON_COMPACT),
        .tokenizer = data_tokenizer(file),
        .messages =
            json_loads("[{\"role\":\"user\",\"content\":[\"a\",\"b\"]},{\"role\":\"assistant\",\"content\":"
                       "\"<think>t</think>c\",\"tool_calls\":[{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":[1,2.5,"
                       "\\\"s\\\"]}\"}]},{\"role\":\"tool\",\"content\":\"r\"}]",
                       0, NULL),
        .tools =
            json_loads("[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\" d \",\"parameters\":"
                       "{\"properties\":{\"s\":{\"type\":[\"string\"]}},\"required\":[\"s\"]}}}]",
                       0, NULL),
    };
    run(&s, lenient);
    free(s.tokenizer_json);
    tokenizer_destroy(s.tokenizer);
    json_decref(s.messages);
    json_decref(s.tools);
    json_decref(file);
}

// Out of memory must be a message that says so, not a crash or a wrong result.
static void every_allocation_may_fail(void **state)
{
    (void)state;
    with_scenario(sweep_all, false);
}

// The JSON library's allocations must not crash the program or leak either.
static void every_allocation_of_the_json_library_may_fail(void **state)
{
    (void)state;
    json_set_alloc_funcs(jansson_alloc, mem_free);
    with_scenario(sweep_all, true);
    json_set_alloc_funcs(malloc, free);
}

// ---- damaged files

// Whatever a tokenizer.json contains, it must give a message or a tokenizer that works.
static void expect_message_or_tokenizer(const char *text, size_t bytes)
{
    static const char sample[] = "The 3 quick\n\n  <|im_end|>\u00E9\u0301 \u4F60";
    struct tokenizer *tokenizer;
    int32_t *ids;
    char *decoded;
    size_t count, decoded_bytes;
    error_set(SLUICE_OK, "%s", "");
    enum sluice_status status = tokenizer_create(text, bytes, NULL, 0, &tokenizer);
    if (status < 0) {
        assert_true(status == SLUICE_ERR_FORMAT || status == SLUICE_ERR_UNSUPPORTED);
        assert_true(strlen(error_message()) > 20);
        return;
    }
    assert_int_equal(tokenizer_encode(tokenizer, sample, sizeof sample - 1, true, &ids, &count), SLUICE_OK);
    assert_int_equal(tokenizer_decode(tokenizer, ids, count, false, &decoded, &decoded_bytes), SLUICE_OK);
    mem_free(ids);
    mem_free(decoded);
    tokenizer_destroy(tokenizer);
}

// A download that was cut off or damaged, or a file made to harm.
static void damaged_files_are_survived(void **state)
{
    (void)state;
    size_t bytes;
    char *text = data_read("../../tools/demo/tokenizer.json", &bytes), *copy = malloc(bytes);
    const char *vocab = strstr(text, "\"vocab\"");
    uint64_t seed = 4242;
    for (int round = 0; round < 200; round++) {
        memcpy(copy, text, bytes);
        size_t head = (size_t)(vocab - text), length = bytes;
        for (uint64_t changes = 1 + random_next(&seed) % 3; changes > 0; changes--) {
            size_t at = random_next(&seed) % (round % 2 ? head : bytes); // half of them before the vocabulary
            copy[at] = "\"{}[],:0129-eE\\ntx\xFF\xC3 "[random_next(&seed) % 22];
        }
        if (round % 10 == 0)
            length = random_next(&seed) % bytes;
        expect_message_or_tokenizer(copy, length);
    }
    free(copy);
    free(text);
}

// Replaces the value at `path` ("model.type") of a good file and expects a failure that mentions `complaint`.
static void expect_complaint(const char *path, const char *value, const char *complaint)
{
    static const char *const merges[] = {"a a", NULL};
    char key[64];
    json_t *file = data_small_tokenizer(merges), *parent = file;
    const char *dot;
    for (; (dot = strchr(path, '.')) != NULL; path = dot + 1) {
        snprintf(key, sizeof key, "%.*s", (int)(dot - path), path);
        parent = json_is_array(parent) ? json_array_get(parent, (size_t)atoi(key)) : json_object_get(parent, key);
        assert_non_null(parent);
    }
    if (value) {
        json_t *parsed = json_loads(value, JSON_DECODE_ANY, NULL);
        assert_non_null(parsed);
        if (json_is_array(parent))
            json_array_set_new(parent, (size_t)atoi(path), parsed);
        else
            json_object_set_new(parent, path, parsed);
    } else {
        json_object_del(parent, path);
    }
    char *text = json_dumps(file, 0);
    struct tokenizer *tokenizer;
    assert_true(tokenizer_create(text, strlen(text), NULL, 0, &tokenizer) < 0);
    if (!strstr(error_message(), complaint))
        fail_msg("\"%s\" is not in \"%s\"", complaint, error_message());
    free(text);
    json_decref(file);
}

// The user could not tell what is wrong with a file, or whether another program would read it.
static void complaints_name_the_entry(void **state)
{
    (void)state;
    expect_complaint("model", NULL, "model is missing");
    expect_complaint("model.type", "\"Unigram\"", "Unigram");
    expect_complaint("model.dropout", "0.1", "dropout");
    expect_complaint("model.end_of_word_suffix", "\"</w>\"", "end_of_word_suffix");
    expect_complaint("model.vocab", "[]", "model.vocab");
    expect_complaint("model.vocab", "{}", "the byte 0x00");
    expect_complaint("model.vocab.a", "-1", "the id of \"a\"");
    expect_complaint("model.vocab.a", "4194304", "the id of \"a\"");
    expect_complaint("model.vocab.a", "98", "is used twice");
    expect_complaint("model.vocab.", "5000", "is empty");
    expect_complaint("model.merges", "{}", "model.merges");
    expect_complaint("model.merges.0", "\"aa\"", "model.merges[0]");
    expect_complaint("model.merges.0", "\"a b c\"", "model.merges[0]");
    expect_complaint("model.merges.0", "[\"a\"]", "model.merges[0]");
    expect_complaint("model.merges.0", "[\"a\", \"zz\"]", "joins \"a\" and \"zz\"");
    expect_complaint("model.merges.0", "\" a\"", "model.merges[0]");
    expect_complaint("normalizer", "{\"type\": \"NFKC\"}", "NFKC");
    expect_complaint("pre_tokenizer", "null", "pre_tokenizer");
    expect_complaint("pre_tokenizer", "{\"type\": \"Whitespace\"}", "Whitespace");
    expect_complaint("pre_tokenizer.pretokenizers.0.pattern.Regex", "\"(\"", "regular expression");
    expect_complaint("pre_tokenizer.pretokenizers.0.pattern.Regex", "7", "Regex");
    expect_complaint("pre_tokenizer.pretokenizers.0.behavior", "\"Removed\"", "pre_tokenizer");
    expect_complaint("pre_tokenizer.pretokenizers.1.add_prefix_space", "true", "add_prefix_space");
    expect_complaint("added_tokens", "{}", "added_tokens");
    expect_complaint("added_tokens.0", "{\"id\": 1}", "added_tokens[0]");
    expect_complaint("added_tokens.0", "{\"id\": -1, \"content\": \"x\"}", "the id of \"x\"");
    expect_complaint("added_tokens.0", "{\"id\": 97, \"content\": \"x\"}", "another token");
    expect_complaint("added_tokens.0", "{\"id\": 900, \"content\": \"\"}", "no content");
    expect_complaint("added_tokens.0", "{\"id\": 900, \"content\": \"<think>\"}", "two ids");
    expect_complaint("added_tokens.0", "{\"id\": 900, \"content\": \"x\", \"lstrip\": true}", "lstrip");
    expect_complaint("added_tokens.0", "{\"id\": 900, \"content\": \"\\u001b[2J\", \"rstrip\": true}", "\\u001b[2J");
}

// The same for tokenizer_config.json.
static void damaged_configs_are_refused(void **state)
{
    (void)state;
    static const char *const configs[] = {"",
                                          "[]",
                                          "{\"added_tokens_decoder\": []}",
                                          "{\"added_tokens_decoder\": {\"x\": {}}}",
                                          "{\"added_tokens_decoder\": {\"99999999999999999999\": {}}}",
                                          "{\"added_tokens_decoder\": {\"5000\": {}}}",
                                          "{\"added_tokens_decoder\": {\"97\": {\"content\": \"b\"}}}"};
    static const char *const merges[] = {NULL};
    json_t *file = data_small_tokenizer(merges);
    char *text = json_dumps(file, 0);
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
        struct tokenizer *tokenizer;
        assert_int_equal(tokenizer_create(text, strlen(text), configs[i], strlen(configs[i]), &tokenizer),
                         SLUICE_ERR_FORMAT);
        assert_null(tokenizer);
        assert_non_null(strstr(error_message(), "tokenizer_config.json"));
    }
    struct tokenizer *tokenizer;
    assert_int_equal(tokenizer_create(text, strlen(text), config_json, sizeof config_json - 1, &tokenizer), SLUICE_OK);
    assert_int_equal(tokenizer_find(tokenizer, "<x>"), 300);
    assert_int_equal(tokenizer_vocab_size(tokenizer), 301);
    assert_false(tokenizer_has(tokenizer, 299));
    tokenizer_destroy(tokenizer);
    free(text);
    json_decref(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),   cmocka_unit_test(every_allocation_of_the_json_library_may_fail),
        cmocka_unit_test(damaged_files_are_survived),  cmocka_unit_test(complaints_name_the_entry),
        cmocka_unit_test(damaged_configs_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
