// `sluice divergence FILE [REFERENCE]`: how much a number format changes what the model says.
//
// The text goes through the reference first, whose logits are kept; then through FILE, whose logits are compared token
// by token as they come. Only one model is open at a time.

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "tools/commands.h"
#include "tools/divergence.h"
#include "tools/engine_open.h"
#include "tools/ids_load.h"

struct job {
    const char *paths[2]; // FILE, REFERENCE
    const char *ids_path, *text_path;
    struct cli_engine_options engine_options;
    uint32_t last, greedy; // last: score the last tokens only; 0: all
    bool as_json;

    int32_t *ids;
    size_t count, scored;  // scored: of the last ones
    uint32_t vocab;        // of the reference
    float *reference;      // [scored][vocab]
    uint64_t *experts[2];  // [count] fingerprints of FILE's and of the reference's, divergence_add_expert
    int32_t *continuation; // [greedy], the reference's
    uint32_t same;         // tokens of FILE's own continuation that are the same
    struct divergence divergence;
};

// One model at work.
struct reading {
    struct job *job;
    uint64_t *experts; // [job->count], of the job
    uint32_t top_k;
    struct sluice_engine *engine;
    struct sluice_session *session;
};

static enum sluice_status keep_experts(void *user, uint32_t layer, uint32_t first, uint32_t rows, const uint32_t *ids)
{
    struct reading *r = user;
    for (size_t i = 0; i < (size_t)rows * r->top_k; i++)
        divergence_add_expert(&r->experts[first + i / r->top_k], layer, ids[i]);
    return SLUICE_OK;
}

static enum sluice_status keep_logits(void *user, uint32_t first, uint32_t rows, const float *values)
{
    struct job *job = ((struct reading *)user)->job;
    size_t skipped = job->count - job->scored;
    for (uint32_t row = 0; row < rows; row++)
        if (first + row >= skipped)
            memcpy(job->reference + (first + row - skipped) * job->vocab, values + (size_t)row * job->vocab,
                   job->vocab * sizeof *values);
    return SLUICE_OK;
}

static enum sluice_status compare_logits(void *user, uint32_t first, uint32_t rows, const float *values)
{
    struct job *job = ((struct reading *)user)->job;
    size_t skipped = job->count - job->scored;
    for (uint32_t row = 0; row < rows; row++) {
        size_t token = first + row;
        if (token >= skipped)
            divergence_add(&job->divergence, job->reference + (token - skipped) * job->vocab,
                           values + (size_t)row * job->vocab, job->vocab,
                           token + 1 < job->count ? job->ids[token + 1] : -1,
                           job->experts[0][token] == job->experts[1][token]);
    }
    return SLUICE_OK;
}

// The continuation that the model finds likeliest: kept if it is the reference's, else compared.
static enum sluice_status continue_greedily(struct reading *r, bool is_reference)
{
    enum sluice_status status = SLUICE_OK;
    struct job *job = r->job;
    for (uint32_t i = 0; i < job->greedy; i++) {
        int32_t id = divergence_likeliest(sluice_logits(r->session), job->vocab);
        if (is_reference)
            job->continuation[i] = id;
        else
            job->same += id == job->continuation[i];
        if (i + 1 < job->greedy)
            TRY(sluice_decode(r->engine, &r->session, &id, 1, NULL));
    }
fail:
    return status;
}

// Room for what the reference computes.
static enum sluice_status prepare_reference(struct job *job, const struct sluice_model *model)
{
    job->vocab = model->vocab;
    job->reference = mem_alloc(job->scored * job->vocab, sizeof *job->reference);
    job->continuation = mem_alloc(job->greedy, sizeof *job->continuation);
    if (!job->reference || !job->continuation)
        return SLUICE_ERR_MEMORY;
    return divergence_create(job->scored, &job->divergence);
}

static enum sluice_status check_vocab(const struct job *job, const struct sluice_model *model)
{
    if (model->vocab == job->vocab)
        return SLUICE_OK;
    return error_set(SLUICE_ERR_ARGUMENT, "%s has a vocabulary of %u tokens, the reference %s one of %u", job->paths[0],
                     model->vocab, job->paths[1], job->vocab);
}

static enum sluice_status read_text(struct job *job, bool is_reference)
{
    enum sluice_status status;
    struct reading r = {.job = job, .experts = job->experts[is_reference]};
    struct cli_engine_options options = job->engine_options;
    if (is_reference) {
        options.activations = SLUICE_ACTIVATIONS_F32;
        options.matrix_cores = SLUICE_MATRIX_CORES_OFF;
        options.kv = SLUICE_KV_F32;
    }
    TRY(engine_open(job->paths[is_reference], &options, (uint32_t)(job->count + job->greedy), &r.engine));
    const struct sluice_model *model = sluice_engine_model(r.engine);
    TRY(is_reference ? prepare_reference(job, model) : check_vocab(job, model));
    TRY(sluice_session_create(r.engine, &r.session));
    r.top_k = model->top_k;
    struct sluice_tap tap = {
        .user = &r, .experts = keep_experts, .logits = is_reference ? keep_logits : compare_logits};
    TRY(sluice_prefill(r.session, job->ids, job->count, &(struct sluice_prefill_options){.tap = &tap}));
    TRY(continue_greedily(&r, is_reference));
    if (options.verbose)
        engine_report(r.engine, &(struct run_times){.prompt_tokens = job->count});
fail:
    sluice_session_destroy(r.session);
    sluice_close(r.engine);
    return status;
}

