// `sluice tokenize`: text, token ids and conversations, one line of JSON in, one line of JSON out.

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/text/json_text.h"
#include "tools/cli.h"
#include "tools/commands.h"
#include "tools/text_load.h"

struct tokenize {
    struct text_bundle text;
    enum chat_template template; // UNKNOWN: the model's own
    bool decode;
};

static enum sluice_status no_memory(void)
{
    return error_set(SLUICE_ERR_MEMORY, "out of memory");
}

// ---- kinds of lines: each makes the answer, an object that the caller releases

static enum sluice_status encode(struct tokenize *t, const char *text, size_t bytes, const struct control_spans *spans,
                                 json_t **ids)
{
    int32_t *list;
    size_t count;
    *ids = NULL;
    enum sluice_status status = tokenizer_encode_spans(t->text.tokenizer, text, bytes, spans, &list, &count);
    if (status < 0)
        return status;
    *ids = json_from_ids(list, count);
    mem_free(list);
    return *ids ? SLUICE_OK : no_memory();
}

static enum sluice_status answer_text(struct tokenize *t, const json_t *text, bool added_tokens, json_t **answer)
{
    json_t *ids = NULL;
    struct control_spans spans = {0};
    enum sluice_status status;
    if (!json_is_string(text))
        return error_set(SLUICE_ERR_ARGUMENT, "\"text\" is not a string");
    size_t bytes = json_string_length(text);
    TRY(control_spans_add(&spans, 0, added_tokens ? bytes : 0, CONTROL_ALL));
    TRY(encode(t, json_string_value(text), bytes, &spans, &ids));
    *answer = json_pack("{s:O}", "ids", ids);
    TRY(*answer ? SLUICE_OK : no_memory());
fail:
    control_spans_finish(&spans);
    json_decref(ids);
    return status;
}

static enum sluice_status read_ids(const json_t *list, int32_t *ids)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
            return error_set(SLUICE_ERR_ARGUMENT, "number %zu of the ids is not a token id", i);
        ids[i] = (int32_t)json_integer_value(id);
    }
    return SLUICE_OK;
}

static enum sluice_status answer_ids(struct tokenize *t, const json_t *list, bool skip_special, json_t **answer)
{
    char *text = NULL;
    size_t bytes;
    enum sluice_status status;
    if (!json_is_array(list))
        return error_set(SLUICE_ERR_ARGUMENT, "\"ids\" is not a list");
    int32_t *ids = mem_alloc(json_array_size(list), sizeof *ids);
    TRY(ids ? SLUICE_OK : SLUICE_ERR_MEMORY);
    TRY(read_ids(list, ids));
    TRY(tokenizer_decode(t->text.tokenizer, ids, json_array_size(list), skip_special, &text, &bytes));
    *answer = json_pack("{s:o}", "text", json_stringn(text, bytes));
    TRY(*answer ? SLUICE_OK : no_memory());
fail:
    mem_free(text);
    mem_free(ids);
    return status;
}

// `added_tokens`: the messages may write control tokens, too.
static enum sluice_status answer_messages(struct tokenize *t, const json_t *line, bool added_tokens, json_t **answer)
{
    struct chat_prompt prompt = {0};
    struct control_spans all = {0};
    json_t *ids = NULL;
    enum sluice_status status;
    bool beginning = !json_is_false(json_object_get(line, "add_generation_prompt"));
    TRY(text_choose_template(&t->text, t->template));
    TRY(chat_render(t->text.template, json_object_get(line, "messages"), json_object_get(line, "tools"), beginning,
                    &prompt));
    TRY(control_spans_add(&all, 0, prompt.text.bytes, CONTROL_ALL));
    TRY(encode(t, prompt.text.data, prompt.text.bytes, added_tokens ? &all : &prompt.controls, &ids));
    *answer = json_pack("{s:o, s:O}", "text", json_stringn(prompt.text.data, prompt.text.bytes), "ids", ids);
    TRY(*answer ? SLUICE_OK : no_memory());
fail:
    chat_prompt_finish(&prompt);
    control_spans_finish(&all);
    json_decref(ids);
    return status;
}

static enum sluice_status answer_line(struct tokenize *t, const json_t *line, json_t **answer)
{
    const json_t *text = json_object_get(line, "text"), *ids = json_object_get(line, "ids");
    const json_t *added = json_object_get(line, "added_tokens");
    if (t->decode && json_is_array(line))
        return answer_ids(t, line, false, answer);
    if (json_object_get(line, "messages"))
        return answer_messages(t, line, json_is_true(added), answer);
    if (ids)
        return answer_ids(t, ids, json_is_true(json_object_get(line, "skip_special")), answer);
    if (text)
        return answer_text(t, text, !json_is_false(added), answer);
    return error_set(SLUICE_ERR_ARGUMENT,
                     t->decode ? "neither a list of ids nor an object with \"text\", \"ids\" or \"messages\""
                               : "not an object with \"text\", \"ids\" or \"messages\"");
}

