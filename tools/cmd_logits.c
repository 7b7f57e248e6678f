// `sluice logits FILE --ids ids.json -o OUT.safetensors`: what the model computes, for comparison with a reference.

#include <stdio.h>

#include "quant/safetensors_writer.h"
#include "runtime/base/mem.h"
#include "runtime/base/output_path.h"
#include "tools/commands.h"
#include "tools/divergence.h"
#include "tools/engine_open.h"
#include "tools/ids_load.h"
#include "tools/sessions_check.h"

struct job {
    const char *path, *ids_path, *out_path;
    struct cli_engine_options engine_options;
    bool decode, hidden, state, router;
    uint32_t greedy, split; // split: tokens per prefill call; 0: all at once

    int32_t *ids;
    size_t count; // of ids
    struct sluice_engine *engine;
    struct sluice_session *session;
    const struct sluice_model *model;
    struct safetensors_writer *writer; // gets everything as it comes
    size_t first;                      // token of the sequence at which the running call begins
    uint32_t sessions;                 // that continue together; 0: none
};

enum { NAME_BYTES = 32 };

static const char *layer_name(const char *kind, uint32_t layer, char out[NAME_BYTES])
{
    snprintf(out, NAME_BYTES, "%s.%u", kind, layer);
    return out;
}

static uint64_t state_floats(const struct sluice_model *m)
{
    return (uint64_t)m->value_heads * m->key_dim * m->value_dim;
}

// --- what the file will hold ----------------------------------------------------------------------------------------

static enum sluice_status declare_layer(struct job *job, uint32_t layer)
{
    enum sluice_status status = SLUICE_OK;
    const struct sluice_model *m = job->model;
    struct safetensors_writer *w = job->writer;
    const uint64_t hidden[] = {job->count, m->hidden}, router[] = {job->count, m->top_k},
                   state[] = {m->value_heads, m->key_dim, m->value_dim};
    char name[NAME_BYTES];
    if (job->hidden)
        TRY(safetensors_writer_declare(w, layer_name("hidden", layer, name), SAFETENSORS_F32, 2, hidden));
    if (job->router && sluice_layer_has_experts(job->engine, layer))
        TRY(safetensors_writer_declare(w, layer_name("router", layer, name), SAFETENSORS_I32, 2, router));
    if (job->state && sluice_layer_is_linear(job->engine, layer))
        TRY(safetensors_writer_declare(w, layer_name("state", layer, name), SAFETENSORS_F32, 3, state));
fail:
    return status;
}

static enum sluice_status declare_all(struct job *job)
{
    enum sluice_status status;
    struct safetensors_writer *w = job->writer;
    const uint64_t logits[] = {job->count, job->model->vocab}, greedy[] = {job->greedy},
                   continued[] = {job->sessions, job->greedy};
    TRY(safetensors_writer_declare(w, "logits", SAFETENSORS_F32, 2, logits));
    for (uint32_t i = 0; i < job->model->layers; i++)
        TRY(declare_layer(job, i));
    if (job->greedy)
        TRY(safetensors_writer_declare(w, "greedy", SAFETENSORS_I32, 1, greedy));
    if (job->sessions)
        TRY(safetensors_writer_declare(w, "alone", SAFETENSORS_I32, 2, continued));
    if (job->sessions)
        TRY(safetensors_writer_declare(w, "together", SAFETENSORS_I32, 2, continued));
fail:
    return status;
}

// --- what the model shows -------------------------------------------------------------------------------------------

// Rows of four-byte values, those of tokens first ... of the running call.
static enum sluice_status put_rows(struct job *job, const char *name, uint32_t first, uint32_t rows, uint32_t width,
                                   const void *values)
{
    const uint64_t row_bytes = 4ull * width;
    return safetensors_writer_write_at(job->writer, name, (job->first + first) * row_bytes, values, rows * row_bytes);
}

