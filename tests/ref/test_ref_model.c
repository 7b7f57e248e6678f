#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/random.h"
#include "tests/ref/ref_delta.h"
#include "tests/ref/ref_model.h"

// A small model whose weights are a formula of name and index, and what Transformers (float32) computes for it; the
// expected numbers below are printed with six digits after the point.
enum { TENSORS_MAX = 256, TOKENS = 150, HIDDEN = 64, LAYERS = 4, VOCAB = 256 };

static struct model_config tiny_config(void)
{
    struct model_config c = {.vocab_size = VOCAB,
                             .hidden_size = HIDDEN,
                             .layer_count = LAYERS,
                             .full_count = 1,
                             .linear_count = 3,
                             .moe_count = LAYERS,
                             .norm_eps = 1e-6f,
                             .heads = 4,
                             .kv_heads = 2,
                             .head_dim = 32,
                             .rotary_dim = 8,
                             .rope = {.theta = 1e4},
                             .linear_key_heads = 2,
                             .linear_value_heads = 4,
                             .linear_key_dim = 16,
                             .linear_value_dim = 16,
                             .conv_taps = 4,
                             .experts = 8,
                             .top_k = 2,
                             .expert_intermediate = 32,
                             .shared_intermediate = 48,
                             .norm_topk_prob = true};
    for (uint32_t i = 0; i < LAYERS; i++)
        c.layers[i] = (struct model_layer){.full_attention = i == 3, .moe = true};
    return c;
}

struct tensor_cache {
    char names[TENSORS_MAX][80];
    float *values[TENSORS_MAX];
    unsigned count;
};

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

// in_features of a matrix: what the rows of the tiny model's tensors are long.
static double columns(const char *name)
{
    if (strstr(name, "experts.") && ends_with(name, "down_proj.weight"))
        return 32;
    if (strstr(name, "shared_expert.down_proj"))
        return 48;
    if (strstr(name, "o_proj"))
        return 128;
    return 64;
}

static float formula(const char *name, double u)
{
    double s = 2 * u - 1;
    if (ends_with(name, "A_log"))
        return (float)log(0.3 + 5.7 * u);
    if (ends_with(name, "dt_bias"))
        return (float)(-1.5 + 1.5 * s);
    if (ends_with(name, "linear_attn.norm.weight"))
        return (float)(1 + 0.5 * s);
    if (strstr(name, "norm"))
        return (float)(0.5 * s);
    if (ends_with(name, "conv1d.weight"))
        return (float)(0.8 * s);
    if (ends_with(name, "embed_tokens.weight"))
        return (float)(sqrt(3) * s);
    return (float)(sqrt(3 / columns(name)) * s);
}

static float *tensor_make(const char *name, size_t count)
{
    uint64_t hash = 0xCBF29CE484222325u; // FNV-1a
    for (const char *c = name; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 0x100000001B3u;
    float *values = calloc(count, sizeof *values);
    for (size_t i = 0; i < count; i++) {
        values[i] = formula(name, (double)(random_at(hash, i) >> 40) * 0x1p-24);
    }
    return values;
}

static const float *tensor_get(void *user, const char *name, size_t count)
{
    struct tensor_cache *cache = user;
    for (unsigned i = 0; i < cache->count; i++)
        if (strcmp(cache->names[i], name) == 0)
            return cache->values[i];
    assert_true(cache->count < TENSORS_MAX && strlen(name) < sizeof cache->names[0]);
    memcpy(cache->names[cache->count], name, strlen(name) + 1);
    return cache->values[cache->count++] = tensor_make(name, count);
}

static void tensor_cache_free(struct tensor_cache *cache)
{
    for (unsigned i = 0; i < cache->count; i++)
        free(cache->values[i]);
    free(cache);
}

static void expect(const double *got, const double *want, size_t count, double tolerance)
{
    for (size_t i = 0; i < count; i++)
        if (!(fabs(got[i] - want[i]) <= tolerance))
            fail_msg("value %zu is %.6f, expected %.6f", i, got[i], want[i]);
}

struct tiny {
    struct tensor_cache *tensors;
    struct ref_model *model;
    double *logits, *hidden;
};

static struct tiny tiny_run(void)
{
    struct model_config config = tiny_config();
    uint32_t ids[TOKENS];
    for (uint32_t t = 0; t < TOKENS; t++)
        ids[t] = (7 * t * t + 13 * t + 5) % VOCAB;
    struct tiny tiny = {.tensors = calloc(1, sizeof *tiny.tensors)};
    tiny.model = ref_model_create(&config, tensor_get, tiny.tensors);
    tiny.logits = calloc((size_t)TOKENS * VOCAB, sizeof *tiny.logits);
    tiny.hidden = calloc((size_t)TOKENS * LAYERS * HIDDEN, sizeof *tiny.hidden);
    ref_model_read(tiny.model, ids, 70, tiny.logits, tiny.hidden, NULL);
    ref_model_read(tiny.model, ids + 70, TOKENS - 70, tiny.logits + 70 * VOCAB,
                   tiny.hidden + (size_t)70 * LAYERS * HIDDEN, NULL);
    return tiny;
}

static void tiny_free(struct tiny *tiny)
{
    ref_model_destroy(tiny->model);
    tensor_cache_free(tiny->tensors);
    free(tiny->logits);
    free(tiny->hidden);
}

static void model_agrees_with_transformers(void **state)
{
    // If the reference itself were wrong, every test against it would bless a wrong program.
    static const struct {
        unsigned position;
        double logits[4];
    } golden[] = {
        {0, {0.113384, -0.080524, 0.920804, -1.021380}},    {1, {-1.709613, 0.681631, 0.381235, -1.019726}},
        {2, {1.709553, 0.811737, 1.081481, -1.622616}},     {3, {1.364999, 1.185692, 1.077849, 0.447316}},
        {63, {-0.926623, 1.355468, 0.502991, 0.082884}},    {64, {0.359143, -0.853843, 0.197888, -0.957802}},
        {65, {-1.308562, -0.855350, 0.052151, 0.710858}},   {127, {0.352715, 1.202743, 0.722638, 0.159633}},
        {128, {0.207423, -0.302295, -2.155264, -0.807528}}, {149, {1.739212, 0.598047, -0.228357, -0.983364}},
    };
    static const double hidden_5[LAYERS][4] = {{0.567465, 0.011074, 1.023278, -0.903308},
                                               {-0.634884, -0.074162, 0.966086, -0.579800},
                                               {0.714586, 0.617233, -0.427664, 0.024022},
                                               {0.739337, 0.782867, -0.553296, -0.037340}};
    (void)state;
    struct tiny tiny = tiny_run();
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++)
        expect(tiny.logits + golden[i].position * VOCAB, golden[i].logits, 4, 5e-5);
    for (size_t layer = 0; layer < LAYERS; layer++)
        expect(tiny.hidden + (5 * LAYERS + layer) * HIDDEN, hidden_5[layer], 4, 2e-5);
    tiny_free(&tiny);
}

