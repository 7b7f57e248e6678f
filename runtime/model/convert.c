#include "runtime/model/convert.h"

#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/tile.h"
#include "runtime/base/check.h"
#include "runtime/base/integer.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/model/convert_documents.h"
#include "runtime/model/layout_plan.h"
#include "runtime/model/parallel.h"

struct converter {
    const struct convert_options *options;
    uint32_t threads;
    struct model_config config;
    struct model_layout *layout;
    struct convert_source source;
    struct convert_documents documents;
    struct layout_plan plan;
    struct container_writer *writer;
    pthread_mutex_t progress_lock;
};

static bool cancelled(const struct converter *c)
{
    return c->options->cancel && atomic_load(c->options->cancel);
}

static void report(struct converter *c)
{
    if (!c->options->progress)
        return;
    pthread_mutex_lock(&c->progress_lock);
    struct container_writer_progress p = container_writer_progress(c->writer);
    struct convert_progress progress = {p.bytes_done, p.bytes_total, p.bytes_resumed};
    c->options->progress(c->options->user, &progress);
    pthread_mutex_unlock(&c->progress_lock);
}

// --- encoding -------------------------------------------------------------------------------------------------------

// Row tiles of one matrix and where they go: tile t of the matrix to `tiles` + t * stride.
struct target {
    const struct convert_matrix *matrix;
    enum quant_type type;
    uint8_t *tiles;
    uint64_t stride;
};

// Tiles whose values are read at once: about 1 MiB, so that reads are long and memory small.
static uint64_t tiles_per_read(uint64_t cols)
{
    uint64_t count = (1 << 20) / (cols * QUANT_TILE_ROWS * sizeof(float));
    return count ? count : 1;
}

static enum sluice_status encode_tile(const struct target *target, uint64_t row0, uint64_t rows, const float *values,
                                      uint8_t *blocks, uint8_t *tile)
{
    uint64_t cols = target->matrix->cols, row_bytes = quant_row_bytes(target->type, cols);
    for (uint64_t i = 0; i < rows; i++) {
        enum sluice_status status =
            quant_encode_row(target->type, values + i * cols, NULL, cols, blocks + i * row_bytes);
        if (status < 0)
            return error_prefix(status, "tensor %s, row %" PRIu64, target->matrix->tensor->name,
                                target->matrix->first_row + row0 + i);
    }
    return quant_tile_pack(target->type, blocks, rows, cols, tile);
}

static enum sluice_status encode_read(const struct target *target, uint64_t tile0, uint64_t row_end,
                                      const float *values, uint8_t *blocks)
{
    for (uint64_t row = tile0 * QUANT_TILE_ROWS; row < row_end; row += QUANT_TILE_ROWS) {
        uint64_t rows = row_end - row < QUANT_TILE_ROWS ? row_end - row : QUANT_TILE_ROWS;
        const float *tile_values = values + (row - tile0 * QUANT_TILE_ROWS) * target->matrix->cols;
        enum sluice_status status =
            encode_tile(target, row, rows, tile_values, blocks, target->tiles + row / QUANT_TILE_ROWS * target->stride);
        if (status < 0)
            return status;
    }
    return SLUICE_OK;
}

// Tiles [tile, end): at most tiles_per_read.
static enum sluice_status convert_tiles(const struct converter *c, const struct target *target, uint64_t tile,
                                        uint64_t end)
{
    uint64_t cols = target->matrix->cols, row = tile * QUANT_TILE_ROWS, row_end = end * QUANT_TILE_ROWS;
    enum sluice_status status;
    if (cancelled(c))
        return error_set(SLUICE_ERR_CANCELLED, "conversion stopped");
    if (row_end > target->matrix->rows)
        row_end = target->matrix->rows;
    float *values = mem_alloc((row_end - row) * cols, sizeof *values);
    uint8_t *blocks = mem_alloc(QUANT_TILE_ROWS, quant_row_bytes(target->type, cols));
    TRY(values && blocks ? SLUICE_OK : SLUICE_ERR_MEMORY);
    TRY(convert_matrix_read(&c->source, target->matrix, row, row_end - row, values));
    TRY(encode_read(target, tile, row_end, values, blocks));
fail:
    mem_free(values);
    mem_free(blocks);
    return status;
}

// --- the trunk ------------------------------------------------------------------------------------------------------

struct trunk_job {
    const struct converter *converter;
    struct target targets[2];
    uint32_t target_count;
    size_t reads; // per target
};

static enum sluice_status trunk_job_run(void *user, size_t index)
{
    const struct trunk_job *job = user;
    const struct target *target = &job->targets[index / job->reads];
    uint64_t step = tiles_per_read(target->matrix->cols), tile = index % job->reads * step;
    uint64_t end = u64_divide_up(target->matrix->rows, QUANT_TILE_ROWS);
    return convert_tiles(job->converter, target, tile, tile + step < end ? tile + step : end);
}

