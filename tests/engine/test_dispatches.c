// How many kernels and barriers one decoded token takes per layer. On a graphics card each costs some microseconds,
// however small it is, and a token passes through 48 layers.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/ops/tuning.h"
#include "tests/engine/engine_fixture.h"

enum { TOKENS = 90, WARM = 6 };

struct counts {
    int64_t dispatches, barriers;
};

// Layers of one kind: every `interval`-th has attention.
static void write_config(char *text, size_t size, int layers, int interval)
{
    snprintf(text, size,
             "{\"model_type\": \"qwen3_next\", \"hidden_act\": \"silu\", \"vocab_size\": 320, \"hidden_size\": 256,"
             " \"intermediate_size\": 256, \"num_hidden_layers\": %d, \"num_attention_heads\": 4,"
             " \"num_key_value_heads\": 2, \"head_dim\": 128, \"partial_rotary_factor\": 0.25, \"rope_theta\": 10000.0,"
             " \"rms_norm_eps\": 1e-6, \"tie_word_embeddings\": true, \"linear_conv_kernel_dim\": 4,"
             " \"linear_key_head_dim\": 64, \"linear_value_head_dim\": 64, \"linear_num_key_heads\": 2,"
             " \"linear_num_value_heads\": 4, \"num_experts\": 16, \"num_experts_per_tok\": 4,"
             " \"moe_intermediate_size\": 256, \"shared_expert_intermediate_size\": 256, \"norm_topk_prob\": true,"
             " \"decoder_sparse_step\": 1, \"mlp_only_layers\": [], \"full_attention_interval\": %d,"
             " \"max_position_embeddings\": 4096, \"torch_dtype\": \"bfloat16\"}",
             layers, interval);
}

static struct counts counts_of(const struct sluice_engine *engine)
{
    struct sluice_stats stats;
    sluice_stats(engine, &stats);
    return (struct counts){(int64_t)stats.dispatches, (int64_t)stats.barriers};
}

// Of one decoded token of each session, all experts being on the device.
static struct counts count_decode(int layers, int interval, unsigned sessions, const struct engine_hooks *hooks)
{
    char config[2048], container[4096];
    int32_t ids[TOKENS];
    struct sluice_engine *engine;
    struct sluice_session *session[SLUICE_SESSIONS_MAX];
    write_config(config, sizeof config, layers, interval);
    fixture_container(config, 5, QUANT_Q4_K, container);
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (7 * i * i + 5 * i + 1) % FIXTURE_VOCAB;
    require_ok(engine_open_hooked(container,
                                  &(struct sluice_options){.context_tokens = TOKENS + WARM + 1,
                                                           .sessions = sessions,
                                                           .slots = 16u * (unsigned)layers,
                                                           .cache_folder = fixture_cache()},
                                  hooks, &engine));
    for (unsigned i = 0; i < sessions; i++) {
        require_ok(sluice_session_create(engine, &session[i]));
        require_ok(sluice_prefill(session[i], ids, TOKENS, &(struct sluice_prefill_options){0}));
    }
    for (int i = 0; i < WARM; i++)
        require_ok(sluice_decode(engine, session, ids, sessions, NULL));
    sluice_stats_reset(engine);
    require_ok(sluice_decode(engine, session, ids, sessions, NULL));
    struct counts counts = counts_of(engine);
    for (unsigned i = 0; i < sessions; i++)
        sluice_session_destroy(session[i]);
    sluice_close(engine);
    return counts;
}

// What one more layer of a kind adds to so many.
static void expect_layer(const char *what, int layers, int interval, unsigned sessions,
                         const struct engine_hooks *hooks, struct counts most)
{
    struct counts few = count_decode(layers, interval, sessions, hooks);
    struct counts more = count_decode(layers + 1, interval, sessions, hooks);
    int64_t dispatches = more.dispatches - few.dispatches, barriers = more.barriers - few.barriers;
    if (dispatches > most.dispatches || barriers > most.barriers)
        fail_msg("%s: %lld dispatches and %lld barriers, at most %lld and %lld were promised", what,
                 (long long)dispatches, (long long)barriers, (long long)most.dispatches, (long long)most.barriers);
}

static int teardown(void **state)
{
    (void)state;
    fixture_remove();
    return 0;
}

static void decoding_takes_few_dispatches(void **state)
{
    // Every token would come later, on graphics cards only, where nobody runs these tests.
    (void)state;
    const struct engine_hooks none = {0};
    expect_layer("DeltaNet", 1, 100, 1, &none, (struct counts){15, 13});
    expect_layer("attention", 1, 1, 1, &none, (struct counts){16, 13});
}

static void sessions_share_barriers(void **state)
{
    // Sessions decode together because that is faster: their own kernels must not wait for each other.
    (void)state;
    const struct engine_hooks none = {0};
    expect_layer("DeltaNet of 3 sessions", 1, 100, 3, &none, (struct counts){24, 17});
}

static void choose_gpu(const struct gpu_caps *caps, struct tuning *tuning)
{
    (void)caps;
    tuning->matmul = (struct matmul_tuning){
        .lanes = 32, .rows_per_lane = 1, .columns = {{{1}, {1}}, {{1}, {1}}}, .slice_columns_max = 1, .slabs = true};
}

static void experts_in_many_buffers_take_no_more(void **state)
{
    // Slots of many gigabytes lie in many buffers: a dispatch for each would cost more than the experts.
    (void)state;
    const struct engine_hooks gpu = {.max_buffer_bytes = 700 << 10, .ops = {.adjust = choose_gpu}};
    const struct engine_hooks software = {.max_buffer_bytes = 256 << 10};
    expect_layer("GPU", 1, 100, 1, &gpu, (struct counts){15, 13});
    // Two experts per buffer, 16 per layer: more buffers than a kernel is bound to.
    expect_layer("software driver", 3, 100, 1, &software, (struct counts){15, 13});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_takes_few_dispatches),
        cmocka_unit_test(sessions_share_barriers),
        cmocka_unit_test(experts_in_many_buffers_take_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
