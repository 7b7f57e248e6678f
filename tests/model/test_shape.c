// Published shapes and slices of models.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/model/config.h"
#include "runtime/model/shape.h"
#include "tests/model/config_case.h"

// The first `layers` layers of a model that begins as tests/data/configs/`name`.json, parsed.
static struct model_config *sliced(const char *name, const char *field, const char *value, uint32_t layers)
{
    char *whole = config_case_text(name, field, value), *text;
    size_t bytes;
    struct model_config *config = mem_alloc(1, sizeof *config);
    assert_int_equal(model_shape_slice(whole, strlen(whole), layers, &text, &bytes), SLUICE_OK);
    assert_int_equal(strlen(text), bytes);
    assert_int_equal(model_config_parse(text, bytes, config), SLUICE_OK);
    mem_free(text);
    free(whole);
    return config;
}

// Measurements of "the published shape" would be those of another model.
static void test_published(void **state)
{
    (void)state;
    struct model_config *config = mem_alloc(2, sizeof *config);
    const char *text;
    assert_int_equal(model_shape_find("qwen3-next-80b", &text), SLUICE_OK);
    assert_int_equal(model_config_parse(text, strlen(text), &config[0]), SLUICE_OK);
    assert_int_equal(config_case_parse("published-80b", NULL, NULL, &config[1]), SLUICE_OK);
    assert_memory_equal(&config[0], &config[1], sizeof *config);
    assert_int_equal(model_shape_find("qwen3-next-81b", &text), SLUICE_ERR_ARGUMENT);
    assert_non_null(strstr(error_message(), "qwen3-next-80b"));
    mem_free(config);
}

// A slice would have other layers than the model begins with, and its speed would say nothing about the whole.
static void test_slices(void **state)
{
    (void)state;
    struct model_config *config = sliced("published-80b", NULL, NULL, 4);
    assert_int_equal(config->layer_count, 4);
    assert_int_equal(config->full_count, 1);
    assert_true(config->layers[3].full_attention);
    assert_int_equal(config->moe_count, 4);
    assert_int_equal(config->vocab_size, 151936);
    mem_free(config);

    config = sliced("mixed", NULL, NULL, 1); // mlp_only_layers [1] has nothing left to say
    assert_int_equal(config->layer_count, 1);
    assert_true(config->layers[0].moe);
    mem_free(config);

    config = sliced("tiny", "layer_types",
                    "[\"full_attention\", \"linear_attention\", \"linear_attention\", \"linear_attention\"]", 2);
    assert_int_equal(config->layer_count, 2);
    assert_true(config->layers[0].full_attention && !config->layers[1].full_attention);
    mem_free(config);
}

// A wrong number of layers or a broken config.json would end in a crash or in an empty model.
static void test_refused_slices(void **state)
{
    (void)state;
    static const char *const broken[] = {"", "[]", "{}", "{\"num_hidden_layers\": \"4\"}", "{\"num_hidden_layers\": 4"};
    char *text = config_case_text("tiny", NULL, NULL), *out;
    size_t bytes;
    assert_int_equal(model_shape_slice(text, strlen(text), 5, &out, &bytes), SLUICE_ERR_ARGUMENT);
    assert_non_null(strstr(error_message(), "has 4"));
    assert_null(out);
    assert_int_equal(model_shape_slice(text, strlen(text), 0, &out, &bytes), SLUICE_ERR_ARGUMENT);
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        assert_int_equal(model_shape_slice(broken[i], strlen(broken[i]), 1, &out, &bytes), SLUICE_ERR_FORMAT);
        assert_null(out);
    }
    mem_fail_at(0);
    assert_int_equal(model_shape_slice(text, strlen(text), 1, &out, &bytes), SLUICE_ERR_MEMORY);
    mem_fail_at(UINT64_MAX);
    assert_null(out);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published),
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_refused_slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