static enum sluice_status convert_matrices(const struct converter *c, const struct model_tensor *tensor,
                                           const struct convert_matrix *matrices, enum quant_type type, uint8_t *out)
{
    struct trunk_job job = {.converter = c, .target_count = tensor->source_count};
    uint64_t tile_bytes = quant_tile_bytes(type, QUANT_TILE_ROWS, tensor->cols);
    uint64_t step = tiles_per_read(tensor->cols);
    for (uint32_t i = 0; i < job.target_count; i++)
        job.targets[i] = (struct target){.matrix = &matrices[i],
                                         .type = type,
                                         .tiles = out + i * tile_bytes,
                                         .stride = job.target_count * tile_bytes};
    job.reads = (size_t)u64_divide_up(u64_divide_up(tensor->rows, QUANT_TILE_ROWS), step);
    return parallel_run(c->threads, job.reads * job.target_count, trunk_job_run, &job);
}

static enum sluice_status convert_tensor(struct converter *c, uint32_t index, const struct convert_matrix *matrices)
{
    const struct model_tensor *tensor = &c->layout->tensors[index];
    const struct container_plan_tensor *plan = &c->plan.tensors[index];
    enum sluice_status status;
    void *out = mem_alloc(plan->bytes, 1);
    TRY(out ? SLUICE_OK : SLUICE_ERR_MEMORY);
    TRY(tensor->kind == MODEL_TENSOR_PLAIN
            ? convert_matrix_read(&c->source, matrices, 0, tensor->rows, out)
            : convert_matrices(c, tensor, matrices, (enum quant_type)plan->type_id, out));
    TRY(container_writer_put_tensor(c->writer, index, out, plan->bytes));
    report(c);
fail:
    mem_free(out);
    return status;
}

static enum sluice_status convert_trunk(struct converter *c)
{
    const struct convert_matrix *matrices = c->source.matrices;
    for (uint32_t i = 0; i < c->layout->tensor_count; i++) {
        if (!container_writer_has_tensor(c->writer, i)) {
            enum sluice_status status = convert_tensor(c, i, matrices);
            if (status < 0)
                return status;
        }
        matrices += c->layout->tensors[i].source_count;
    }
    return SLUICE_OK;
}

// --- the experts ----------------------------------------------------------------------------------------------------

static enum sluice_status convert_all_tiles(const struct converter *c, const struct target *target)
{
    uint64_t step = tiles_per_read(target->matrix->cols), end = u64_divide_up(target->matrix->rows, QUANT_TILE_ROWS);
    for (uint64_t tile = 0; tile < end; tile += step) {
        enum sluice_status status = convert_tiles(c, target, tile, tile + step < end ? tile + step : end);
        if (status < 0)
            return status;
    }
    return SLUICE_OK;
}

static enum sluice_status fill_record(const struct converter *c, const struct convert_matrix *matrices, uint8_t *record)
{
    const struct model_expert_layout *e = &c->plan.experts;
    uint64_t pair_tile = quant_tile_bytes(e->gate_up_type, QUANT_TILE_ROWS, c->config.hidden_size);
    uint64_t down_tile = quant_tile_bytes(e->down_type, QUANT_TILE_ROWS, c->config.expert_intermediate);
    const struct target targets[MODEL_EXPERT_PART_COUNT] = {
        {&matrices[MODEL_EXPERT_GATE], e->gate_up_type, record, 2 * pair_tile},
        {&matrices[MODEL_EXPERT_UP], e->gate_up_type, record + pair_tile, 2 * pair_tile},
        {&matrices[MODEL_EXPERT_DOWN], e->down_type, record + e->down_offset, down_tile},
    };
    for (int i = 0; i < MODEL_EXPERT_PART_COUNT; i++) {
        enum sluice_status status = convert_all_tiles(c, &targets[i]);
        if (status < 0)
            return status;
    }
    return SLUICE_OK;
}

static enum sluice_status convert_expert(void *user, size_t index)
{
    struct converter *c = user;
    uint32_t layer = c->plan.layers[index / c->config.experts].layer, expert = (uint32_t)(index % c->config.experts);
    const struct convert_matrix *matrices =
        c->source.matrices + c->layout->trunk_source_count + index * MODEL_EXPERT_PART_COUNT;
    enum sluice_status status;
    if (container_writer_has_expert(c->writer, layer, expert))
        return SLUICE_OK;
    uint8_t *record = mem_alloc(c->plan.experts.record_bytes, 1);
    TRY(record ? SLUICE_OK : SLUICE_ERR_MEMORY);
    TRY(fill_record(c, matrices, record));
    TRY(container_writer_put_expert(c->writer, layer, expert, record, c->plan.experts.record_bytes));
    report(c);
fail:
    mem_free(record);
    return status;
}

// --- the plan -------------------------------------------------------------------------------------------------------

