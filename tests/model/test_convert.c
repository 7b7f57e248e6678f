// From checkpoints to containers, in the library.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "offload/container.h"
#include "quant/halffloat.h"
#include "quant/tile.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/model/convert.h"
#include "tests/model/checkpoint_case.h"
#include "tests/model/config_case.h"

static char directory[CHECKPOINT_PATH_BYTES];
static char notes[4096];

static void keep_note(void *user, enum log_level level, const char *text)
{
    (void)user;
    (void)level;
    strncat(notes, text, sizeof notes - strlen(notes) - 2);
    strcat(notes, "\n");
}

static int set_up(void **state)
{
    (void)state;
    notes[0] = '\0';
    log_set(keep_note, NULL);
    checkpoint_directory_create(directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    log_set(NULL, NULL);
    checkpoint_directory_remove(directory);
    return 0;
}

static char *in_directory(const char *name)
{
    static char paths[4][2 * CHECKPOINT_PATH_BYTES];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static enum sluice_status convert_to(const char *name, enum quant_type type)
{
    struct convert_options options = {.source = directory,
                                      .output = in_directory(name),
                                      .recipe = model_recipe_default(type),
                                      .program = "test",
                                      .threads = 2};
    return model_convert(&options);
}

static struct container *convert_and_open(const struct checkpoint_case *c, const char *name, enum quant_type type)
{
    struct container *container = NULL;
    checkpoint_case_write(c, directory);
    if (convert_to(name, type) != SLUICE_OK || container_open(in_directory(name), &container) != SLUICE_OK)
        fail_msg("%s", error_message());
    assert_int_equal(container_verify(container, NULL, NULL), SLUICE_OK);
    return container;
}

static struct model_layout *open_layout(const char *config_name)
{
    struct model_config *config = mem_alloc(1, sizeof *config);
    struct model_layout *layout;
    assert_int_equal(config_case_parse(config_name, NULL, NULL, config), SLUICE_OK);
    assert_int_equal(model_layout_create(config, &layout), SLUICE_OK);
    mem_free(config);
    return layout;
}

// --- exactness ------------------------------------------------------------------------------------------------------

static uint16_t *source_values(const struct model_layout *layout, const struct model_source *source, uint64_t count)
{
    uint16_t *values = mem_alloc(count, sizeof *values);
    checkpoint_values(source, layout->config.hidden_size, values);
    return values;
}

static void check_plain(const struct model_layout *layout, const struct model_tensor *tensor, const float *stored)
{
    uint64_t count = (uint64_t)tensor->rows * tensor->cols;
    uint16_t *values = source_values(layout, &tensor->sources[0], count);
    for (uint64_t i = 0; i < count; i++)
        assert_true(stored[i] == f32_from_bf16(values[i]));
    mem_free(values);
}

// Tile t of the source is tile t * step + first of `tiles`.
static void check_tiles(const struct model_layout *layout, const struct model_source *source, const uint8_t *tiles,
                        uint64_t first, uint64_t step)
{
    uint64_t rows = source->shape[0], cols = source->shape[1];
    uint64_t tile_bytes = quant_tile_bytes(QUANT_BF16, QUANT_TILE_ROWS, cols);
    uint16_t *values = source_values(layout, source, rows * cols);
    uint16_t *row_values = mem_alloc(cols, sizeof *row_values);
    for (uint64_t row = 0; row < rows; row++) {
        const uint8_t *tile = tiles + (row / QUANT_TILE_ROWS * step + first) * tile_bytes;
        quant_tile_unpack_row(QUANT_BF16, tile, QUANT_TILE_ROWS, cols, row % QUANT_TILE_ROWS, row_values);
        assert_memory_equal(row_values, values + row * cols, cols * sizeof *values);
    }
    mem_free(values);
    mem_free(row_values);
}

static void check_trunk(const struct model_layout *layout, const struct container *container)
{
    assert_int_equal(container_tensor_count(container), layout->tensor_count);
    for (size_t i = 0; i < layout->tensor_count; i++) {
        const struct model_tensor *tensor = &layout->tensors[i];
        const struct container_tensor *stored = container_tensor_find(container, tensor->name);
        assert_non_null(stored);
        assert_int_equal(stored->rows, model_tensor_stored_rows(tensor));
        assert_int_equal(stored->cols, tensor->cols);
        void *data = mem_alloc(stored->bytes, 1);
        assert_int_equal(container_read_tensor(container, stored, data), SLUICE_OK);
        if (tensor->kind == MODEL_TENSOR_PLAIN)
            check_plain(layout, tensor, data);
        else
            for (uint32_t j = 0; j < tensor->source_count; j++)
                check_tiles(layout, &tensor->sources[j], data, j, tensor->source_count);
        mem_free(data);
    }
}

static void check_expert(const struct model_layout *layout, uint32_t layer, uint32_t expert, uint64_t down_offset,
                         const uint8_t *record)
{
    struct model_source source;
    model_expert_source(layout, layer, expert, MODEL_EXPERT_GATE, &source);
    check_tiles(layout, &source, record, 0, 2);
    model_expert_source(layout, layer, expert, MODEL_EXPERT_UP, &source);
    check_tiles(layout, &source, record, 1, 2);
    model_expert_source(layout, layer, expert, MODEL_EXPERT_DOWN, &source);
    check_tiles(layout, &source, record + down_offset, 0, 1);
}

static void check_experts(const struct model_layout *layout, const struct container *container)
{
    assert_int_equal(container_expert_layer_count(container), layout->config.moe_count);
    for (uint32_t i = 0; i < layout->config.moe_count; i++) {
        const struct container_expert_layer *l = container_expert_layer_at(container, i);
        assert_int_equal(l->layer, model_layout_moe_layer(layout, i));
        uint8_t *record = mem_alloc(l->record_bytes, 1);
        for (uint32_t e = 0; e < l->expert_count; e++) {
            assert_int_equal(container_read_expert(container, l->layer, e, record), SLUICE_OK);
            check_expert(layout, l->layer, e, l->down_offset, record);
        }
        mem_free(record);
    }
}

// A model converted without quantisation would not be the published model.
static void test_bf16_is_exact(void **state)
{
    (void)state;
    static const char *const configs[] = {"tiny", "mixed", "tied"};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        struct checkpoint_case c = {.config = configs[i], .dtype = SAFETENSORS_BF16};
        struct container *container = convert_and_open(&c, "out.sluice", QUANT_BF16);
        struct model_layout *layout = open_layout(configs[i]);
        check_trunk(layout, container);
        check_experts(layout, container);
        model_layout_destroy(layout);
        container_close(container);
    }
}

// Checkpoints saved again with fused expert tensors would give other experts, or be refused.
static void test_fused_experts(void **state)
{
    (void)state;
    struct checkpoint_case c = {.config = "mixed", .dtype = SAFETENSORS_BF16, .fused = true};
    struct container *container = convert_and_open(&c, "out.sluice", QUANT_BF16);
    struct model_layout *layout = open_layout("mixed");
    check_trunk(layout, container);
    check_experts(layout, container);
    model_layout_destroy(layout);
    container_close(container);
}

// F32 and F16 checkpoints hold the same values here, so their bf16 containers must hold them too.
static void test_other_floats(void **state)
{
    (void)state;
    static const enum safetensors_dtype dtypes[] = {SAFETENSORS_F32, SAFETENSORS_F16};
    static const enum quant_type kept[] = {QUANT_F32, QUANT_F16};
    for (size_t i = 0; i < 2; i++) {
        struct checkpoint_case c = {.config = "tiny", .dtype = dtypes[i]};
        struct container *container = convert_and_open(&c, "out.sluice", QUANT_BF16);
        const struct container_tensor *t = container_tensor_find(container, "model.layers.0.mlp.gate.weight");
        assert_int_equal(t->type_id, kept[i]);
        t = container_tensor_find(container, "model.layers.0.linear_attn.out_proj.weight");
        assert_int_equal(t->type_id, QUANT_BF16);
        container_close(container);
    }
}

// FP8 checkpoints would be decoded wrongly: the scale multiplies, per block of rows and columns.
static void test_fp8(void **state)
{
    (void)state;
    static const char name[] = "model.layers.0.linear_attn.in_proj_qkvz.weight";
    struct checkpoint_case c = {.config = "mixed", .dtype = SAFETENSORS_F8_E4M3};
    struct container *container = convert_and_open(&c, "out.sluice", QUANT_F32);
    const struct container_tensor *t = container_tensor_find(container, name);
    uint8_t *tiles = mem_alloc(t->bytes, 1);
    float *row = mem_alloc(t->cols, sizeof *row);
    assert_int_equal(container_read_tensor(container, t, tiles), SLUICE_OK);
    for (uint64_t r = 0; r < t->rows; r++) {
        quant_tile_decode_row(QUANT_F32, tiles, t->rows, t->cols, r, row);
        for (uint64_t col = 0; col < t->cols; col++) {
            int byte = checkpoint_fp8_byte(r * t->cols + col), e = byte >> 3 & 15, m = byte & 7;
            double value = e ? ldexp(1 + m / 8.0, e - 7) : ldexp(m, -9);
            uint64_t block = r / CHECKPOINT_FP8_BLOCK * (t->cols / CHECKPOINT_FP8_BLOCK) + col / CHECKPOINT_FP8_BLOCK;
            assert_true(row[col] == (float)((byte & 0x80 ? -value : value) * (double)checkpoint_fp8_scale(block)));
        }
    }
    mem_free(row);
    mem_free(tiles);
    container_close(container);
}

// A quantised model would be worse than its format allows.
static void test_quantised(void **state)
{
    (void)state;
    static const char name[] = "model.layers.0.linear_attn.in_proj_qkvz.weight";
    struct checkpoint_case c = {.config = "mixed", .dtype = SAFETENSORS_BF16};
    struct container *container = convert_and_open(&c, "out.sluice", QUANT_Q4_K);
    struct model_layout *layout = open_layout("mixed");
    const struct container_tensor *t = container_tensor_find(container, name);
    struct model_source source = {.rank = 2, .shape = {t->rows, t->cols}};
    strcpy(source.name, name);
    assert_int_equal(t->type_id, QUANT_Q8_0);
    uint8_t *tiles = mem_alloc(t->bytes, 1);
    float *row = mem_alloc(t->cols, sizeof *row);
    uint16_t *values = source_values(layout, &source, t->rows * t->cols);
    double error = 0, power = 0;
    assert_int_equal(container_read_tensor(container, t, tiles), SLUICE_OK);
    for (uint64_t i = 0; i < t->rows * t->cols; i++) {
        if (i % t->cols == 0)
            quant_tile_decode_row(QUANT_Q8_0, tiles, t->rows, t->cols, i / t->cols, row);
        double value = (double)f32_from_bf16(values[i]), d = (double)row[i % t->cols] - value;
        error += d * d;
        power += value * value;
    }
    assert_true(error < power * 1e-4);
    assert_int_equal(container_expert_layer_at(container, 0)->gate_up_type_id, QUANT_Q4_K);
    mem_free(values);
    mem_free(row);
    mem_free(tiles);
    model_layout_destroy(layout);
    container_close(container);
}

// --- refusals -------------------------------------------------------------------------------------------------------

struct refusal {
    struct checkpoint_case c;
    const char *says[3];
};

static const struct refusal refusals[] = {
    {{.config = "tiny", .dtype = SAFETENSORS_BF16, .skip = "model.layers.2.mlp.experts.7.up_proj.weight"},
     {"model.layers.2.mlp.experts.7.up_proj.weight"}},
    {{.config = "tiny", .dtype = SAFETENSORS_BF16, .skip = "lm_head.weight"}, {"lm_head.weight"}},
    {{.config = "tiny", .dtype = SAFETENSORS_BF16, .reshape = "model.layers.3.self_attn.q_norm.weight"},
     {"model.layers.3.self_attn.q_norm.weight", "[33]", "[32]"}},
    {{.config = "tiny", .dtype = SAFETENSORS_BF16, .reshape = "model.layers.0.linear_attn.conv1d.weight"},
     {"conv1d.weight", "[129, 1, 4]", "[128, 1, 4]"}},
    {{.config = "tiny", .dtype = SAFETENSORS_BF16, .reshape = "model.layers.1.mlp.experts.0.down_proj.weight"},
     {"experts.0.down_proj.weight", "[65, 32]", "[64, 32]"}},
    {{.config = "tiny", .dtype = SAFETENSORS_BF16, .poison = "model.norm.weight", .poison_value = NAN},
     {"model.norm.weight", "nan"}},
    {{.config = "tiny", .dtype = SAFETENSORS_BF16, .poison = "model.embed_tokens.weight", .poison_value = INFINITY},
     {"model.embed_tokens.weight", "row 249, column 63", "inf"}},
    {{.config = "tiny",
      .dtype = SAFETENSORS_F32,
      .poison = "model.layers.3.mlp.experts.5.gate_proj.weight",
      .poison_value = -INFINITY},
     {"model.layers.3.mlp.experts.5.gate_proj.weight", "inf"}},
    {{.config = "tiny", .dtype = SAFETENSORS_F32, .poison = "lm_head.weight", .poison_value = 1e9f},
     {"lm_head.weight"}},
    {{.config = "mixed", .dtype = SAFETENSORS_F8_E4M3, .skip = "model.layers.0.mlp.experts.3.up_proj.weight_scale_inv"},
     {"model.layers.0.mlp.experts.3.up_proj.weight", "scale_inv"}},
    {{.config = "mixed", .dtype = SAFETENSORS_F8_E4M3, .poison = "model.layers.0.mlp.experts.3.up_proj.weight"},
     {"model.layers.0.mlp.experts.3.up_proj.weight", "nan"}},
};

static void assert_nothing_written(const char *name)
{
    assert_int_not_equal(access(in_directory(name), F_OK), 0);
}

// An incomplete or damaged download would become a container that answers nonsense.
static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        checkpoint_case_write(&refusals[i].c, directory);
        unlink(in_directory("out.sluice.part")); // what was done until a weight was refused
        enum sluice_status status = convert_to("out.sluice", QUANT_Q8_0);
        for (size_t j = 0; j < 3 && refusals[i].says[j]; j++)
            if (status >= 0 || !strstr(error_message(), refusals[i].says[j]))
                fail_msg("case %zu: status %d, \"%s\" not in: %s", i, status, refusals[i].says[j], error_message());
        assert_nothing_written("out.sluice");
    }
}

