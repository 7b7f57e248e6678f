// Synthetic containers, written without a checkpoint.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "offload/container.h"
#include "quant/halffloat.h"
#include "quant/tile.h"
#include "runtime/base/mem.h"
#include "runtime/model/synth_container.h"
#include "tests/model/checkpoint_case.h"
#include "tests/model/config_case.h"

static char directory[CHECKPOINT_PATH_BYTES];

static int set_up(void **state)
{
    (void)state;
    checkpoint_directory_create(directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    checkpoint_directory_remove(directory);
    return 0;
}

static const char *in_directory(const char *name)
{
    static char paths[4][2 * CHECKPOINT_PATH_BYTES];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

// Writes the model of tests/data/configs/`config_name`.json to `name`, options otherwise as in *options.
static enum sluice_status synth_to(const char *name, const char *config_name, struct synth_container_options *options)
{
    char *config = config_case_text(config_name, NULL, NULL);
    options->config = config;
    options->config_bytes = strlen(config);
    options->output = in_directory(name);
    options->program = "test";
    enum sluice_status status = model_synth_container(options);
    free(config);
    return status;
}

static void assert_same_file(const char *name_a, const char *name_b)
{
    FILE *a = fopen(in_directory(name_a), "rb"), *b = fopen(in_directory(name_b), "rb");
    assert_true(a && b);
    for (int x = 0, y = 0; x != EOF || y != EOF;) {
        x = getc_unlocked(a);
        y = getc_unlocked(b);
        assert_int_equal(x, y);
    }
    fclose(a);
    fclose(b);
}

// --- what is in it --------------------------------------------------------------------------------------------------

static void check_tensor(const struct container *c, const struct model_layout *layout,
                         const struct model_tensor *tensor, const struct model_recipe *recipe)
{
    const struct container_tensor *t = container_tensor_find(c, tensor->name);
    enum quant_type type = model_tensor_type(tensor, recipe, QUANT_BF16);
    uint64_t count = (uint64_t)tensor->rows * tensor->cols;
    assert_non_null(t);
    assert_int_equal(t->type_id, type);
    assert_int_equal(t->rows, model_tensor_stored_rows(tensor));
    assert_int_equal(t->bytes, model_tensor_bytes(tensor, type));
    if (tensor->kind != MODEL_TENSOR_PLAIN && !tensor->keep_float)
        return;
    // What decides about sizes and choices is that of the synthetic checkpoint.
    uint8_t *stored = mem_alloc(t->bytes, 1);
    uint16_t *wanted = mem_alloc(count, sizeof *wanted), *found = mem_alloc(count, sizeof *found);
    checkpoint_values(&tensor->sources[0], layout->config.hidden_size, wanted);
    assert_int_equal(container_read_tensor(c, t, stored), SLUICE_OK);
    if (tensor->keep_float)
        assert_int_equal(quant_tile_unpack(QUANT_BF16, stored, tensor->rows, tensor->cols, found), SLUICE_OK);
    for (uint64_t i = 0; !tensor->keep_float && i < count; i++)
        found[i] = bf16_from_f32(((float *)(void *)stored)[i]);
    assert_memory_equal(found, wanted, count * sizeof *wanted);
    mem_free(stored);
    mem_free(wanted);
    mem_free(found);
}

static void check_experts(const struct container *c, const struct model_layout *layout,
                          const struct model_recipe *recipe)
{
    struct model_expert_layout e = model_expert_layout(&layout->config, recipe);
    uint8_t *records[2] = {mem_alloc(e.record_bytes, 1), mem_alloc(e.record_bytes, 1)};
    uint64_t pair_tile = quant_tile_bytes(e.gate_up_type, QUANT_TILE_ROWS, layout->config.hidden_size);
    unsigned now = 0;
    assert_int_equal(container_expert_layer_count(c), layout->config.moe_count);
    for (uint32_t i = 0; i < layout->config.moe_count; i++)
        for (uint32_t expert = 0; expert < layout->config.experts; expert++, now ^= 1) {
            uint8_t *record = records[now];
            assert_int_equal(container_read_expert(c, model_layout_moe_layer(layout, i), expert, record), SLUICE_OK);
            assert_memory_not_equal(record, records[now ^ 1], pair_tile); // the one before
            assert_memory_not_equal(record, record + pair_tile, pair_tile);
            assert_memory_not_equal(record, record + e.down_offset,
                                    pair_tile < e.down_bytes ? pair_tile : e.down_bytes);
        }
    mem_free(records[0]);
    mem_free(records[1]);
}

// A container that the engine refuses, or whose experts are all alike, would be of no use for measuring.
static void test_contents(void **state)
{
    (void)state;
    static const char *const configs[] = {"tiny", "mixed", "tied"};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        struct model_layout *layout = config_case_layout(configs[i]);
        for (enum quant_type type = 0; type < QUANT_TYPE_COUNT; type++) {
            struct synth_container_options options = {.recipe = {.experts = type, .trunk = QUANT_Q4_K}, .seed = 1};
            struct container *c;
            assert_int_equal(synth_to("x.sluice", configs[i], &options), SLUICE_OK);
            assert_int_equal(container_open(in_directory("x.sluice"), &c), SLUICE_OK);
            assert_int_equal(container_verify(c, NULL, NULL), SLUICE_OK);
            assert_int_equal(container_tensor_count(c), layout->tensor_count);
            for (size_t t = 0; t < layout->tensor_count; t++)
                check_tensor(c, layout, &layout->tensors[t], &options.recipe);
            check_experts(c, layout, &options.recipe);
            container_close(c);
        }
        model_layout_destroy(layout);
    }
}

// Two people who measure "seed 1" would measure different models.
static void test_deterministic(void **state)
{
    (void)state;
    struct synth_container_options one = {.recipe = model_recipe_default(QUANT_Q4_K), .seed = 5, .threads = 1};
    struct synth_container_options many = {.recipe = model_recipe_default(QUANT_Q4_K), .seed = 5, .threads = 5};
    assert_int_equal(synth_to("a.sluice", "mixed", &one), SLUICE_OK);
    assert_int_equal(synth_to("b.sluice", "mixed", &many), SLUICE_OK);
    assert_same_file("a.sluice", "b.sluice");
}

// --- failures -------------------------------------------------------------------------------------------------------

struct stopper {
    atomic_bool cancel;
    unsigned left; // reports before it stops
    uint64_t bytes_done;
};

static void stop_later(void *user, uint64_t bytes_done, uint64_t bytes_total)
{
    struct stopper *s = user;
    assert_true(bytes_done >= s->bytes_done && bytes_done <= bytes_total);
    s->bytes_done = bytes_done;
    if (s->left-- == 0)
        atomic_store(&s->cancel, true);
}

// Ctrl-C would leave a file that looks complete, or what was written until then would be lost.
static void test_cancel_and_resume(void **state)
{
    (void)state;
    struct synth_container_options whole = {.recipe = model_recipe_default(QUANT_Q4_K)};
    assert_int_equal(synth_to("whole.sluice", "tiny", &whole), SLUICE_OK);
    for (unsigned reports = 0; reports < 80; reports += 13) {
        struct stopper stopper = {.left = reports};
        struct synth_container_options options = whole;
        options.cancel = &stopper.cancel;
        options.progress = stop_later;
        options.user = &stopper;
        assert_int_equal(synth_to("x.sluice", "tiny", &options), SLUICE_ERR_CANCELLED);
        assert_int_equal(access(in_directory("x.sluice"), F_OK), -1);
        assert_int_equal(synth_to("x.sluice", "tiny", &whole), SLUICE_OK);
        assert_same_file("whole.sluice", "x.sluice");
        unlink(in_directory("x.sluice"));
    }
}

// Resuming with another seed would mix two models in one file.
static void test_other_seed_is_refused(void **state)
{
    (void)state;
    struct synth_container_options seed_1 = {.recipe = model_recipe_default(QUANT_Q4_K), .seed = 1}, seed_2 = seed_1;
    struct stopper stopper = {.left = 70};
    seed_2.seed = 2;
    assert_int_equal(synth_to("whole.sluice", "tiny", &seed_1), SLUICE_OK);
    seed_2.cancel = &stopper.cancel;
    seed_2.progress = stop_later;
    seed_2.user = &stopper;
    assert_int_equal(synth_to("x.sluice", "tiny", &seed_2), SLUICE_ERR_CANCELLED);
    assert_int_equal(synth_to("x.sluice", "tiny", &seed_1), SLUICE_ERR_ARGUMENT);
    assert_non_null(strstr(error_message(), "seed 2, experts q4_k"));
    assert_non_null(strstr(error_message(), "This one is: test, synthetic, seed 1"));
    seed_1.restart = true;
    assert_int_equal(synth_to("x.sluice", "tiny", &seed_1), SLUICE_OK);
    assert_same_file("whole.sluice", "x.sluice");
}

// The last thing that can fail comes after the renaming: then the file is whole.
static void assert_absent_or_whole(const char *name)
{
    struct container *c;
    if (access(in_directory(name), F_OK) != 0)
        return;
    assert_int_equal(container_open(in_directory(name), &c), SLUICE_OK);
    assert_int_equal(container_verify(c, NULL, NULL), SLUICE_OK);
    container_close(c);
    unlink(in_directory(name));
}

// Out of memory at any point would crash, or leave a container that is not whole.
static void test_out_of_memory(void **state)
{
    (void)state;
    struct synth_container_options options = {.recipe = model_recipe_default(QUANT_Q4_K), .threads = 1};
    for (uint64_t i = 0;; i++) {
        unlink(in_directory("x.sluice.part"));
        mem_fail_at(i);
        enum sluice_status status = synth_to("x.sluice", "tiny", &options);
        mem_fail_at(UINT64_MAX);
        if (status == SLUICE_OK)
            break;
        assert_int_equal(status, SLUICE_ERR_MEMORY);
        assert_absent_or_whole("x.sluice");
        assert_true(i < 100000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_contents, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_deterministic, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cancel_and_resume, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_seed_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_out_of_memory, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