static void model_states_agree_with_transformers(void **state)
{
    // Saved sessions and snapshots are compared with these states.
    static const double s[4] = {0.021853, -0.020192, -0.060070, -0.000626}, conv[3] = {-0.448309, -2.329473, 0.797218};
    static const double s357 = 0.125208, k149[4] = {2.045227, -0.133618, 0.039425, -0.388576};
    (void)state;
    struct tiny tiny = tiny_run();
    const double *got = ref_model_state(tiny.model, 0), *taps = ref_model_conv(tiny.model, 0);
    expect(got, s, 4, 5e-6);
    expect(got + (3 * 16 + 5) * 16 + 7, &s357, 1, 5e-6);
    for (size_t j = 0; j < 3; j++)
        expect(taps + j * 128, conv + j, 1, 5e-6);
    const double *k = ref_model_k(tiny.model, 3) + (149 * 2 + 1) * 32;
    expect((double[]){k[0], k[4], k[8], k[31]}, k149, 4, 2e-5);
    tiny_free(&tiny);
}

static void delta_rule_agrees_with_definition(void **state)
{
    // The recurrence by itself, so that an error in it shows where it is.
    static const double want[3][4] = {{0, -0.025951, -0.047805, -0.062112},
                                      {-0.070716, -0.107600, -0.127497, -0.127265},
                                      {0.419564, 0.414572, 0.344127, 0.219353}};
    static const double final_first[4] = {-0.291556, -0.400565, -0.446335, -0.421638};
    static const double final_last[4] = {-0.422996, -0.313357, -0.154246, 0.029217};
    struct ref_delta_shape shape = {1, 1, 4, 4, 2};
    double s[16] = {0}, conv[12], o[4];
    (void)state;
    for (int t = 0; t < 5; t++) {
        for (int i = 0; i < 4; i++) {
            conv[i] = sin(0.1 + t + 0.3 * i);
            conv[4 + i] = cos(0.2 + 0.7 * t + 0.5 * i);
            conv[8 + i] = sin(0.5 * t - 0.4 * i);
        }
        double ba[2] = {0.3 * t - 0.5, log(expm1(0.1 + 0.05 * t))}; // softplus(a) = -g
        ref_delta_step(&shape, conv, ba, (float[]){0}, (float[]){0}, s, o);
        if (t % 2 == 0)
            expect(o, want[t / 2], 4, 1e-6);
    }
    expect(s, final_first, 4, 1e-6);
    expect(s + 12, final_last, 4, 1e-6);
}

static void yarn_frequencies_agree_with_transformers(void **state)
{
    // Long contexts need the stretched frequencies, and the numbers of the full-size model are known.
    struct model_config config = {.rotary_dim = 64,
                                  .rope = {.theta = 1e7,
                                           .yarn = true,
                                           .factor = 4,
                                           .original_positions = 262144,
                                           .beta_fast = 32,
                                           .beta_slow = 1,
                                           .truncate = true}};
    static const struct {
        unsigned i;
        double f;
    } want[] = {
        {0, 1}, {1, 0.60429639}, {15, 4.74239823e-4}, {20, 1.8449222e-5}, {25, 8.49552082e-7}, {31, 4.13704275e-8}};
    float frequencies[32];
    (void)state;
    assert_true(fabs(ref_rope_frequencies(&config, frequencies) - 1.138629436) < 1e-9);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        assert_true(fabs((double)frequencies[want[i].i] / want[i].f - 1) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delta_rule_agrees_with_definition),
        cmocka_unit_test(yarn_frequencies_agree_with_transformers),
        cmocka_unit_test(model_agrees_with_transformers),
        cmocka_unit_test(model_states_agree_with_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
