#include "tests/engine/engine_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/model/convert.h"
#include "runtime/model/synth_checkpoint.h"

const char fixture_config[] =
    "{\"model_type\": \"qwen3_next\", \"hidden_act\": \"silu\", \"vocab_size\": 320, \"hidden_size\": 256,"
    " \"intermediate_size\": 288, \"num_hidden_layers\": 5, \"num_attention_heads\": 6, \"num_key_value_heads\": 2,"
    " \"head_dim\": 96, \"partial_rotary_factor\": 0.25, \"rope_theta\": 10000.0, \"rms_norm_eps\": 1e-6,"
    " \"tie_word_embeddings\": true, \"linear_conv_kernel_dim\": 4, \"linear_key_head_dim\": 32,"
    " \"linear_value_head_dim\": 64, \"linear_num_key_heads\": 2, \"linear_num_value_heads\": 6, \"num_experts\": 24,"
    " \"num_experts_per_tok\": 5, \"moe_intermediate_size\": 256, \"shared_expert_intermediate_size\": 96,"
    " \"norm_topk_prob\": true, \"decoder_sparse_step\": 1, \"mlp_only_layers\": [1], \"full_attention_interval\": 3,"
    " \"max_position_embeddings\": 4096, \"torch_dtype\": \"bfloat16\"}";

static char directory[64];
static bool have_directory;
static unsigned container_count;

void require_ok(enum sluice_status status)
{
    if (status < 0)
        fail_msg("%s: %s", status_text(status), error_message());
}

char *fixture_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("cannot open %s", path);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *text = mem_alloc((size_t)size + 1, 1);
    assert_int_equal(fread(text, 1, (size_t)size, file), size);
    fclose(file);
    return text;
}

void fixture_container(const char *config, uint64_t seed, enum quant_type type, char *path)
{
    if (!have_directory) {
        snprintf(directory, sizeof directory, "/tmp/sluice-test-XXXXXX");
        if (!mkdtemp(directory))
            fail_msg("cannot make a temporary directory");
    }
    have_directory = true;
    char checkpoint[4096];
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint-%u", directory, container_count);
    snprintf(path, 4096, "%s/model-%u.sluice", directory, container_count++);
    require_ok(model_synth_write(&(struct synth_options){
        .config = config, .config_bytes = strlen(config), .seed = seed, .directory = checkpoint, .threads = 2}));
    require_ok(model_convert(&(struct convert_options){
        .source = checkpoint, .output = path, .recipe = model_recipe_default(type), .program = "test", .threads = 2}));
}

const char *fixture_cache(void)
{
    static char folder[sizeof directory + 8];
    snprintf(folder, sizeof folder, "%s/cache", directory);
    return have_directory ? folder : NULL;
}

void fixture_remove(void)
{
    char command[4096];
    if (have_directory) {
        snprintf(command, sizeof command, "rm -rf '%s'", directory);
        assert_int_equal(system(command), 0);
    }
    have_directory = false;
}

// --- outcomes -------------------------------------------------------------------------------------------------------

struct recorder {
    struct outcome *outcome;
    uint32_t first; // token of the prompt at which the running call begins
};

static enum sluice_status record_hidden(void *user, uint32_t layer, uint32_t first, uint32_t rows, const float *values)
{
    struct recorder *r = user;
    size_t width = r->outcome->hidden;
    memcpy(r->outcome->hiddens[layer] + (r->first + first) * width, values, rows * width * sizeof *values);
    return SLUICE_OK;
}

static enum sluice_status record_experts(void *user, uint32_t layer, uint32_t first, uint32_t rows, const uint32_t *ids)
{
    struct recorder *r = user;
    size_t width = r->outcome->top_k;
    if (!r->outcome->experts[layer])
        r->outcome->experts[layer] = mem_alloc(r->outcome->tokens * width, sizeof *ids);
    memcpy(r->outcome->experts[layer] + (r->first + first) * width, ids, rows * width * sizeof *ids);
    return SLUICE_OK;
}