// Without a note a user would not know that the drafting head is not used.
static void test_notes(void **state)
{
    (void)state;
    struct checkpoint_case c = {.config = "tiny", .dtype = SAFETENSORS_BF16, .extra = true};
    container_close(convert_and_open(&c, "out.sluice", QUANT_Q4_K));
    assert_non_null(strstr(notes, "1 tensor of the checkpoint is not used, such as mtp.fc.weight"));
    assert_non_null(strstr(notes, "gate and up matrices of experts are stored as q8_0"));
    assert_non_null(strstr(notes, "matrices of the trunk are stored as bf16"));
}

// --- documents ------------------------------------------------------------------------------------------------------

static void write_text(const char *name, const char *text)
{
    FILE *file = fopen(in_directory(name), "wb");
    assert_true(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void assert_document(const struct container *container, const char *name, const char *part)
{
    char *text;
    size_t bytes;
    assert_int_equal(container_document(container, name, &text, &bytes), SLUICE_OK);
    assert_non_null(strstr(text, part));
    mem_free(text);
}

// A container without its tokenizer, template or origin is of no use away from the checkpoint.
static void test_documents(void **state)
{
    (void)state;
    struct container *container;
    struct checkpoint_case c = {.config = "tiny", .dtype = SAFETENSORS_BF16};
    checkpoint_case_write(&c, directory);
    write_text("tokenizer.json", "{\"model\": {\"type\": \"BPE\"}}");
    write_text("chat_template.jinja", "{{ messages }}");
    struct convert_options options = {.source = directory,
                                      .output = in_directory("out.sluice"),
                                      .recipe = model_recipe_default(QUANT_Q8_0),
                                      .instruction = "read \"this\"",
                                      .program = "sluice 9"};
    assert_int_equal(model_convert(&options), SLUICE_OK);
    assert_int_equal(container_open(in_directory("out.sluice"), &container), SLUICE_OK);
    assert_document(container, "config.json", "\"qwen3_next\"");
    assert_document(container, "tokenizer.json", "BPE");
    assert_document(container, "chat_template.jinja", "{{ messages }}");
    assert_document(container, "provenance.json", "read \\\"this\\\"");
    assert_document(container, "provenance.json", "model.safetensors");
    assert_document(container, "provenance.json", "sluice 9");
    container_close(container);
    write_text("tokenizer.json", "{\"model\": ");
    assert_int_equal(convert_to("second.sluice", QUANT_Q8_0), SLUICE_ERR_FORMAT);
    assert_non_null(strstr(error_message(), "tokenizer.json"));
    assert_nothing_written("second.sluice");
}

// --- interruptions --------------------------------------------------------------------------------------------------

struct stopper {
    atomic_bool cancel;
    uint64_t stop_at, last;
};

static void stop_at(void *user, const struct convert_progress *progress)
{
    struct stopper *s = user;
    assert_true(progress->bytes_done >= s->last && progress->bytes_done <= progress->bytes_total);
    s->last = progress->bytes_done;
    if (progress->bytes_done >= s->stop_at)
        atomic_store(&s->cancel, true);
}

static void assert_same_file(const char *a, const char *b)
{
    char command[5 * CHECKPOINT_PATH_BYTES];
    snprintf(command, sizeof command, "cmp '%s' '%s'", in_directory(a), in_directory(b));
    assert_int_equal(system(command), 0);
}

// A conversion that was stopped again and again would end in another container than one that was left alone.
static void test_cancel_and_resume(void **state)
{
    (void)state;
    struct checkpoint_case c = {.config = "mixed", .dtype = SAFETENSORS_BF16};
    struct stopper stopper = {.stop_at = 100000};
    container_close(convert_and_open(&c, "whole.sluice", QUANT_Q4_K));
    struct convert_options options = {.source = directory,
                                      .output = in_directory("parts.sluice"),
                                      .recipe = model_recipe_default(QUANT_Q4_K),
                                      .program = "test",
                                      .threads = 2,
                                      .cancel = &stopper.cancel,
                                      .progress = stop_at,
                                      .user = &stopper};
    enum sluice_status status;
    int runs = 0;
    while ((status = model_convert(&options)) == SLUICE_ERR_CANCELLED) {
        assert_nothing_written("parts.sluice");
        assert_true(++runs < 1000);
        atomic_store(&stopper.cancel, false);
        stopper.stop_at += 300000;
        stopper.last = 0;
    }
    assert_int_equal(status, SLUICE_OK);
    assert_true(runs >= 3);
    assert_same_file("whole.sluice", "parts.sluice");
}

struct killed_run {
    struct convert_options options;
    uint64_t resumed_bytes; // seen by the run that ended by itself
};

static void keep_resumed(void *user, const struct convert_progress *progress)
{
    struct killed_run *run = user;
    run->resumed_bytes = progress->bytes_resumed;
}

// Runs the conversion in another process, which is killed after `delay_us`. Whether it was too late for that.
static bool convert_and_kill(const struct convert_options *options, uint32_t delay_us)
{
    int wait_status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(model_convert(options) == SLUICE_OK ? 0 : 1);
    usleep(delay_us);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &wait_status, 0), child);
    assert_true(WIFSIGNALED(wait_status) || WEXITSTATUS(wait_status) == 0);
    return !WIFSIGNALED(wait_status);
}

