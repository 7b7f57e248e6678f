#include "runtime/model/synth_container.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "quant/halffloat.h"
#include "quant/synth.h"
#include "quant/tile.h"
#include "runtime/base/check.h"
#include "runtime/base/integer.h"
#include "runtime/base/mem.h"
#include "runtime/model/layout_plan.h"
#include "runtime/model/parallel.h"
#include "runtime/model/synth_tiles.h"

enum { EXPERTS_PER_JOB = 8 }; // share one buffer

struct container_synth {
    const struct synth_container_options *options;
    uint32_t threads;
    struct model_config config;
    struct model_layout *layout;
    struct layout_plan plan;
    char *provenance; // owned
    struct container_writer *writer;
    struct synth_tiles gate_up, down; // of all experts
    pthread_mutex_t progress_lock;
};

static enum sluice_status check_cancel(const struct container_synth *s)
{
    if (s->options->cancel && atomic_load(s->options->cancel))
        return error_set(SLUICE_ERR_CANCELLED, "stopped");
    return SLUICE_OK;
}

static void report(struct container_synth *s)
{
    if (!s->options->progress)
        return;
    pthread_mutex_lock(&s->progress_lock);
    struct container_writer_progress p = container_writer_progress(s->writer);
    s->options->progress(s->options->user, p.bytes_done, p.bytes_total);
    pthread_mutex_unlock(&s->progress_lock);
}

// --- matrices of random tiles ---------------------------------------------------------------------------------------

// Where the tiles of one source go: tile t to `tiles` + t * stride.
struct matrix {
    const struct synth_tiles *format;
    uint64_t state, rows, cols;
    uint8_t *tiles;
    uint64_t stride;
};

static void format_init(const struct container_synth *s, struct synth_tiles *format, enum quant_type type,
                        const struct model_source *source)
{
    struct synth_bounds bounds = synth_bounds(source->name, source->rank, source->shape, s->config.hidden_size);
    synth_tiles_init(format, type, (bounds.high - bounds.low) / sqrt(12));
}

static struct matrix matrix_make(const struct container_synth *s, const struct synth_tiles *format,
                                 const struct model_source *source, uint8_t *tiles, uint32_t alternation)
{
    return (struct matrix){
        .format = format,
        .state = XXH64(source->name, strlen(source->name), s->options->seed),
        .rows = source->shape[0],
        .cols = source->shape[1],
        .tiles = tiles,
        .stride = alternation * quant_tile_bytes(format->type, QUANT_TILE_ROWS, source->shape[1]),
    };
}

static void matrix_fill_tile(const struct matrix *m, uint64_t tile)
{
    synth_tiles_fill(m->format, m->state, m->rows, m->cols, tile, m->tiles + tile * m->stride);
}

// --- the trunk ------------------------------------------------------------------------------------------------------

struct trunk_job {
    const struct container_synth *synth;
    struct matrix matrices[2];
    size_t tiles; // per matrix
};

static enum sluice_status trunk_tile(void *user, size_t index)
{
    const struct trunk_job *job = user;
    matrix_fill_tile(&job->matrices[index / job->tiles], index % job->tiles);
    return check_cancel(job->synth);
}

static enum sluice_status fill_tiles(const struct container_synth *s, const struct model_tensor *tensor,
                                     enum quant_type type, uint8_t *out)
{
    struct trunk_job job = {.synth = s, .tiles = (size_t)u64_divide_up(tensor->rows, QUANT_TILE_ROWS)};
    struct synth_tiles format;
    uint64_t tile_bytes = quant_tile_bytes(type, QUANT_TILE_ROWS, tensor->cols);
    format_init(s, &format, type, &tensor->sources[0]);
    for (uint32_t i = 0; i < tensor->source_count; i++)
        job.matrices[i] = matrix_make(s, &format, &tensor->sources[i], out + i * tile_bytes, tensor->source_count);
    return parallel_run(s->threads, job.tiles * tensor->source_count, trunk_tile, &job);
}

