// `sluice logits FILE --ids ids.json -o OUT.safetensors`: what the model computes, for comparison with a reference.

#include <stdio.h>
#include <string.h>

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
    size_t first;        // token of the sequence at which the running call begins
    float *logits;       // [count][vocab]
    float **hiddens;     // [layers], each [count][hidden]
    int32_t **routers;   // [layers], each [count][top_k], or NULL for a layer without experts
    int32_t *greedy_ids; // [greedy]
    uint32_t sessions;   // that continue together; 0: none
    int32_t *alone;      // [sessions][greedy]
    int32_t *together;   // [sessions][greedy]
};

// --- what the model shows -------------------------------------------------------------------------------------------

static enum sluice_status take_hidden(void *user, uint32_t layer, uint32_t first, uint32_t rows, const float *values)
{
    struct job *job = user;
    size_t width = job->model->hidden;
    memcpy(job->hiddens[layer] + (job->first + first) * width, values, rows * width * sizeof *values);
    return SLUICE_OK;
}

static enum sluice_status take_experts(void *user, uint32_t layer, uint32_t first, uint32_t rows, const uint32_t *ids)
{
    struct job *job = user;
    size_t width = job->model->top_k;
    if (!job->router)
        return cli_check_interrupt();
    if (!job->routers[layer])
        job->routers[layer] = mem_alloc(job->count * width, sizeof **job->routers);
    if (!job->routers[layer])
        return SLUICE_ERR_MEMORY;
    for (size_t i = 0; i < rows * width; i++)
        job->routers[layer][(job->first + first) * width + i] = (int32_t)ids[i];
    return cli_check_interrupt();
}

static enum sluice_status take_logits(void *user, uint32_t first, uint32_t rows, const float *values)
{
    struct job *job = user;
    size_t width = job->model->vocab;
    memcpy(job->logits + (job->first + first) * width, values, rows * width * sizeof *values);
    return SLUICE_OK;
}