// A power cut during an hour's conversion would cost the hour, or leave a container that is silently wrong.
static void test_kill_and_resume(void **state)
{
    (void)state;
    struct checkpoint_case c = {.config = "mixed", .dtype = SAFETENSORS_BF16};
    struct killed_run run = {.options = {.source = directory,
                                         .recipe = model_recipe_default(QUANT_Q6_K),
                                         .program = "test",
                                         .threads = 2,
                                         .batch_bytes = 64 << 10}};
    uint32_t kills = 0, random = 2025; // a small linear congruential generator
    container_close(convert_and_open(&c, "whole.sluice", QUANT_Q6_K));
    char output[2 * CHECKPOINT_PATH_BYTES];
    strcpy(output, in_directory("killed.sluice"));
    run.options.output = output;
    while (kills < 8) {
        random = random * 1664525u + 1013904223u;
        if (convert_and_kill(&run.options, 2000 + random / 65536u % 100000u)) {
            unlink(output);
            continue;
        }
        kills++;
        assert_nothing_written("killed.sluice");
    }
    run.options.progress = keep_resumed;
    run.options.user = &run;
    assert_int_equal(model_convert(&run.options), SLUICE_OK);
    assert_same_file("whole.sluice", "killed.sluice");
    printf("the last run took over %llu bytes\n", (unsigned long long)run.resumed_bytes);
}