// The checkpoint's own values: f32 if plain, BF16 tiles if not.
static enum sluice_status fill_exact(const struct container_synth *s, const struct model_tensor *tensor, void *out)
{
    const struct model_source *source = &tensor->sources[0];
    uint64_t count = (uint64_t)tensor->rows * tensor->cols;
    enum sluice_status status = SLUICE_ERR_MEMORY;
    uint16_t *values = mem_alloc(count, sizeof *values);
    if (!values)
        return status;
    TRY(synth_fill_bf16(source->name, source->rank, source->shape, s->config.hidden_size, s->options->seed, 0, count,
                        values));
    if (tensor->kind == MODEL_TENSOR_MATRIX)
        TRY(quant_tile_pack(QUANT_BF16, values, tensor->rows, tensor->cols, out));
    for (uint64_t i = 0; tensor->kind == MODEL_TENSOR_PLAIN && i < count; i++)
        ((float *)out)[i] = f32_from_bf16(values[i]);
fail:
    mem_free(values);
    return status;
}

static enum sluice_status write_tensor(struct container_synth *s, uint32_t index)
{
    const struct model_tensor *tensor = &s->layout->tensors[index];
    const struct container_plan_tensor *plan = &s->plan.tensors[index];
    enum sluice_status status;
    void *out = mem_alloc(plan->bytes, 1);
    TRY(out ? check_cancel(s) : SLUICE_ERR_MEMORY);
    TRY(tensor->kind == MODEL_TENSOR_PLAIN || tensor->keep_float
            ? fill_exact(s, tensor, out)
            : fill_tiles(s, tensor, (enum quant_type)plan->type_id, out));
    TRY(container_writer_put_tensor(s->writer, index, out, plan->bytes));
    report(s);
fail:
    mem_free(out);
    return status;
}

static enum sluice_status write_trunk(struct container_synth *s)
{
    for (uint32_t i = 0; i < s->layout->tensor_count; i++) {
        enum sluice_status status = container_writer_has_tensor(s->writer, i) ? SLUICE_OK : write_tensor(s, i);
        if (status < 0)
            return status;
    }
    return SLUICE_OK;
}

// --- the experts ----------------------------------------------------------------------------------------------------

static void fill_part(const struct container_synth *s, uint32_t layer, uint32_t expert, enum model_expert_part part,
                      uint8_t *tiles)
{
    struct model_source source;
    bool down = part == MODEL_EXPERT_DOWN;
    model_expert_source(s->layout, layer, expert, part, &source);
    struct matrix m = matrix_make(s, down ? &s->down : &s->gate_up, &source, tiles, down ? 1 : 2);
    for (uint64_t tile = 0; tile < u64_divide_up(m.rows, QUANT_TILE_ROWS); tile++)
        matrix_fill_tile(&m, tile);
}

static enum sluice_status write_expert(struct container_synth *s, uint32_t layer, uint32_t expert, uint8_t *record)
{
    const struct model_expert_layout *e = &s->plan.experts;
    enum sluice_status status;
    if (container_writer_has_expert(s->writer, layer, expert))
        return SLUICE_OK;
    TRY(check_cancel(s));
    fill_part(s, layer, expert, MODEL_EXPERT_GATE, record);
    fill_part(s, layer, expert, MODEL_EXPERT_UP,
              record + quant_tile_bytes(e->gate_up_type, QUANT_TILE_ROWS, s->config.hidden_size));
    fill_part(s, layer, expert, MODEL_EXPERT_DOWN, record + e->down_offset);
    TRY(container_writer_put_expert(s->writer, layer, expert, record, e->record_bytes));
    report(s);
fail:
    return status;
}

static enum sluice_status experts_job(void *user, size_t index)
{
    struct container_synth *s = user;
    size_t first = index * EXPERTS_PER_JOB, count = (size_t)s->config.moe_count * s->config.experts;
    enum sluice_status status = SLUICE_OK;
    uint8_t *record = mem_alloc(s->plan.experts.record_bytes, 1);
    TRY(record ? SLUICE_OK : SLUICE_ERR_MEMORY);
    for (size_t i = first; i < count && i < first + EXPERTS_PER_JOB; i++)
        TRY(write_expert(s, s->plan.layers[i / s->config.experts].layer, (uint32_t)(i % s->config.experts), record));
fail:
    mem_free(record);
    return status;
}

