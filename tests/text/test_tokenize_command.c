// `sluice tokenize`, run in a child process on the demo model and on damaged ones.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "tests/text/text_data.h"
#include "tools/commands.h"
#include "tools/text_load.h"

#define DEMO TEST_DATA "/../../tools/demo"

static char directory[] = "/tmp/sluice-tokenize-XXXXXX";

static const char *file_in(const char *name)
{
    static char path[16][256];
    static unsigned next;
    char *text = path[next++ % 16];
    snprintf(text, sizeof path[0], "%s/%s", directory, name);
    return text;
}

static void write_file(const char *name, const char *text, size_t bytes)
{
    FILE *file = fopen(file_in(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

// The whole of a file in the directory; valid until the next call.
static const char *read_back(const char *name)
{
    static char *text;
    static size_t capacity;
    FILE *file = fopen(file_in(name), "rb");
    assert_non_null(file);
    if (getdelim(&text, &capacity, '\0', file) < 0)
        text[0] = '\0';
    fclose(file);
    return text;
}

static int create_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    static const char *const names[] = {"in",
                                        "out",
                                        "err",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "chat_template.jinja",
                                        "generation_config.json",
                                        "config.json"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unlink(file_in(names[i]));
    return rmdir(directory);
}

static int run_child(char **arguments, int count)
{
    if (!freopen(file_in("in"), "r", stdin) || !freopen(file_in("out"), "w", stdout) ||
        !freopen(file_in("err"), "w", stderr))
        return 99;
    return cmd_tokenize(count, arguments);
}

// Runs the command; the output is in "out", the messages in "err".
static int run(const char *model, const char *option, const char *value, const char *input)
{
    const char *arguments[] = {"tokenize", model, option, value, NULL};
    int count = option ? value ? 4 : 3 : 2, status;
    write_file("in", input, strlen(input));
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        exit(run_child((char **)arguments, count));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

// A script that talks to the program line by line would break.
static void lines_are_answered(void **state)
{
    (void)state;
    static const char input[] = "{\"text\": \"a<|im_end|>\"}\n\n{\"ids\": [64, 2047]}\n{\"text\": \"\"}\n"
                                "{\"ids\": [64, 2047], \"skip_special\": true}\n{\"text\": \"\\u0000\xC3\xA9\"}\n";
    assert_int_equal(run(DEMO, NULL, NULL, input), 0);
    const char *out = read_back("out");
    assert_string_equal(read_back("err"), "");
    out = read_back("out");
    assert_non_null(
        strstr(out, "{\"ids\": [64, 2047]}\n{\"text\": \"a<|im_end|>\"}\n{\"ids\": []}\n{\"text\": \"a\"}\n"));
    assert_int_equal(run(DEMO "/tokenizer.json", "--decode", NULL, "[64, 64]\n{\"ids\": [64]}\n{\"text\": \"aa\"}"), 0);
    assert_string_equal(read_back("out"), "{\"text\": \"aa\"}\n{\"text\": \"a\"}\n{\"ids\": [64, 64]}\n");
}

// Text beyond ASCII must come back as it is, unescaped.
static void text_is_utf8(void **state)
{
    (void)state;
    char input[512];
    assert_int_equal(run(DEMO, NULL, NULL, "{\"text\": \"\u4F60 \U0001F600\"}\n"), 0);
    const char *ids = read_back("out");
    snprintf(input, sizeof input, "%s", ids);
    assert_int_equal(run(DEMO, NULL, NULL, input), 0);
    assert_string_equal(read_back("out"), "{\"text\": \"\u4F60 \U0001F600\"}\n");
}

// Conversations must be rendered with the template that the user asked for.
static void conversations_are_rendered(void **state)
{
    (void)state;
    static const char input[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"tools\": null, "
                                "\"add_generation_prompt\": true}\n{\"messages\": [{\"role\": \"user\", \"content\": "
                                "\"a\"}], \"add_generation_prompt\": false}\n";
    assert_int_equal(run(DEMO, NULL, NULL, input), 0);
    const char *out = read_back("out");
    assert_non_null(
        strstr(out, "{\"text\": \"<|im_start|>user\\na<|im_end|>\\n<|im_start|>assistant\\n\", \"ids\": [2046, "));
    assert_non_null(strstr(out, "\n{\"text\": \"<|im_start|>user\\na<|im_end|>\\n\", \"ids\": [2046, "));
    assert_int_equal(run(DEMO, "--template", "thinking", input), 0);
    assert_non_null(strstr(read_back("out"), "assistant\\n<think>\\n\""));
    assert_int_equal(run(DEMO "/tokenizer.json", NULL, NULL, input), 1);
    assert_non_null(strstr(read_back("err"), "--template"));
    assert_int_equal(run(DEMO, "--template", "chatml", input), 2);
}

// A script that asks how a conversation reaches the model would be told another answer than `run` and `summarize` give;
// one that compares with Hugging Face needs theirs.
static void control_tokens_in_messages_are_text_unless_asked(void **state)
{
    (void)state;
    static const char input[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"<|im_end|>\"}], \"add_generation_prompt\": false}\n"
        "{\"messages\": [{\"role\": \"user\", \"content\": \"<|im_end|>\"}], \"add_generation_prompt\": false, "
        "\"added_tokens\": true}\n{\"text\": \"<|im_end|>\", \"added_tokens\": false}\n{\"text\": \"<|im_end|>\"}\n";
    static const size_t wanted[] = {1, 2, 0, 1};
    assert_int_equal(run(DEMO, NULL, NULL, input), 0);
    const char *line = read_back("out");
    for (size_t i = 0; i < 4; i++) {
        json_t *answer = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL), *ids = json_object_get(answer, "ids");
        size_t ends = 0;
        for (size_t j = 0; j < json_array_size(ids); j++)
            ends += json_integer_value(json_array_get(ids, j)) == 2047;
        assert_int_equal(ends, wanted[i]);
        assert_true(json_array_size(ids) > 0);
        json_decref(answer);
        line = strchr(line, '\n') + 1;
    }
}

// A bad line must be named, after the answers to those before it.
static void a_bad_line_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *line, *message;
    } cases[] = {
        {"{", "line 2: the line is not valid JSON"},
        {"{}", "line 2: not an object with"},
        {"[1]", "line 2: not an object with"},
        {"{\"text\": 1}", "line 2: \"text\" is not a string"},
        {"{\"ids\": 1}", "line 2: \"ids\" is not a list"},
        {"{\"ids\": [1, -1]}", "line 2: number 1 of the ids"},
        {"{\"ids\": [1, 4000000000]}", "line 2: number 1 of the ids"},
        {"{\"ids\": [2048]}", "line 2: 2048 (number 0) is not a token"},
        {"{\"messages\": []}", "line 2: messages is not a list"},
        {"{\"text\": \"\xFF\"}", "line 2: the line is not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char input[256];
        snprintf(input, sizeof input, "{\"text\": \"a\"}\n%s\n{\"text\": \"b\"}\n", cases[i].line);
        assert_int_equal(run(DEMO, NULL, NULL, input), 1);
        assert_string_equal(read_back("out"), "{\"ids\": [64]}\n");
        const char *err = read_back("err");
        if (!strstr(err, cases[i].message) || strchr(err, '\n') != err + strlen(err) - 1)
            fail_msg("%s: %s", cases[i].line, err);
    }
}

// A wrong path or file must be explained.
static void models_that_cannot_be_read(void **state)
{
    (void)state;
    assert_int_equal(run(file_in("missing"), NULL, NULL, ""), 1);
    assert_non_null(strstr(read_back("err"), "missing: No such file"));
    assert_int_equal(run(directory, NULL, NULL, ""), 1);
    assert_non_null(strstr(read_back("err"), "no tokenizer.json"));
    write_file("tokenizer.json", "{}", 2);
    assert_int_equal(run(directory, NULL, NULL, ""), 1);
    assert_non_null(strstr(read_back("err"), "tokenizer.json: pre_tokenizer"));
    write_file("tokenizer.json", "not a container", 15);
    assert_int_equal(run(file_in("tokenizer.json"), NULL, NULL, ""), 1);
    assert_int_equal(run(directory, "--bogus", NULL, ""), 2);
    assert_int_equal(run(directory, "--help", NULL, ""), 0);
    assert_non_null(strstr(read_back("out"), "usage: sluice tokenize"));
}

static void load(const char *generation, const char *jinja, struct text_bundle *bundle)
{
    size_t bytes;
    char *tokenizer = data_read("../../tools/demo/tokenizer.json", &bytes);
    write_file("tokenizer.json", tokenizer, bytes);
    write_file("generation_config.json", generation, strlen(generation));
    write_file("chat_template.jinja", jinja, strlen(jinja));
    write_file("config.json", "{\"eos_token_id\": 2045}", 22);
    free(tokenizer);
    assert_int_equal(text_load(directory, bundle), SLUICE_OK);
}

// The model would be sampled with other settings than its makers recommend, or not stop.
static void generation_defaults_are_read(void **state)
{
    (void)state;
    struct text_bundle bundle;
    assert_int_equal(text_load(DEMO, &bundle), SLUICE_OK);
    assert_int_equal(bundle.template, CHAT_TEMPLATE_INSTRUCT);
    assert_int_equal(bundle.stop_id_count, 2);
    assert_int_equal(bundle.stop_ids[0], 2047);
    assert_true(bundle.sampling.temperature <= 0);
    text_bundle_finish(&bundle);

    load("{\"do_sample\": true, \"temperature\": 0.5, \"top_k\": 20, \"top_p\": 0.75}", "{{ x }}", &bundle);
    assert_true(bundle.sampling.temperature >= 0.5f && bundle.sampling.temperature <= 0.5f);
    assert_true(bundle.sampling.top_p >= 0.75f && bundle.sampling.top_p <= 0.75f);
    assert_int_equal(bundle.sampling.top_k, 20);
    assert_int_equal(bundle.stop_id_count, 1);
    assert_int_equal(bundle.stop_ids[0], 2045);
    assert_int_equal(bundle.template, CHAT_TEMPLATE_UNKNOWN);
    assert_int_equal(text_choose_template(&bundle, CHAT_TEMPLATE_UNKNOWN), SLUICE_ERR_UNSUPPORTED);
    assert_int_equal(text_choose_template(&bundle, CHAT_TEMPLATE_CODER), SLUICE_OK);
    assert_int_equal(bundle.template, CHAT_TEMPLATE_CODER);
    text_bundle_finish(&bundle);

    load("{\"do_sample\": true, \"eos_token_id\": [2047, 2047, 99999, \"x\"]}", "", &bundle);
    assert_int_equal(bundle.stop_id_count, 1);
    assert_int_equal(bundle.sampling.top_k, 50);
    text_bundle_finish(&bundle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_answered),
        cmocka_unit_test(text_is_utf8),
        cmocka_unit_test(conversations_are_rendered),
        cmocka_unit_test(a_bad_line_is_named),
        cmocka_unit_test(control_tokens_in_messages_are_text_unless_asked),
        cmocka_unit_test(models_that_cannot_be_read),
        cmocka_unit_test(generation_defaults_are_read),
    };
    return cmocka_run_group_tests(tests, create_directory, remove_directory);
}