static enum sluice_status run(struct job *job)
{
    enum sluice_status status;
    if (job->ids_path)
        TRY(ids_load_json(job->ids_path, &job->ids, &job->count));
    else
        TRY(ids_load_text(job->text_path, job->paths[1], &job->ids, &job->count));
    TRY(job->count + job->greedy <= UINT32_MAX ? SLUICE_OK
                                               : error_set(SLUICE_ERR_ARGUMENT, "%zu tokens are too many", job->count));
    for (int i = 0; i < 2; i++)
        if (!(job->experts[i] = mem_alloc(job->count, sizeof *job->experts[i])))
            return SLUICE_ERR_MEMORY;
    job->scored = job->last && job->last < job->count ? job->last : job->count;
    TRY(read_text(job, true));
    TRY(read_text(job, false));
fail:
    return status;
}

// --- report ---------------------------------------------------------------------------------------------------------

static double perplexity(double loss, size_t count)
{
    return count ? exp(loss / (double)count) : 1;
}

static void print_report(struct job *job)
{
    struct divergence *d = &job->divergence;
    printf("tokens           %zu\n", d->count);
    printf("KL divergence    mean %.3e  median %.3e  99 %% below %.3e  worst %.3e nats\n", divergence_mean(d),
           divergence_quantile(d, 0.5), divergence_quantile(d, 0.99), divergence_quantile(d, 1));
    printf("same experts     %.2f %% in every layer, mean of these %.3e nats\n",
           100.0 * (double)d->same_experts / (double)d->count, divergence_mean_same_experts(d));
    printf("same likeliest   %.2f %%\n", 100.0 * (double)d->same_top / (double)d->count);
    printf("perplexity       %.4f, reference %.4f\n", perplexity(d->loss, d->predicted),
           perplexity(d->reference_loss, d->predicted));
    if (job->greedy)
        printf("continuation     %u of %u tokens the same\n", job->same, job->greedy);
}

static enum sluice_status print_json(struct job *job)
{
    struct divergence *d = &job->divergence;
    json_t *report = json_pack(
        "{s:I, s:{s:f,s:f,s:f,s:f,s:f}, s:f, s:f, s:f, s:f, s:{s:i,s:i}}", "tokens", (json_int_t)d->count, //
        "kl", "mean", divergence_mean(d), "median", divergence_quantile(d, 0.5), "p99",                    //
        divergence_quantile(d, 0.99), "worst", divergence_quantile(d, 1), "mean_same_experts",
        divergence_mean_same_experts(d), //
        "same_experts", (double)d->same_experts / (double)d->count, "same_top", (double)d->same_top / (double)d->count,
        "perplexity", perplexity(d->loss, d->predicted),                                                            //
        "reference_perplexity", perplexity(d->reference_loss, d->predicted), "continuation", "tokens", job->greedy, //
        "same", job->same);
    if (!report)
        return error_set(SLUICE_ERR_MEMORY, "out of memory");
    json_dumpf(report, stdout, JSON_INDENT(1));
    putchar('\n');
    json_decref(report);
    return SLUICE_OK;
}

int cmd_divergence(int argc, char **argv)
{
    struct job job = {0};
    int exit_status;
    const struct cli_option options[] = {
        {"text", 't', "FILE", "the text, as UTF-8; \"-\": standard input. <|im_end|> in it is a control token",
         cli_parse_text, &job.text_path},
        {"ids", 0, "FILE", "the text, as a JSON array of token ids", cli_parse_text, &job.ids_path},
        {"last", 0, "N", "compare the last N tokens only, each with all text before it", cli_parse_count, &job.last},
        {"greedy", 0, "N", "also continue with the N likeliest tokens and count equal ones", cli_parse_count,
         &job.greedy},
        {"json", 0, NULL, "one JSON object on standard output", cli_parse_flag, &job.as_json},
        CLI_ENGINE_OPTIONS(job.engine_options),
    };
    const struct cli_command command = {
        "divergence",
        "FILE [REFERENCE] {--text FILE | --ids FILE} [OPTIONS]",
        "Measures how far the predictions of the model in FILE are from those of REFERENCE, another container of the "
        "same model (such as its BF16 form; default: FILE itself), over the tokens of a text: Kullback-Leibler "
        "divergence in nats, how often both choose the same experts and find the same token likeliest, perplexity. The "
        "options for numbers (--kv, "
        "--activations) concern FILE; the reference always computes with f32 activations and an f32 KV cache. Its "
        "logits are kept in memory: 4 bytes x vocabulary x tokens compared.",
        options,
        sizeof options / sizeof *options,
        1,
        2,
    };
    if (!cli_parse(&command, argc, argv, job.paths, &exit_status))
        return exit_status;
    if (!job.ids_path == !job.text_path)
        return cli_usage_error(&command, "one of --text and --ids is needed");
    job.paths[1] = job.paths[1] ? job.paths[1] : job.paths[0];
    cli_log_start(job.engine_options.verbose);
    enum sluice_status status = run(&job);
    if (status >= 0 && job.as_json)
        status = print_json(&job);
    else if (status >= 0)
        print_report(&job);
    divergence_finish(&job.divergence);
    mem_free(job.reference);
    mem_free(job.experts[0]);
    mem_free(job.experts[1]);
    mem_free(job.continuation);
    mem_free(job.ids);
    return status < 0 ? cli_fail(status) : CLI_OK;
}