static enum sluice_status take_hidden(void *user, uint32_t layer, uint32_t first, uint32_t rows, const float *values)
{
    struct job *job = user;
    char name[NAME_BYTES];
    return put_rows(job, layer_name("hidden", layer, name), first, rows, job->model->hidden, values);
}

static enum sluice_status take_experts(void *user, uint32_t layer, uint32_t first, uint32_t rows, const uint32_t *ids)
{
    struct job *job = user;
    char name[NAME_BYTES];
    enum sluice_status status = SLUICE_OK;
    if (job->router)
        status = put_rows(job, layer_name("router", layer, name), first, rows, job->model->top_k, ids);
    return status < 0 ? status : cli_check_interrupt();
}

static enum sluice_status take_logits(void *user, uint32_t first, uint32_t rows, const float *values)
{
    struct job *job = user;
    return put_rows(job, "logits", first, rows, job->model->vocab, values);
}

static enum sluice_status run_prompt(struct job *job)
{
    enum sluice_status status = SLUICE_OK;
    struct sluice_tap tap = {
        .user = job,
        .hidden = job->hidden ? take_hidden : NULL,
        .experts = take_experts,
        .logits = take_logits,
    };
    struct sluice_prefill_options options = {.tap = &tap};
    size_t step = job->decode ? 1 : job->split ? job->split : job->count;
    for (job->first = 0; job->first < job->count; job->first += step) {
        size_t left = job->count - job->first, here = left < step ? left : step;
        if (job->decode)
            TRY(sluice_decode(job->engine, &job->session, &job->ids[job->first], 1, &tap));
        else
            TRY(sluice_prefill(job->session, &job->ids[job->first], here, &options));
    }
fail:
    return status;
}

// Those after the prompt.
static enum sluice_status put_states(struct job *job)
{
    enum sluice_status status = SLUICE_OK;
    uint64_t floats = state_floats(job->model);
    char name[NAME_BYTES];
    float *state = mem_alloc(floats, sizeof *state);
    if (!state)
        return SLUICE_ERR_MEMORY;
    for (uint32_t i = 0; i < job->model->layers; i++) {
        if (!sluice_layer_is_linear(job->engine, i))
            continue;
        TRY(sluice_session_state(job->session, i, state));
        TRY(safetensors_writer_write_at(job->writer, layer_name("state", i, name), 0, state, floats * sizeof *state));
    }
fail:
    mem_free(state);
    return status;
}

static enum sluice_status run_greedy(struct job *job)
{
    enum sluice_status status = SLUICE_OK;
    static const struct sluice_tap tap = {.experts = engine_tap_interrupt};
    for (uint32_t i = 0; i < job->greedy; i++) {
        int32_t id = divergence_likeliest(sluice_logits(job->session), job->model->vocab);
        TRY(safetensors_writer_write_at(job->writer, "greedy", i * sizeof id, &id, sizeof id));
        if (i + 1 < job->greedy)
            TRY(sluice_decode(job->engine, &job->session, &id, 1, &tap));
    }
fail:
    return status;
}

static enum sluice_status run_sessions(struct job *job)
{
    size_t count = (size_t)job->sessions * job->greedy;
    int32_t *alone = mem_alloc(count, sizeof *alone), *together = mem_alloc(count, sizeof *together);
    enum sluice_status status = alone && together ? SLUICE_OK : SLUICE_ERR_MEMORY;
    TRY(status);
    sluice_session_destroy(job->session);
    job->session = NULL;
    TRY(sessions_check(job->engine, job->ids, job->count, job->sessions, job->greedy, alone, together));
    TRY(safetensors_writer_write_at(job->writer, "alone", 0, alone, count * sizeof *alone));
    TRY(safetensors_writer_write_at(job->writer, "together", 0, together, count * sizeof *together));
fail:
    mem_free(alone);
    mem_free(together);
    return status;
}