// ---- input and output

// Many programs take U+0085, U+2028 and U+2029 for line ends too: escaped, one answer is one line for them as well.
static const struct {
    const char *text, *escape;
} line_ends[] = {{"\xC2\x85", "\\u0085"}, {"\xE2\x80\xA8", "\\u2028"}, {"\xE2\x80\xA9", "\\u2029"}};

static void print_one_line(const char *json)
{
    while (*json) {
        size_t plain = strcspn(json, "\xC2\xE2"), i = 0, count = sizeof line_ends / sizeof *line_ends;
        fwrite(json, 1, plain, stdout);
        json += plain;
        while (i < count && strncmp(json, line_ends[i].text, strlen(line_ends[i].text)) != 0)
            i++;
        if (i < count) {
            fputs(line_ends[i].escape, stdout);
            json += strlen(line_ends[i].text);
        } else if (*json) {
            putchar(*json++);
        }
    }
    putchar('\n');
}

static enum sluice_status print_answer(const json_t *answer)
{
    char *json = json_dumps(answer, 0);
    if (!json)
        return no_memory();
    print_one_line(json);
    free(json);
    if (fflush(stdout) != 0 || ferror(stdout))
        return error_set(SLUICE_ERR_IO, "cannot write the output: %s", strerror(errno));
    return SLUICE_OK;
}

static enum sluice_status handle_line(struct tokenize *t, const char *text, size_t bytes)
{
    json_t *line, *answer = NULL;
    enum sluice_status status = json_text_parse(text, bytes, "the line", &line);
    if (status < 0)
        return status;
    TRY(answer_line(t, line, &answer));
    TRY(print_answer(answer));
fail:
    json_decref(line);
    json_decref(answer);
    return status;
}

static bool is_blank(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (!memchr(" \t\r\n", text[i], 4))
            return false;
    return true;
}

static enum sluice_status handle_input(struct tokenize *t)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t bytes;
    enum sluice_status status = SLUICE_OK;
    for (uint64_t number = 1; status == SLUICE_OK && (bytes = getline(&line, &capacity, stdin)) >= 0; number++) {
        if (is_blank(line, (size_t)bytes))
            continue;
        status = handle_line(t, line, (size_t)bytes);
        if (status < 0)
            error_prefix(status, "line %" PRIu64, number);
    }
    if (status == SLUICE_OK && ferror(stdin))
        status = error_set(SLUICE_ERR_IO, "cannot read the input: %s", strerror(errno));
    free(line);
    return status;
}

int cmd_tokenize(int argc, char **argv)
{
    struct tokenize t = {0};
    const struct cli_option options[] = {
        {"decode", 'd', NULL, "lines may also be bare lists of ids", cli_parse_flag, &t.decode},
        {"template", 't', "NAME", "chat template: instruct, thinking or coder", cli_parse_template, &t.template},
    };
    const struct cli_command command = {
        .name = "tokenize",
        .arguments = "MODEL",
        .about = "Answers each line of JSON on the standard input by one line of JSON. MODEL is a container, a\n"
                 "directory of Hugging Face, or a tokenizer.json.\n\n"
                 "  {\"text\": TEXT}          {\"ids\": [...]}\n"
                 "  {\"ids\": [...]}          {\"text\": TEXT}             (\"skip_special\": true: control tokens are "
                 "left out)\n"
                 "  {\"messages\": [...]}     {\"text\": ..., \"ids\": ...}  (with \"tools\" and "
                 "\"add_generation_prompt\", the\n"
                 "                                                     latter true unless given)\n\n"
                 "Control tokens such as <|im_end|>: in TEXT their spelling gives the token, with \"added_tokens\": "
                 "false it\n"
                 "is text. In messages only the chat template writes them, as `run` and `summarize` take a prompt: "
                 "what\n"
                 "users, tools and documents wrote is text; of what an assistant wrote earlier <think>, <tool_call> "
                 "and\n"
                 "the like are tokens, <|im_end|> is text. With \"added_tokens\": true their spelling gives the "
                 "token\n"
                 "everywhere, as with Hugging Face's apply_chat_template.\n\n"
                 "A line that cannot be answered ends the command with its number and the reason.",
        .options = options,
        .option_count = sizeof options / sizeof *options,
        .positional_min = 1,
        .positional_max = 1,
    };
    const char *path;
    int exit_status;
    if (!cli_parse(&command, argc, argv, &path, &exit_status))
        return exit_status;
    cli_log_start(false);
    enum sluice_status status = text_load(path, &t.text);
    if (status == SLUICE_OK)
        status = handle_input(&t);
    if (status < 0)
        exit_status = cli_fail(status);
    text_bundle_finish(&t.text);
    return exit_status;
}
