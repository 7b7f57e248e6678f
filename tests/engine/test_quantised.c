// Quantised models on the device against the scalar model on exactly the weights that the container's blocks decode to:
// what remains is the arithmetic of the kernels and, with 8-bit activations, their rounding.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "offload/container.h"
#include "quant/tile.h"
#include "runtime/base/doubles.h"
#include "runtime/base/mem.h"
#include "tests/engine/engine_fixture.h"
#include "tests/ref/ref_model.h"

enum { TOKENS = 48, NAMES_MAX = 4096 };

// Decoded weights by checkpoint name, made when first asked for.
struct decoded {
    struct container *container;
    const struct model_config *config;
    uint32_t count;
    char *names[NAMES_MAX];
    float *values[NAMES_MAX];
};

static void *read_tensor(struct decoded *d, const char *name, const struct container_tensor **t)
{
    *t = container_tensor_find(d->container, name);
    if (!*t)
        return NULL;
    void *bytes = mem_alloc((*t)->bytes, 1);
    require_ok(container_read_tensor(d->container, *t, bytes));
    return bytes;
}

// Matrix `which` (0 gate, 1 up) of a pair in alternating row tiles.
static void decode_pair(enum quant_type type, const void *tiles, uint64_t rows, uint64_t cols, int which, float *values)
{
    uint64_t padded = (rows + QUANT_TILE_ROWS - 1) / QUANT_TILE_ROWS * QUANT_TILE_ROWS;
    for (uint64_t row = 0; row < rows; row++) {
        uint64_t tile = 2 * (row / QUANT_TILE_ROWS) + (uint64_t)which;
        quant_tile_decode_row(type, tiles, 2 * padded, cols, tile * QUANT_TILE_ROWS + row % QUANT_TILE_ROWS,
                              values + row * cols);
    }
}