// The number of threads would show in the result.
static void test_threads(void **state)
{
    (void)state;
    struct checkpoint_case c = {.config = "tiny", .dtype = SAFETENSORS_BF16};
    checkpoint_case_write(&c, directory);
    static const uint32_t threads[] = {1, 7};
    static const char *const names[] = {"a.sluice", "b.sluice"};
    for (int i = 0; i < 2; i++) {
        struct convert_options options = {.source = directory,
                                          .output = in_directory(names[i]),
                                          .recipe = model_recipe_default(QUANT_Q4_K),
                                          .program = "test",
                                          .threads = threads[i]};
        assert_int_equal(model_convert(&options), SLUICE_OK);
    }
    assert_same_file("a.sluice", "b.sluice");
}

// Out of memory at any point would crash, or leave a container that is not whole.
static void test_out_of_memory(void **state)
{
    (void)state;
    struct checkpoint_case c = {.config = "tied", .dtype = SAFETENSORS_BF16};
    struct convert_options options = {.source = directory,
                                      .output = in_directory("out.sluice"),
                                      .recipe = model_recipe_default(QUANT_BF16),
                                      .program = "test",
                                      .threads = 1};
    checkpoint_case_write(&c, directory);
    for (uint64_t i = 0;; i += 1 + i / 8) {
        unlink(in_directory("out.sluice.part"));
        mem_fail_at(i);
        enum sluice_status status = model_convert(&options);
        mem_fail_at(UINT64_MAX);
        if (status == SLUICE_OK)
            break;
        assert_int_equal(status, SLUICE_ERR_MEMORY);
        assert_nothing_written("out.sluice");
        assert_true(i < 100000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bf16_is_exact, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fused_experts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_floats, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fp8, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_quantised, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_notes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_documents, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cancel_and_resume, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_kill_and_resume, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_threads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_out_of_memory, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
