#include "tools/generate.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/output_path.h"
#include "runtime/text/answer.h"
#include "runtime/text/detokenizer.h"
#include "runtime/text/json_text.h"
#include "runtime/text/stop.h"
#include "runtime/text/text_buffer.h"
#include "tools/expert_trace.h"

enum { ANSWER_TOKENS_DEFAULT = 4096 };

static const char thoughts_end[] = "</think>";

enum sluice_status cli_parse_float(const char *text, void *target)
{
    char *end;
    errno = 0;
    float value = strtof(text, &end);
    if (errno || end == text || *end || !isfinite(value))
        return error_set(SLUICE_ERR_ARGUMENT, "\"%s\" is not a number", text);
    *(float *)target = value;
    return SLUICE_OK;
}

void generate_options_init(struct generate_options *o)
{
    memset(o, 0, sizeof *o);
    o->temperature = o->top_p = o->min_p = o->presence_penalty = o->repetition_penalty = NAN;
}

// One run of the command.
struct generation {
    const struct generate_options *options;
    struct text_bundle text;
    struct sluice_engine *engine;
    struct sluice_session *session;
    struct expert_trace *trace; // NULL: none
    struct sampler *sampler;
    struct detokenizer *detokenizer;
    struct stop *stop;
    int32_t *prompt; // ids
    size_t prompt_count;
    int32_t *answer; // ids, without the one that ended it
    size_t answer_count, answer_max;
    struct answer *splitter;              // thoughts and text
    struct text_buffer written, thoughts; // the answer's, for --json
    bool thinks, has_text;                // the model, before it answers; the answer so far
    int32_t thoughts_end_id;              // </think>; -1: not a token, or it does not think
    size_t token_bytes;                   // of text that the answer's tokens have given so far
    struct run_times times;
    const char *finish_reason;
    const atomic_bool *interrupted;
    uint64_t start_ns, drawn_ns;
};

// --- progress -------------------------------------------------------------------------------------------------------

