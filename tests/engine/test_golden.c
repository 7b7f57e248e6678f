// The engine against Hugging Face Transformers: tests/data/golden.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/gpu/device.h"
#include "tests/engine/engine_fixture.h"

struct golden {
    struct safetensors *file;
    int32_t *ids, *rows, *greedy;
    uint32_t tokens, row_count, greedy_count;
};

// Built with MATRIX_CORES, prefills run on matrix cores, which round to f16.
#ifdef MATRIX_CORES
static const double limit_decode = 2e-3, limit_prefill = 4e-2, limit_state = 1e-2;
#else
static const double limit_decode = 2e-3, limit_prefill = 5e-3, limit_state = 1e-3;
#endif

static void *load(struct safetensors *file, const char *name, uint32_t *count)
{
    const struct safetensors_tensor *t;
    require_ok(safetensors_require(file, name, &t));
    void *data = mem_alloc(t->elements, 4);
    require_ok(safetensors_read(file, t, 0, t->elements, data));
    *count = (uint32_t)t->elements;
    return data;
}

static struct golden golden_open(const char *name)
{
    char path[512];
    struct golden g;
    snprintf(path, sizeof path, TEST_DATA "/golden/%s/golden.safetensors", name);
    require_ok(safetensors_open(path, &g.file));
    g.ids = load(g.file, "input_ids", &g.tokens);
    g.rows = load(g.file, "rows", &g.row_count);
    g.greedy = load(g.file, "greedy", &g.greedy_count);
    return g;
}

static void golden_close(struct golden *g)
{
    mem_free(g->ids);
    mem_free(g->rows);
    mem_free(g->greedy);
    safetensors_close(g->file);
}

// Largest difference between the kept rows of `ours` [tokens][width] and golden `name`; *scale: the golden's largest
// value.
static double compare_rows(const struct golden *g, const char *name, const float *ours, uint32_t width, double *scale)
{
    uint32_t count;
    float *theirs = load(g->file, name, &count);
    assert_int_equal(count, g->row_count * width);
    double worst = 0;
    *scale = 0;
    for (uint32_t i = 0; i < count; i++) {
        double difference = fabs((double)theirs[i] - (double)ours[(size_t)g->rows[i / width] * width + i % width]);
        worst = difference > worst || isnan(difference) ? difference : worst;
        *scale = fabs((double)theirs[i]) > *scale ? fabs((double)theirs[i]) : *scale;
    }
    mem_free(theirs);
    return worst;
}

static void compare_layers(const struct golden *g, const struct outcome *o, double limit)
{
    char name[32];
    double scale;
    for (uint32_t layer = 0; layer < o->layers; layer++) {
        snprintf(name, sizeof name, "hidden.%u", layer);
        double difference = compare_rows(g, name, o->hiddens[layer], o->hidden, &scale);
        if (!(difference <= limit * scale))
            fail_msg("residual stream after layer %u: off by %g of %g", layer, difference, scale);
        if (!o->states[layer])
            continue;
        uint32_t count;
        snprintf(name, sizeof name, "state.%u", layer);
        float *theirs = load(g->file, name, &count);
        for (uint32_t i = 0; i < count; i++)
            if (!(fabs((double)theirs[i] - (double)o->states[layer][i]) <= limit_state))
                fail_msg("state of layer %u, element %u: %g, expected %g", layer, i, (double)o->states[layer][i],
                         (double)theirs[i]);
        mem_free(theirs);
    }
}

// Same set of experts in every kept row. The router's gap is above 1e-3 in most rows; a differing row is counted and
// few are allowed.
static void compare_experts(const struct golden *g, const struct outcome *o)
{
    uint32_t different = 0, total = 0;
    for (uint32_t layer = 0; layer < o->layers; layer++) {
        if (!o->experts[layer])
            continue;
        char name[32];
        uint32_t count;
        snprintf(name, sizeof name, "router.%u", layer);
        int32_t *theirs = load(g->file, name, &count);
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t *ours = o->experts[layer] + (size_t)g->rows[i / o->top_k] * o->top_k;
            bool found = false;
            for (uint32_t k = 0; k < o->top_k; k++)
                found |= ours[k] == (uint32_t)theirs[i];
            different += !found;
            total++;
        }
        mem_free(theirs);
    }
    if (different > 0)
        fail_msg("%u of %u selected experts differ from Transformers'", different, total);
}

// What Transformers computed, and a container of the same weights. Close it, and fixture_remove.
static struct golden open_case(const char *name, char container[4096])
{
    char path[512];
    snprintf(path, sizeof path, TEST_DATA "/golden/%s/config.json", name);
    char *config = fixture_text(path);
    fixture_container(config, 1, QUANT_BF16, container);
    mem_free(config);
    return golden_open(name);
}