static enum sluice_status run(struct job *job)
{
    enum sluice_status status;
    TRY(output_path_check(job->out_path)); // before the work
    TRY(output_path_check_input(job->out_path, job->path));
    TRY(output_path_check_input(job->out_path, job->ids_path));
    TRY(ids_load_json(job->ids_path, &job->ids, &job->count));
    size_t needed = job->count + job->greedy;
    TRY(needed <= UINT32_MAX ? SLUICE_OK : error_set(SLUICE_ERR_ARGUMENT, "%zu tokens are too many", needed));
    TRY(engine_open(job->path, &job->engine_options, (uint32_t)needed, &job->engine));
    job->model = sluice_engine_model(job->engine);
    TRY(safetensors_writer_create(job->out_path, &job->writer));
    TRY(declare_all(job));
    TRY(sluice_session_create(job->engine, &job->session));
    TRY(run_prompt(job));
    if (job->state)
        TRY(put_states(job));
    TRY(run_greedy(job));
    if (job->sessions)
        TRY(run_sessions(job));
    TRY(safetensors_writer_finish(job->writer));
    if (job->engine_options.verbose)
        engine_report(job->engine, &(struct run_times){.prompt_tokens = job->count});
fail:
    return status;
}

static void finish(struct job *job)
{
    safetensors_writer_destroy(job->writer);
    mem_free(job->ids);
    sluice_session_destroy(job->session);
    sluice_close(job->engine);
}

int cmd_logits(int argc, char **argv)
{
    struct job job = {.engine_options.kv = SLUICE_KV_F32}; // a reference has no rounded cache
    int exit_status;
    const struct cli_option options[] = {
        {"ids", 0, "FILE", "JSON array of token ids: the prompt", cli_parse_text, &job.ids_path},
        {"output", 'o', "FILE", "the safetensors file to write", cli_parse_text, &job.out_path},
        {"decode", 0, NULL, "feed the prompt token by token through the decode path", cli_parse_flag, &job.decode},
        {"split", 0, "N", "prefill N tokens at a time", cli_parse_count, &job.split},
        {"hidden", 0, NULL, "write hidden.L: the residual stream after every layer", cli_parse_flag, &job.hidden},
        {"state", 0, NULL, "write state.L: the recurrent states after the prompt", cli_parse_flag, &job.state},
        {"router", 0, NULL, "write router.L: the selected experts", cli_parse_flag, &job.router},
        {"greedy", 0, "N", "write greedy: the N likeliest tokens that follow", cli_parse_count, &job.greedy},
        {"sessions", 0, "K", "write alone and together: greedy of K prompts, one by one and at once", cli_parse_count,
         &job.sessions},
        CLI_ENGINE_OPTIONS(job.engine_options),
    };
    const struct cli_command command = {
        "logits",
        "FILE --ids IDS.json -o OUT.safetensors [OPTIONS]",
        "Writes what the model in FILE computes for a sequence of token ids, for comparison with a reference: logits "
        "f32 "
        "[tokens, vocab] and, as asked for, hidden.L f32 [tokens, hidden], state.L f32 [value heads, key dim, value "
        "dim], "
        "router.L i32 [tokens, top-k], greedy i32 [N], and alone and "
        "together i32 [K, N], session i beginning with the prompt less its last i tokens. Results go to OUT.part as "
        "they "
        "come, which is renamed when it is whole. The "
        "KV cache is f32 unless --kv f16 asks otherwise.",
        options,
        sizeof options / sizeof *options,
        1,
        1,
    };
    if (!cli_parse(&command, argc, argv, &job.path, &exit_status))
        return exit_status;
    if (!job.ids_path || !job.out_path)
        return cli_usage_error(&command, "--ids and -o are both needed");
    if (job.decode && job.split)
        return cli_usage_error(&command, "--decode feeds single tokens: there is nothing to --split");
    if (job.sessions && !job.greedy)
        return cli_usage_error(&command, "--sessions needs --greedy");
    job.engine_options.sessions = job.sessions;
    cli_log_start(job.engine_options.verbose);
    (void)cli_interrupt_start();
    enum sluice_status status = run(&job);
    finish(&job);
    return status < 0 ? cli_fail(status) : CLI_OK;
}
