#include "tests/model/checkpoint_case.h"

#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "quant/halffloat.h"
#include "quant/safetensors_writer.h"
#include "quant/synth.h"
#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "tests/model/config_case.h"

// --- directories ----------------------------------------------------------------------------------------------------

void checkpoint_directory_create(char path[CHECKPOINT_PATH_BYTES])
{
    const char *parent = getenv("TMPDIR");
    snprintf(path, CHECKPOINT_PATH_BYTES, "%s/sluice-test-XXXXXX", parent ? parent : "/tmp");
    CHECK(mkdtemp(path) != NULL);
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info;
    (void)kind;
    (void)place;
    return remove(path);
}

void checkpoint_directory_remove(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

// --- values ---------------------------------------------------------------------------------------------------------

void checkpoint_values(const struct model_source *source, uint32_t hidden_size, uint16_t *values)
{
    CHECK(synth_fill_bf16(source->name, source->rank, source->shape, hidden_size, 1, 0, model_source_elements(source),
                          values) == SLUICE_OK);
}

uint8_t checkpoint_fp8_byte(uint64_t index)
{
    uint8_t byte = (uint8_t)(index * 37 + index / 251);
    return (byte & 0x7F) == 0x7F ? 0x3C : byte; // no NaN
}

float checkpoint_fp8_scale(uint64_t block)
{
    return 0.25f * (float)(block % 7 + 1);
}

static void store(enum safetensors_dtype dtype, float value, uint8_t *out)
{
    uint16_t half = dtype == SAFETENSORS_F16 ? f16_from_f32(value) : bf16_from_f32(value);
    memcpy(out, dtype == SAFETENSORS_F32 ? (void *)&value : (void *)&half, dtype == SAFETENSORS_F32 ? 4 : 2);
}

// --- files ----------------------------------------------------------------------------------------------------------

struct file {
    const struct checkpoint_case *c;
    const struct model_layout *layout;
    struct safetensors_writer *writer;
    bool declaring; // first round: declare; second: write
};

static bool is_named(const char *wanted, const struct model_source *source)
{
    return wanted && strcmp(wanted, source->name) == 0;
}

static void put(const struct file *f, const char *name, enum safetensors_dtype dtype, uint32_t rank,
                const uint64_t *shape, const void *data, uint64_t bytes)
{
    CHECK((f->declaring ? safetensors_writer_declare(f->writer, name, dtype, rank, shape)
                        : safetensors_writer_write(f->writer, name, data, bytes)) == SLUICE_OK);
}

static void put_fp8(const struct file *f, const struct model_source *source)
{
    char name[MODEL_NAME_BYTES + 16];
    uint64_t n = model_source_elements(source),
             shape[2] = {(source->shape[0] + CHECKPOINT_FP8_BLOCK - 1) / CHECKPOINT_FP8_BLOCK,
                         (source->shape[1] + CHECKPOINT_FP8_BLOCK - 1) / CHECKPOINT_FP8_BLOCK};
    uint8_t *bytes = mem_alloc(n, 1);
    uint16_t *scales = mem_alloc(shape[0] * shape[1], sizeof *scales);
    for (uint64_t i = 0; i < n; i++)
        bytes[i] = checkpoint_fp8_byte(i);
    for (uint64_t i = 0; i < shape[0] * shape[1]; i++)
        scales[i] = bf16_from_f32(checkpoint_fp8_scale(i));
    if (is_named(f->c->poison, source))
        bytes[n - 1] = 0xFF;
    put(f, source->name, SAFETENSORS_F8_E4M3, 2, source->shape, bytes, n);
    snprintf(name, sizeof name, "%s_scale_inv", source->name);
    if (!f->c->skip || strcmp(f->c->skip, name) != 0)
        put(f, name, SAFETENSORS_BF16, 2, shape, scales, shape[0] * shape[1] * 2);
    mem_free(bytes);
    mem_free(scales);
}

static void put_float(const struct file *f, struct model_source source, enum safetensors_dtype dtype)
{
    uint32_t width = safetensors_dtype_bytes(dtype);
    if (is_named(f->c->reshape, &source))
        source.shape[0]++;
    uint64_t n = model_source_elements(&source);
    uint16_t *values = mem_alloc(n, sizeof *values);
    uint8_t *data = mem_alloc(n, width);
    checkpoint_values(&source, f->layout->config.hidden_size, values);
    for (uint64_t i = 0; i < n; i++)
        store(dtype, f32_from_bf16(values[i]), data + i * width);
    if (is_named(f->c->poison, &source))
        store(dtype, f->c->poison_value, data + (n - 1) * width);
    put(f, source.name, dtype, source.rank, source.shape, data, n * width);
    mem_free(values);
    mem_free(data);
}

static bool may_be_fp8(const struct model_source *source)
{
    return source->rank == 2 && !strstr(source->name, "mlp.gate.") && !strstr(source->name, "shared_expert_gate") &&
           !strstr(source->name, "in_proj_ba") && !strstr(source->name, "embed") && !strstr(source->name, "lm_head");
}

static void put_source(const struct file *f, const struct model_source *source)
{
    bool fp8 = f->c->dtype == SAFETENSORS_F8_E4M3;
    if (is_named(f->c->skip, source))
        return;
    if (fp8 && may_be_fp8(source))
        put_fp8(f, source);
    else
        put_float(f, *source, fp8 ? SAFETENSORS_BF16 : f->c->dtype);
}

// BF16 only: the experts' matrices one after the other.
static void put_fused(const struct file *f, uint32_t layer, bool down)
{
    const struct model_config *config = &f->layout->config;
    uint64_t each = (uint64_t)config->hidden_size * config->expert_intermediate;
    uint64_t shape[3] = {config->experts, down ? config->hidden_size : 2 * config->expert_intermediate,
                         down ? config->expert_intermediate : config->hidden_size};
    uint64_t bytes = shape[0] * shape[1] * shape[2] * 2;
    uint16_t *data = mem_alloc(bytes, 1), *next = data;
    struct model_source source;
    for (uint32_t e = 0; e < config->experts; e++)
        for (enum model_expert_part part = down ? MODEL_EXPERT_DOWN : MODEL_EXPERT_GATE;
             part <= (down ? MODEL_EXPERT_DOWN : MODEL_EXPERT_UP); part++) {
            model_expert_source(f->layout, layer, e, part, &source);
            checkpoint_values(&source, config->hidden_size, next);
            next += each;
        }
    snprintf(source.name, sizeof source.name, "model.layers.%u.mlp.experts.%s", layer,
             down ? "down_proj" : "gate_up_proj");
    put(f, source.name, SAFETENSORS_BF16, 3, shape, data, bytes);
    mem_free(data);
}

static void put_all(const struct file *f)
{
    const uint64_t extra_shape[1] = {4};
    struct model_source source;
    size_t count = f->c->fused ? f->layout->trunk_source_count : f->layout->source_count;
    for (size_t i = 0; i < count; i++) {
        model_layout_source(f->layout, i, &source);
        put_source(f, &source);
    }
    for (uint32_t i = 0; f->c->fused && i < f->layout->config.moe_count; i++) {
        put_fused(f, model_layout_moe_layer(f->layout, i), false);
        put_fused(f, model_layout_moe_layer(f->layout, i), true);
    }
    if (f->c->extra)
        put(f, "mtp.fc.weight", SAFETENSORS_BF16, 1, extra_shape, "\0\0\0\0\0\0\0", 8);
}

static void write_config(const struct checkpoint_case *c, const char *directory, struct model_config *config)
{
    char path[2 * CHECKPOINT_PATH_BYTES];
    const char *fp8 = "{\"quant_method\":\"fp8\",\"weight_block_size\":[32,32]}";
    char *text = config_case_text(c->config, c->dtype == SAFETENSORS_F8_E4M3 ? "quantization_config" : NULL, fp8);
    CHECK(model_config_parse(text, strlen(text), config) == SLUICE_OK);
    snprintf(path, sizeof path, "%s/config.json", directory);
    FILE *file = fopen(path, "wb");
    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0);
    free(text);
}

void checkpoint_case_write(const struct checkpoint_case *c, const char *directory)
{
    char path[2 * CHECKPOINT_PATH_BYTES];
    struct model_config *config = mem_alloc(1, sizeof *config);
    struct model_layout *layout;
    struct file f = {.c = c, .declaring = true};
    write_config(c, directory, config);
    CHECK(model_layout_create(config, &layout) == SLUICE_OK);
    f.layout = layout;
    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    CHECK(safetensors_writer_create(path, &f.writer) == SLUICE_OK);
    put_all(&f);
    f.declaring = false;
    put_all(&f);
    CHECK(safetensors_writer_finish(f.writer) == SLUICE_OK);
    safetensors_writer_destroy(f.writer);
    model_layout_destroy(layout);
    mem_free(config);
}