static void check_case(const char *name, bool decode, enum sluice_expert_pool pool)
{
    char container[4096];
    struct golden g = open_case(name, container);
    struct outcome o;
    struct outcome_options options = {.decode = decode, .greedy_count = g.greedy_count, .engine.expert_pool = pool};
#ifdef MATRIX_CORES
    options.engine.matrix_cores = SLUICE_MATRIX_CORES_ON; // attention needs K and V in f16 for that
#else
    options.engine.kv = SLUICE_KV_F32;
#endif
    outcome_compute(container, g.ids, g.tokens, &options, &o);
    double scale, limit = decode ? limit_decode : limit_prefill;
    double difference = compare_rows(&g, "logits", o.logits, o.vocab, &scale);
    print_message("%-9s %s: logits off by at most %.2e of %.2f\n", name, decode ? "decode " : "prefill", difference,
                  scale);
    if (!(difference <= limit))
        fail_msg("%s: logits off by %g", name, difference);
    compare_layers(&g, &o, limit);
    compare_experts(&g, &o);
    for (uint32_t i = 0; i < g.greedy_count; i++)
        assert_int_equal(o.greedy[i], g.greedy[i]);
    outcome_finish(&o);
    golden_close(&g);
    fixture_remove();
}

// A cache of rounded keys and values instead of exact ones: prefill in two parts, so that the second one reads what the
// first one stored. The limit is of the largest difference of any logit, in shares of the largest logit.
static void check_cache(const char *name, enum sluice_kv kv, double limit)
{
    char container[4096];
    struct golden g = open_case(name, container);
    struct outcome o;
    struct outcome_options options = {.split = g.tokens - g.tokens / 4, .engine.kv = kv};
    outcome_compute(container, g.ids, g.tokens, &options, &o);
    double scale, difference = compare_rows(&g, "logits", o.logits, o.vocab, &scale);
    print_message("%-9s cache %d: logits off by at most %.2e of %.2f\n", name, (int)kv, difference, scale);
    if (!(difference <= limit * scale))
        fail_msg("%s: logits off by %g of %g", name, difference, scale);
    outcome_finish(&o);
    golden_close(&g);
    fixture_remove();
}

// If this fails, `--kv f16` or `--kv q8` change what the model says by more than rounding does.
static void test_rounded_caches(void **state)
{
    (void)state;
    check_cache("hybrid", SLUICE_KV_F16, 5e-4);
    check_cache("hybrid", SLUICE_KV_Q8, 1e-2);
    check_cache("headsize", SLUICE_KV_Q8, 1e-2);
}

// If one of these fails, the model says something else than the published one would. Prefill and decode keep experts in
// one pool or in separate places; that both give the same bits: test_engine.c.
#define GOLDEN(name, pool_prefill, pool_decode)                      \
    static void test_##name##_prefill(void **state)                  \
    {                                                                \
        (void)state;                                                 \
        check_case(#name, false, SLUICE_EXPERT_POOL_##pool_prefill); \
    }                                                                \
    static void test_##name##_decode(void **state)                   \
    {                                                                \
        (void)state;                                                 \
        check_case(#name, true, SLUICE_EXPERT_POOL_##pool_decode);   \
    }
GOLDEN(hybrid, AUTO, SEPARATE)
GOLDEN(headsize, SEPARATE, AUTO)
GOLDEN(yarn, AUTO, SEPARATE)
GOLDEN(plain, SEPARATE, AUTO)
GOLDEN(densemix, AUTO, SEPARATE)
GOLDEN(long, AUTO, SEPARATE)

#ifdef MATRIX_CORES
static void require_matrix_cores(void)
{
    struct gpu_device *device;
    if (gpu_device_create(NULL, &device) == SLUICE_OK) {
        const struct gpu_caps caps = *gpu_device_caps(device);
        gpu_device_destroy(device);
        if (caps.matrix_cores)
            return;
        fprintf(stderr, "skipped: this device has no cooperative matrices: %s (%s)\n", caps.device_name,
                caps.driver_name);
    } else
        fprintf(stderr, "skipped: %s\n", error_message());
    exit(77);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hybrid_prefill),   cmocka_unit_test(test_hybrid_decode),
        cmocka_unit_test(test_headsize_prefill), cmocka_unit_test(test_headsize_decode),
        cmocka_unit_test(test_yarn_prefill),     cmocka_unit_test(test_yarn_decode),
        cmocka_unit_test(test_plain_prefill),    cmocka_unit_test(test_plain_decode),
        cmocka_unit_test(test_densemix_prefill), cmocka_unit_test(test_densemix_decode),
        cmocka_unit_test(test_long_prefill),     cmocka_unit_test(test_rounded_caches),
    };
#ifdef MATRIX_CORES
    require_matrix_cores();
#endif
    (void)test_long_decode; // 2,500 steps: by hand, tools/logits --decode
    return cmocka_run_group_tests(tests, NULL, NULL);
}