static enum sluice_status allocate(struct job *job)
{
    size_t layers = job->model->layers;
    job->logits = mem_alloc(job->count * job->model->vocab, sizeof *job->logits);
    job->hiddens = mem_alloc(layers, sizeof *job->hiddens);
    job->routers = mem_alloc(layers, sizeof *job->routers);
    job->greedy_ids = mem_alloc(job->greedy, sizeof *job->greedy_ids);
    if (!job->logits || !job->hiddens || !job->routers || !job->greedy_ids)
        return SLUICE_ERR_MEMORY;
    for (size_t i = 0; job->hidden && i < layers; i++)
        if (!(job->hiddens[i] = mem_alloc(job->count * job->model->hidden, sizeof **job->hiddens)))
            return SLUICE_ERR_MEMORY;
    return SLUICE_OK;
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

static enum sluice_status run_greedy(struct job *job)
{
    enum sluice_status status = SLUICE_OK;
    static const struct sluice_tap tap = {.experts = engine_tap_interrupt};
    for (uint32_t i = 0; i < job->greedy; i++) {
        job->greedy_ids[i] = divergence_likeliest(sluice_logits(job->session), job->model->vocab);
        if (i + 1 < job->greedy)
            TRY(sluice_decode(job->engine, &job->session, &job->greedy_ids[i], 1, &tap));
    }
fail:
    return status;
}

// --- the file -------------------------------------------------------------------------------------------------------

enum pass { DECLARE, WRITE };

static enum sluice_status put(struct safetensors_writer *w, enum pass pass, const char *name,
                              enum safetensors_dtype dtype, uint32_t rank, const uint64_t *shape, const void *data)
{
    if (pass == DECLARE)
        return safetensors_writer_declare(w, name, dtype, rank, shape);
    size_t bytes = 4;
    for (uint32_t i = 0; i < rank; i++)
        bytes *= shape[i];
    return safetensors_writer_write(w, name, data, bytes);
}

static enum sluice_status put_layer(struct job *job, struct safetensors_writer *w, enum pass pass, uint32_t layer,
                                    const float *state)
{
    enum sluice_status status = SLUICE_OK;
    const struct sluice_model *m = job->model;
    char name[32];
    if (job->hidden) {
        snprintf(name, sizeof name, "hidden.%u", layer);
        TRY(put(w, pass, name, SAFETENSORS_F32, 2, (uint64_t[]){job->count, m->hidden}, job->hiddens[layer]));
    }
    if (job->routers[layer]) {
        snprintf(name, sizeof name, "router.%u", layer);
        TRY(put(w, pass, name, SAFETENSORS_I32, 2, (uint64_t[]){job->count, m->top_k}, job->routers[layer]));
    }
    if (state && sluice_layer_is_linear(job->engine, layer)) {
        snprintf(name, sizeof name, "state.%u", layer);
        TRY(put(w, pass, name, SAFETENSORS_F32, 3, (uint64_t[]){m->value_heads, m->key_dim, m->value_dim}, state));
    }
fail:
    return status;
}

// States are those after the prompt: they were copied before the greedy continuation.
static enum sluice_status put_all(struct job *job, struct safetensors_writer *w, enum pass pass, const float *states)
{
    enum sluice_status status;
    const struct sluice_model *m = job->model;
    size_t state_floats = (size_t)m->value_heads * m->key_dim * m->value_dim;
    TRY(put(w, pass, "logits", SAFETENSORS_F32, 2, (uint64_t[]){job->count, m->vocab}, job->logits));
    for (uint32_t i = 0; i < m->layers; i++)
        TRY(put_layer(job, w, pass, i, states ? states + i * state_floats : NULL));
    if (job->greedy)
        TRY(put(w, pass, "greedy", SAFETENSORS_I32, 1, (uint64_t[]){job->greedy}, job->greedy_ids));
    if (job->sessions) {
        const uint64_t shape[] = {job->sessions, job->greedy};
        TRY(put(w, pass, "alone", SAFETENSORS_I32, 2, shape, job->alone));
        TRY(put(w, pass, "together", SAFETENSORS_I32, 2, shape, job->together));
    }
fail:
    return status;
}

static enum sluice_status write_file(struct job *job, const float *states)
{
    struct safetensors_writer *w;
    enum sluice_status status = safetensors_writer_create(job->out_path, &w);
    if (status < 0)
        return status;
    TRY(put_all(job, w, DECLARE, states));
    TRY(put_all(job, w, WRITE, states));
    TRY(safetensors_writer_finish(w));
fail:
    safetensors_writer_destroy(w);
    return status;
}

static enum sluice_status copy_states(struct job *job, float **states)
{
    const struct sluice_model *m = job->model;
    size_t floats = (size_t)m->value_heads * m->key_dim * m->value_dim;
    *states = mem_alloc(m->layers * floats, sizeof **states);
    if (!*states)
        return SLUICE_ERR_MEMORY;
    for (uint32_t i = 0; i < m->layers; i++) {
        if (!sluice_layer_is_linear(job->engine, i))
            continue;
        enum sluice_status status = sluice_session_state(job->session, i, *states + i * floats);
        if (status < 0)
            return status;
    }
    return SLUICE_OK;
}

static enum sluice_status check_sessions(struct job *job)
{
    sluice_session_destroy(job->session);
    job->session = NULL;
    job->alone = mem_alloc((size_t)job->sessions * job->greedy, sizeof *job->alone);
    job->together = mem_alloc((size_t)job->sessions * job->greedy, sizeof *job->together);
    if (!job->alone || !job->together)
        return SLUICE_ERR_MEMORY;
    return sessions_check(job->engine, job->ids, job->count, job->sessions, job->greedy, job->alone, job->together);
}

static enum sluice_status run(struct job *job)
{
    enum sluice_status status;
    float *states = NULL;
    TRY(output_path_check(job->out_path)); // before the work
    TRY(ids_load_json(job->ids_path, &job->ids, &job->count));
    size_t needed = job->count + job->greedy;
    TRY(needed <= UINT32_MAX ? SLUICE_OK : error_set(SLUICE_ERR_ARGUMENT, "%zu tokens are too many", needed));
    TRY(engine_open(job->path, &job->engine_options, (uint32_t)needed, &job->engine));
    job->model = sluice_engine_model(job->engine);
    TRY(allocate(job));
    TRY(sluice_session_create(job->engine, &job->session));
    TRY(run_prompt(job));
    if (job->state)
        TRY(copy_states(job, &states));
    TRY(run_greedy(job));
    if (job->sessions)
        TRY(check_sessions(job));
    TRY(write_file(job, states));
    if (job->engine_options.verbose)
        engine_report(job->engine, &(struct run_times){.prompt_tokens = job->count});
fail:
    mem_free(states);
    return status;
}

static void finish(struct job *job)
{
    for (uint32_t i = 0; job->model && i < job->model->layers; i++) {
        if (job->hiddens)
            mem_free(job->hiddens[i]);
        if (job->routers)
            mem_free(job->routers[i]);
    }
    mem_free(job->hiddens);
    mem_free(job->routers);
    mem_free(job->logits);
    mem_free(job->greedy_ids);
    mem_free(job->alone);
    mem_free(job->together);
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
        "together i32 [K, N], session i beginning with the prompt less its last i tokens. Everything is kept in memory "
        "until the file is written. The "
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