// "reading  42 %  1234 tokens/s  0:17 left" on a terminal.
static bool draw_progress(void *user, double done)
{
    struct generation *g = user;
    uint64_t now = clock_ns();
    if (isatty(STDERR_FILENO) && (now - g->drawn_ns > 200000000 || done >= 1)) {
        g->drawn_ns = now;
        double elapsed = clock_seconds(now - g->start_ns);
        double left = done > 0 ? elapsed * (1 - done) / done : 0;
        fprintf(stderr, "\rreading %3.0f %%  %.0f tokens/s  %d:%02d left \033[K", 100 * done,
                elapsed > 0 ? done * (double)g->prompt_count / elapsed : 0, (int)left / 60, (int)left % 60);
        if (done >= 1)
            fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    return !atomic_load(g->interrupted);
}

// --- preparation ----------------------------------------------------------------------------------------------------

// What the user gives is text and nothing else: only the template's own words become control tokens (chat.h). Without
// the template the text is the whole prompt, and may write these tokens itself.
static enum sluice_status encode_prompt(struct generation *g, const char *prompt, size_t bytes)
{
    enum sluice_status status;
    struct chat_prompt rendered = {0};
    json_t *messages = NULL;
    if (g->options->raw)
        return tokenizer_encode(g->text.tokenizer, prompt, bytes, true, &g->prompt, &g->prompt_count);
    TRY(text_choose_template(&g->text, g->options->template));
    json_t *content = json_stringn(prompt, bytes); // NULL if it is not UTF-8
    if (!content) {
        status = error_set(SLUICE_ERR_FORMAT, "the prompt is not UTF-8 text; convert it first, for example with iconv");
        goto fail;
    }
    messages = json_pack("[{s:s, s:o}]", "role", "user", "content", content);
    TRY(messages ? SLUICE_OK : error_set(SLUICE_ERR_MEMORY, "out of memory"));
    TRY(chat_render(g->text.template, messages, NULL, true, &rendered));
    TRY(tokenizer_encode_spans(g->text.tokenizer, rendered.text.data, rendered.text.bytes, &rendered.controls,
                               &g->prompt, &g->prompt_count));
fail:
    chat_prompt_finish(&rendered);
    json_decref(messages);
    return status;
}

static struct sampler_options choose_sampling(const struct generation *g)
{
    const struct generate_options *o = g->options;
    struct sampler_options s = g->text.sampling;
    s.temperature = isnan(o->temperature) ? s.temperature : o->temperature;
    s.top_p = isnan(o->top_p) ? s.top_p : o->top_p;
    s.min_p = isnan(o->min_p) ? s.min_p : o->min_p;
    s.presence_penalty = isnan(o->presence_penalty) ? s.presence_penalty : o->presence_penalty;
    s.repetition_penalty = isnan(o->repetition_penalty) ? s.repetition_penalty : o->repetition_penalty;
    s.top_k = o->top_k == 0 ? s.top_k : o->top_k < INT32_MAX ? (int32_t)o->top_k : INT32_MAX;
    s.seed = o->seed;
    return s;
}

static enum sluice_status prepare(struct generation *g, const char *path)
{
    enum sluice_status status;
    struct sampler_options sampling = choose_sampling(g);
    size_t wanted = g->options->answer_tokens_max ? g->options->answer_tokens_max : ANSWER_TOKENS_DEFAULT;
    int32_t vocab = tokenizer_vocab_size(g->text.tokenizer);
    TRY(g->prompt_count > 0 ? SLUICE_OK : error_set(SLUICE_ERR_ARGUMENT, "the prompt is empty"));
    TRY(sampler_create(&sampling, vocab, &g->sampler));
    for (int32_t id = 0; id < vocab; id++)
        sampler_mask(g->sampler, id, !tokenizer_has(g->text.tokenizer, id)); // a gap among the ids stands for no text
    TRY(detokenizer_create(g->text.tokenizer, true, &g->detokenizer));
    g->thinks = !g->options->raw && g->text.template == CHAT_TEMPLATE_THINKING;
    g->thoughts_end_id = g->thinks ? tokenizer_find(g->text.tokenizer, thoughts_end) : -1;
    TRY(answer_create(g->thoughts_end_id >= 0 ? ANSWER_THOUGHTS_TO_TOKEN
                      : g->thinks             ? ANSWER_THOUGHTS_TO_TEXT
                                              : ANSWER_WITHOUT_THOUGHTS,
                      NULL, &g->splitter));
    TRY(stop_create(&g->options->stop, g->options->stop ? 1 : 0, g->text.stop_ids, g->text.stop_id_count, &g->stop));
    TRY(engine_open_fitting(path, &g->options->engine, g->prompt_count, wanted, &g->engine));
    size_t room = sluice_engine_model(g->engine)->context_tokens;
    if (g->prompt_count >= room) {
        status = error_set(SLUICE_ERR_ARGUMENT, "the prompt has %zu tokens, but the context holds %zu; raise --ctx",
                           g->prompt_count, room);
        goto fail;
    }
    g->answer_max = wanted < room - g->prompt_count ? wanted : room - g->prompt_count;
    g->answer = mem_alloc(g->answer_max, sizeof *g->answer);
    TRY(g->answer ? SLUICE_OK : SLUICE_ERR_MEMORY);
    TRY(sluice_session_create(g->engine, &g->session));
    if (g->options->trace_path)
        TRY(expert_trace_create(g->options->trace_path, g->engine, &g->trace));
    sampler_prompt(g->sampler, g->prompt, g->prompt_count);
fail:
    return status;
}

// --- generation -----------------------------------------------------------------------------------------------------

// A tap's `experts`: records them, and ends the work once the user has interrupted it (a token may take long on a slow
// drive).
static enum sluice_status take_experts(void *user, uint32_t layer, uint32_t first, uint32_t rows, const uint32_t *ids)
{
    struct generation *g = user;
    (void)first;
    if (g->trace)
        expert_trace_take(g->trace, layer, rows, ids);
    return cli_check_interrupt();
}

static void begin_step(struct generation *g, enum trace_kind kind)
{
    if (g->trace)
        expert_trace_step(g->trace, kind);
}

static enum sluice_status write_text(struct generation *g, const char *text, size_t bytes)
{
    if (bytes == 0)
        return SLUICE_OK;
    g->has_text = true;
    if (g->options->json)
        return text_buffer_append(&g->written, text, bytes);
    fwrite(text, 1, bytes, stdout);
    return fflush(stdout) == 0 ? SLUICE_OK : error_set(SLUICE_ERR_IO, "cannot write the answer: %s", strerror(errno));
}

// What a model thinks before it answers is no part of the answer.
static enum sluice_status write_thoughts(struct generation *g, const char *text, size_t bytes)
{
    if (bytes > 0 && g->options->json)
        return text_buffer_append(&g->thoughts, text, bytes);
    if (bytes > 0 && g->options->engine.verbose)
        fwrite(text, 1, bytes, stderr);
    return SLUICE_OK;
}

static enum sluice_status write_delta(struct generation *g, const struct answer_delta *delta)
{
    enum sluice_status status;
    TRY(write_thoughts(g, delta->reasoning, delta->reasoning_bytes));
    TRY(write_text(g, delta->content, delta->content_bytes));
fail:
    return status;
}

static enum sluice_status emit(struct generation *g, const char *text, size_t bytes)
{
    struct answer_delta delta;
    enum sluice_status status = answer_push(g->splitter, text, bytes, &delta);
    return status < 0 ? status : write_delta(g, &delta);
}

static void note_missing_answer(const struct generation *g)
{
    if (strcmp(g->finish_reason, "length") == 0)
        log_message(LOG_NOTE, "%zu tokens were not enough to think and to answer; raise -n", g->answer_max);
    else
        log_message(LOG_NOTE, "the answer ended before any text followed the thoughts; -v shows them");
}

static enum sluice_status emit_end(struct generation *g)
{
    struct answer_delta delta;
    json_t *calls = NULL;
    enum sluice_status status;
    TRY(answer_finish(g->splitter, &delta, &calls));
    TRY(write_delta(g, &delta));
    if (g->thinks && !g->has_text)
        note_missing_answer(g);
fail:
    json_decref(calls);
    return status;
}

// Text of one more token through the stop strings to the user; *stopped when one was found.
static enum sluice_status emit_token(struct generation *g, int32_t id, bool *stopped)
{
    enum sluice_status status;
    const char *text, *out;
    size_t bytes, out_bytes;
    int found;
    TRY(detokenizer_push(g->detokenizer, id, &text, &bytes));
    g->token_bytes += bytes;
    if (id == g->thoughts_end_id)
        answer_end_thoughts(g->splitter, g->token_bytes - (bytes ? sizeof thoughts_end - 1 : 0), g->token_bytes);
    TRY(stop_push(g->stop, text, bytes, &out, &out_bytes, &found));
    *stopped = found >= 0;
    TRY(emit(g, out, out_bytes));
fail:
    return status;
}

static enum sluice_status emit_rest(struct generation *g)
{
    enum sluice_status status;
    const char *text, *out;
    size_t bytes, out_bytes;
    int found;
    detokenizer_flush(g->detokenizer, &text, &bytes);
    TRY(stop_push(g->stop, text, bytes, &out, &out_bytes, &found));
    TRY(emit(g, out, out_bytes));
    stop_finish(g->stop, &out, &out_bytes);
    TRY(emit(g, out, out_bytes));
    TRY(emit_end(g));
fail:
    return status;
}

static enum sluice_status decode_answer(struct generation *g)
{
    enum sluice_status status;
    const struct sluice_tap tap = {.user = g, .experts = take_experts};
    g->finish_reason = "length";
    for (bool stopped = false; g->answer_count < g->answer_max;) {
        int32_t id;
        TRY(sampler_sample(g->sampler, sluice_logits(g->session), sluice_engine_model(g->engine)->vocab, &id));
        if (stop_is_id(g->stop, id)) {
            g->finish_reason = "stop";
            break;
        }
        sampler_accept(g->sampler, id);
        g->answer[g->answer_count++] = id;
        TRY(emit_token(g, id, &stopped));
        if (stopped) {
            g->finish_reason = "stop";
            break;
        }
        TRY(cli_check_interrupt());
        if (g->answer_count < g->answer_max) {
            begin_step(g, TRACE_DECODE);
            TRY(sluice_decode(g->engine, &g->session, &id, 1, &tap));
        }
    }
    TRY(emit_rest(g));
fail:
    return status;
}

static enum sluice_status run(struct generation *g)
{
    enum sluice_status status;
    const struct sluice_tap tap = {.user = g, .experts = take_experts};
    struct sluice_prefill_options prefill = {.user = g, .progress = draw_progress, .tap = g->trace ? &tap : NULL};
    g->start_ns = clock_ns();
    begin_step(g, TRACE_SWEEP);
    TRY(sluice_prefill(g->session, g->prompt, g->prompt_count, &prefill));
    uint64_t middle_ns = clock_ns();
    g->times.prompt_tokens = g->prompt_count;
    g->times.prompt_ns = middle_ns - g->start_ns;
    TRY(decode_answer(g));
    g->times.answer_tokens = g->answer_count;
    g->times.answer_ns = clock_ns() - middle_ns;
    struct expert_trace *trace = g->trace;
    g->trace = NULL;
    TRY(expert_trace_finish(trace));
fail:
    return status;
}

// --- results --------------------------------------------------------------------------------------------------------

static json_t *to_json(const struct text_buffer *text)
{
    return json_stringn(text->data ? text->data : "", text->bytes);
}

static enum sluice_status print_json(struct generation *g)
{
    json_t *object =
        json_pack("{s:o, s:o, s:o, s:s, s:I, s:o}", "text", to_json(&g->written), "reasoning", to_json(&g->thoughts),
                  "ids", json_from_ids(g->answer, g->answer_count), "finish_reason", g->finish_reason, "prompt_tokens",
                  (json_int_t)g->prompt_count, "statistics", engine_report_json(g->engine, &g->times));
    if (!object || json_dumpf(object, stdout, JSON_COMPACT) != 0) {
        json_decref(object);
        return error_set(SLUICE_ERR_IO, "cannot write the answer as JSON");
    }
    putchar('\n');
    json_decref(object);
    return SLUICE_OK;
}

static void finish(struct generation *g)
{
    expert_trace_abandon(g->trace); // after a failure
    sluice_session_destroy(g->session);
    sluice_close(g->engine);
    stop_destroy(g->stop);
    detokenizer_destroy(g->detokenizer);
    sampler_destroy(g->sampler);
    text_bundle_finish(&g->text);
    mem_free(g->prompt);
    mem_free(g->answer);
    answer_destroy(g->splitter);
    text_buffer_finish(&g->written);
    text_buffer_finish(&g->thoughts);
}

int generate(const char *path, const char *prompt, size_t prompt_bytes, struct generate_options *options)
{
    enum sluice_status status;
    struct generation g = {.options = options, .interrupted = cli_interrupt_start()};
    cli_log_start(options->engine.verbose);
    if (options->trace_path)
        TRY(output_path_check_in_place(options->trace_path)); // before the work
    TRY(output_path_check_input(options->trace_path, path));
    TRY(text_load(path, &g.text));
    TRY(encode_prompt(&g, prompt, prompt_bytes));
    TRY(prepare(&g, path));
    TRY(run(&g));
    if (options->json)
        TRY(print_json(&g));
    else
        putchar('\n');
    if (options->engine.verbose)
        engine_report(g.engine, &g.times);
fail:;
    int exit_status = CLI_OK;
    if (status < 0) {
        if (g.has_text && !options->json)
            putchar('\n'); // what there is of the answer stays readable
        fflush(stdout);
        cli_progress_clear();
        exit_status = cli_fail(status);
    }
    finish(&g);
    return exit_status;
}