static enum sluice_status write_experts(struct container_synth *s)
{
    struct model_source gate, down;
    size_t count = (size_t)s->config.moe_count * s->config.experts;
    if (count == 0)
        return SLUICE_OK;
    model_expert_source(s->layout, s->plan.layers[0].layer, 0, MODEL_EXPERT_GATE, &gate);
    model_expert_source(s->layout, s->plan.layers[0].layer, 0, MODEL_EXPERT_DOWN, &down);
    format_init(s, &s->gate_up, s->plan.experts.gate_up_type, &gate);
    format_init(s, &s->down, s->plan.experts.down_type, &down);
    return parallel_run(s->threads, u64_divide_up(count, EXPERTS_PER_JOB), experts_job, s);
}

// --- the whole ------------------------------------------------------------------------------------------------------

static enum sluice_status make_provenance(struct container_synth *s)
{
    const struct synth_container_options *o = s->options;
    json_t *root = json_pack("{s:s, s:{s:I}, s:{s:s, s:s}, s:[]}", "program", o->program, "synthetic", "seed",
                             (json_int_t)o->seed, "types", "experts", quant_format_get(o->recipe.experts)->name,
                             "trunk", quant_format_get(o->recipe.trunk)->name, "files");
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    enum sluice_status status = SLUICE_OK;
    s->provenance = text ? mem_strndup(text, strlen(text)) : NULL;
    if (!text)
        status = error_set(SLUICE_ERR_MEMORY, "out of memory");
    else if (!s->provenance)
        status = SLUICE_ERR_MEMORY;
    free(text);
    json_decref(root);
    return status;
}

// The texts say everything that the bytes depend on, except which program it is that makes them.
static void make_fingerprint(const struct container_plan *plan, uint8_t fingerprint[16])
{
    XXH128_hash_t hash = {0, 0};
    for (uint32_t i = 0; i < plan->document_count; i++)
        hash = XXH3_128bits_withSeed(plan->documents[i].text, plan->documents[i].bytes, hash.low64 ^ hash.high64);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    memcpy(fingerprint, canonical.digest, sizeof canonical.digest);
}

static enum sluice_status open_writer(struct container_synth *s)
{
    const struct container_plan_document documents[] = {
        {"config.json", s->options->config, s->options->config_bytes},
        {"provenance.json", s->provenance, strlen(s->provenance)},
    };
    struct container_plan plan = s->plan.container;
    char text[256];
    const struct synth_container_options *o = s->options;
    struct container_writer_options options = {.text = text, .restart = o->restart};
    snprintf(text, sizeof text, "%s, synthetic, seed %" PRIu64 ", experts %s, trunk %s, %u layers", o->program, o->seed,
             quant_format_get(o->recipe.experts)->name, quant_format_get(o->recipe.trunk)->name, s->config.layer_count);
    plan.documents = documents;
    plan.document_count = sizeof documents / sizeof *documents;
    make_fingerprint(&plan, options.fingerprint);
    return container_writer_open(o->output, &plan, &options, &s->writer);
}

static enum sluice_status write_container(struct container_synth *s)
{
    enum sluice_status status;
    TRY(model_config_parse(s->options->config, s->options->config_bytes, &s->config));
    TRY(model_layout_create(&s->config, &s->layout));
    TRY(layout_plan_init(&s->plan, s->layout, &s->options->recipe, NULL));
    TRY(make_provenance(s));
    TRY(open_writer(s));
    report(s);
    TRY(write_trunk(s));
    TRY(write_experts(s));
    TRY(container_writer_finish(s->writer));
fail:
    return status;
}

enum sluice_status model_synth_container(const struct synth_container_options *options)
{
    CHECK(quant_format_get(options->recipe.experts) && quant_format_get(options->recipe.trunk));
    struct container_synth *s = mem_alloc(1, sizeof *s);
    if (!s)
        return SLUICE_ERR_MEMORY;
    s->options = options;
    s->threads = options->threads ? options->threads : parallel_threads_default();
    pthread_mutex_init(&s->progress_lock, NULL);
    enum sluice_status status = write_container(s);
    container_writer_close(s->writer); // keeps the message
    layout_plan_finish(&s->plan);
    model_layout_destroy(s->layout);
    mem_free(s->provenance);
    pthread_mutex_destroy(&s->progress_lock);
    mem_free(s);
    return status;
}