static enum sluice_status record_logits(void *user, uint32_t first, uint32_t rows, const float *values)
{
    struct recorder *r = user;
    size_t width = r->outcome->vocab;
    memcpy(r->outcome->logits + (r->first + first) * width, values, rows * width * sizeof *values);
    return SLUICE_OK;
}

static void outcome_init(struct outcome *o, const struct sluice_model *model, uint32_t tokens, uint32_t greedy_count)
{
    *o = (struct outcome){.tokens = tokens,
                          .layers = model->layers,
                          .hidden = model->hidden,
                          .vocab = model->vocab,
                          .top_k = model->top_k,
                          .greedy_count = greedy_count};
    o->logits = mem_alloc((size_t)tokens * model->vocab, sizeof *o->logits);
    o->hiddens = mem_alloc(model->layers, sizeof *o->hiddens);
    o->experts = mem_alloc(model->layers, sizeof *o->experts);
    o->states = mem_alloc(model->layers, sizeof *o->states);
    o->greedy = mem_alloc(greedy_count, sizeof *o->greedy);
    for (uint32_t i = 0; i < model->layers; i++)
        o->hiddens[i] = mem_alloc((size_t)tokens * model->hidden, sizeof **o->hiddens);
}

static void run_prompt(struct sluice_engine *engine, struct sluice_session *session, const int32_t *ids,
                       const struct outcome_options *options, struct outcome *outcome)
{
    struct recorder recorder = {.outcome = outcome};
    struct sluice_tap tap = {&recorder, record_hidden, record_experts, record_logits};
    struct sluice_prefill_options prefill = {.tap = &tap};
    uint32_t step = options->decode ? 1 : options->split ? options->split : outcome->tokens;
    for (uint32_t done = 0; done < outcome->tokens; done += step) {
        uint32_t left = outcome->tokens - done;
        recorder.first = done;
        if (options->decode)
            require_ok(sluice_decode(engine, &session, &ids[done], 1, &tap));
        else
            require_ok(sluice_prefill(session, &ids[done], left < step ? left : step, &prefill));
    }
}

static int32_t argmax(const float *values, uint32_t count)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++)
        if (values[i] > values[best])
            best = i;
    return (int32_t)best;
}

void outcome_compute(const char *path, const int32_t *ids, uint32_t count, const struct outcome_options *options,
                     struct outcome *outcome)
{
    struct sluice_engine *engine;
    struct sluice_session *session;
    struct sluice_options open = options->engine;
    if (!open.context_tokens)
        open.context_tokens = count + options->greedy_count;
    if (!open.cache_folder)
        open.cache_folder = fixture_cache();
    require_ok(engine_open_hooked(path, &open, &options->hooks, &engine));
    const struct sluice_model *model = sluice_engine_model(engine);
    outcome_init(outcome, model, count, options->greedy_count);
    require_ok(sluice_session_create(engine, &session));
    run_prompt(engine, session, ids, options, outcome);
    size_t state_floats = (size_t)model->value_heads * model->key_dim * model->value_dim;
    for (uint32_t i = 0; i < model->layers; i++) {
        if (!sluice_layer_is_linear(engine, i))
            continue;
        outcome->states[i] = mem_alloc(state_floats, sizeof(float));
        require_ok(sluice_session_state(session, i, outcome->states[i]));
    }
    for (uint32_t i = 0; i < options->greedy_count; i++) {
        outcome->greedy[i] = argmax(sluice_logits(session), model->vocab);
        require_ok(sluice_decode(engine, &session, &outcome->greedy[i], 1, NULL));
    }
    sluice_session_destroy(session);
    sluice_close(engine);
}

void outcome_finish(struct outcome *o)
{
    for (uint32_t i = 0; i < o->layers; i++) {
        mem_free(o->hiddens[i]);
        mem_free(o->experts[i]);
        mem_free(o->states[i]);
    }
    mem_free(o->hiddens);
    mem_free(o->experts);
    mem_free(o->states);
    mem_free(o->logits);
    mem_free(o->greedy);
}