static bool decode_expert(struct decoded *d, const char *name, float *values)
{
    unsigned layer, expert;
    char part[32];
    if (sscanf(name, "model.layers.%u.mlp.experts.%u.%31[a-z]_proj.weight", &layer, &expert, part) != 3)
        return false;
    const struct container_expert_layer *l = container_expert_layer(d->container, layer);
    uint8_t *record = mem_alloc(l->record_bytes, 1);
    FILE *file = fopen(container_path(d->container), "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)container_expert_offset(d->container, layer, expert), SEEK_SET), 0);
    assert_int_equal(fread(record, 1, l->record_bytes, file), l->record_bytes);
    fclose(file);
    require_ok(container_expert_verify(d->container, layer, expert, record));
    if (strcmp(part, "down") == 0)
        for (uint32_t row = 0; row < l->hidden; row++)
            quant_tile_decode_row((enum quant_type)l->down_type_id, record + l->down_offset, l->hidden, l->intermediate,
                                  row, values + (size_t)row * l->intermediate);
    else
        decode_pair((enum quant_type)l->gate_up_type_id, record, l->intermediate, l->hidden, strcmp(part, "up") == 0,
                    values);
    mem_free(record);
    return true;
}

// "prefix.gate_proj.weight" and "prefix.up_proj.weight" are stored as "prefix.gate_up_proj.weight".
static bool decode_fused(struct decoded *d, const char *name, size_t count, float *values)
{
    const char *gate = strstr(name, "gate_proj.weight"), *up = strstr(name, "up_proj.weight");
    const char *at = gate ? gate : up;
    if (!at)
        return false;
    char fused[160];
    const struct container_tensor *t;
    snprintf(fused, sizeof fused, "%.*sgate_up_proj.weight", (int)(at - name), name);
    void *bytes = read_tensor(d, fused, &t);
    assert_non_null(bytes);
    decode_pair((enum quant_type)t->type_id, bytes, count / t->cols, t->cols, gate == NULL, values);
    mem_free(bytes);
    return true;
}

static void decode_plain(struct decoded *d, const char *name, size_t count, float *values)
{
    const struct container_tensor *t;
    void *bytes = read_tensor(d, name, &t);
    if (!bytes)
        fail_msg("the container has no %s", name);
    assert_int_equal(t->rows * t->cols, count);
    if (t->layout == CONTAINER_LAYOUT_PLAIN)
        memcpy(values, bytes, count * sizeof *values);
    for (uint64_t row = 0; t->layout == CONTAINER_LAYOUT_TILES && row < t->rows; row++)
        quant_tile_decode_row((enum quant_type)t->type_id, bytes, t->rows, t->cols, row, values + row * t->cols);
    mem_free(bytes);
}

static const float *weights(void *user, const char *name, size_t count)
{
    struct decoded *d = user;
    for (uint32_t i = 0; i < d->count; i++)
        if (strcmp(d->names[i], name) == 0)
            return d->values[i];
    assert_true(d->count < NAMES_MAX);
    float *values = mem_alloc(count, sizeof *values);
    if (!decode_expert(d, name, values) && !decode_fused(d, name, count, values))
        decode_plain(d, name, count, values);
    d->names[d->count] = mem_strndup(name, strlen(name));
    d->values[d->count] = values;
    return d->values[d->count++];
}

// Per token ||ours - exact|| / ||exact|| of the logits: median and largest.
static void compare(const struct outcome *o, const double *exact, double *median, double *worst)
{
    double errors[TOKENS];
    for (uint32_t t = 0; t < TOKENS; t++) {
        double difference = 0, norm = 0;
        for (uint32_t i = 0; i < o->vocab; i++) {
            double e = exact[(size_t)t * o->vocab + i], x = (double)o->logits[(size_t)t * o->vocab + i] - e;
            difference += x * x;
            norm += e * e;
        }
        errors[t] = sqrt(difference / norm);
    }
    *median = doubles_median(errors, TOKENS);
    *worst = errors[TOKENS - 1];
}

static void check_type(enum quant_type type)
{
    char path[4096];
    int32_t ids[TOKENS];
    uint32_t unsigned_ids[TOKENS];
    struct model_config *config = mem_alloc(1, sizeof *config);
    struct decoded *d = mem_alloc(1, sizeof *d);
    fixture_container(fixture_config, 17, type, path);
    require_ok(model_config_parse(fixture_config, strlen(fixture_config), config));
    require_ok(container_open(path, &d->container));
    d->config = config;
    for (int i = 0; i < TOKENS; i++)
        unsigned_ids[i] = (uint32_t)(ids[i] = (3 * i * i + 17 * i + 1) % FIXTURE_VOCAB);
    double *exact = mem_alloc((size_t)TOKENS * FIXTURE_VOCAB, sizeof *exact);
    struct ref_model *model = ref_model_create(config, weights, d);
    ref_model_read(model, unsigned_ids, TOKENS, exact, NULL, NULL);
    ref_model_destroy(model);
    for (int q8 = 0; q8 < 2; q8++) {
        struct outcome o;
        double median, worst;
        struct outcome_options options = {.engine.kv = SLUICE_KV_F32};
        options.engine.activations = q8 ? SLUICE_ACTIVATIONS_Q8 : SLUICE_ACTIVATIONS_F32;
        outcome_compute(path, ids, TOKENS, &options, &o);
        compare(&o, exact, &median, &worst);
        print_message("%s, %s activations: logits off by %.1e (median of tokens), %.1e (worst)\n",
                      quant_format_get(type)->name, q8 ? "8-bit" : "f32", median, worst);
        // An expert that is chosen otherwise because two were almost equally likely shows in single tokens.
        if (q8 ? !(median <= 5e-2) : !(worst <= 1e-4))
            fail_msg("the kernels do not compute what the blocks say");
        outcome_finish(&o);
    }
    for (uint32_t i = 0; i < d->count; i++) {
        mem_free(d->names[i]);
        mem_free(d->values[i]);
    }
    container_close(d->container);
    mem_free(exact);
    mem_free(config);
    mem_free(d);
    fixture_remove();
}

// If one of these fails, a quantised model is worse than its number format.
static void test_q4_k(void **state)
{
    (void)state;
    check_type(QUANT_Q4_K);
}

static void test_q5_k(void **state)
{
    (void)state;
    check_type(QUANT_Q5_K);
}

static void test_q6_k(void **state)
{
    (void)state;
    check_type(QUANT_Q6_K);
}

static void test_q8_0(void **state)
{
    (void)state;
    check_type(QUANT_Q8_0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_q4_k),
        cmocka_unit_test(test_q5_k),
        cmocka_unit_test(test_q6_k),
        cmocka_unit_test(test_q8_0),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