static enum sluice_status make_plan(struct converter *c)
{
    const struct convert_matrix *matrices = c->source.matrices;
    enum quant_type *types = mem_alloc(c->layout->tensor_count, sizeof *types);
    if (!types)
        return SLUICE_ERR_MEMORY;
    for (size_t i = 0; i < c->layout->tensor_count; i++) {
        types[i] = convert_matrix_float_type(matrices);
        matrices += c->layout->tensors[i].source_count;
    }
    enum sluice_status status = layout_plan_init(&c->plan, c->layout, &c->options->recipe, types);
    mem_free(types);
    return status;
}

static void note_fallback(const char *what, uint64_t count, enum quant_type wanted, enum quant_type got)
{
    if (count && got != wanted)
        log_message(LOG_NOTE, "%" PRIu64 " %s stored as %s, because their rows are no multiple of %s's block", count,
                    what, quant_format_get(got)->name, quant_format_get(wanted)->name);
}

static void note_fallbacks(const struct converter *c)
{
    uint64_t counts[QUANT_TYPE_COUNT] = {0}, experts = (uint64_t)c->config.moe_count * c->config.experts;
    for (size_t i = 0; i < c->layout->tensor_count; i++)
        if (c->layout->tensors[i].kind != MODEL_TENSOR_PLAIN && !c->layout->tensors[i].keep_float)
            counts[c->plan.tensors[i].type_id] += c->layout->tensors[i].source_count;
    for (enum quant_type type = 0; type < QUANT_TYPE_COUNT; type++)
        note_fallback("matrices of the trunk are", counts[type], c->options->recipe.trunk, type);
    note_fallback("gate and up matrices of experts are", 2 * experts, c->options->recipe.experts,
                  c->plan.experts.gate_up_type);
    note_fallback("down matrices of experts are", experts, c->options->recipe.experts, c->plan.experts.down_type);
}

static enum sluice_status open_writer(struct converter *c)
{
    const struct convert_options *o = c->options;
    char folder[PATH_MAX], text[PATH_MAX + 128];
    struct container_writer_options options = {.text = text, .restart = o->restart, .batch_bytes = o->batch_bytes};
    enum sluice_status status = convert_fingerprint(&c->documents, &c->source, options.fingerprint);
    if (status < 0)
        return status;
    snprintf(text, sizeof text, "%s, experts %s, trunk %s, from %s", o->program,
             quant_format_get(o->recipe.experts)->name, quant_format_get(o->recipe.trunk)->name,
             realpath(o->source, folder) ? folder : o->source);
    struct container_plan plan = c->plan.container;
    plan.documents = c->documents.items;
    plan.document_count = c->documents.count;
    return container_writer_open(o->output, &plan, &options, &c->writer);
}

// --- the whole ------------------------------------------------------------------------------------------------------

// Reads and checks all inputs; writes nothing.
static enum sluice_status prepare(struct converter *c)
{
    enum sluice_status status;
    const char *directory = c->options->source;
    TRY(convert_documents_load(directory, &c->documents));
    status = model_config_parse(c->documents.items[0].text, c->documents.items[0].bytes, &c->config);
    if (status < 0)
        error_prefix(status, "%s", directory);
    TRY(status);
    TRY(model_layout_create(&c->config, &c->layout));
    TRY(convert_source_open(directory, c->layout, &c->source));
    TRY(convert_documents_add_provenance(&c->documents, c->options, &c->source));
    TRY(make_plan(c));
    note_fallbacks(c);
fail:
    return status;
}

// Experts in work at once are bounded by memory, for models whose experts are large.
static uint32_t expert_threads(const struct converter *c)
{
    uint64_t fit = ((uint64_t)1 << 30) / (c->plan.experts.record_bytes + 1) + 1;
    return fit < c->threads ? (uint32_t)fit : c->threads;
}

static enum sluice_status convert(struct converter *c)
{
    enum sluice_status status;
    TRY(open_writer(c));
    report(c);
    TRY(convert_trunk(c));
    TRY(parallel_run(expert_threads(c), (size_t)c->config.moe_count * c->config.experts, convert_expert, c));
    TRY(container_writer_finish(c->writer));
fail:
    return status;
}

static void finish(struct converter *c)
{
    container_writer_close(c->writer);
    convert_source_close(&c->source);
    convert_documents_finish(&c->documents);
    model_layout_destroy(c->layout);
    layout_plan_finish(&c->plan);
    pthread_mutex_destroy(&c->progress_lock);
    mem_free(c);
}

enum sluice_status model_convert(const struct convert_options *options)
{
    CHECK(quant_format_get(options->recipe.experts) && quant_format_get(options->recipe.trunk));
    struct converter *c = mem_alloc(1, sizeof *c);
    if (!c)
        return SLUICE_ERR_MEMORY;
    c->options = options;
    c->threads = options->threads ? options->threads : parallel_threads_default();
    pthread_mutex_init(&c->progress_lock, NULL);
    enum sluice_status status = prepare(c);
    if (status == SLUICE_OK)
        status = convert(c);
    struct error_record error; // closing may overwrite the message
    if (status < 0)
        error_save(&error, status);
    finish(c);
    return status < 0 ? error_restore(&error) : SLUICE_OK;
}
