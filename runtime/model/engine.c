// Opening and closing: everything is planned against the budgets, then allocated, then loaded.
#include <stdio.h>
#include <string.h>

#include "quant/tile.h"
#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "runtime/model/engine_internal.h"
#include "runtime/model/plan.h"
#include "runtime/model/shape.h"
#include "runtime/model/speed_trial.h"

enum { CONTEXT_DEFAULT = 8192 };

// --- model ----------------------------------------------------------------------------------------------------------

static enum sluice_status keep_few_layers(struct sluice_engine *e, const char *text, size_t bytes)
{
    char *slice;
    size_t slice_bytes;
    enum sluice_status status = model_shape_slice(text, bytes, speed_trial_layers(&e->config), &slice, &slice_bytes);
    if (status < 0)
        return status;
    status = model_config_parse(slice, slice_bytes, &e->config);
    mem_free(slice);
    return status;
}

static enum sluice_status read_config(struct sluice_engine *e)
{
    char *text;
    size_t bytes;
    enum sluice_status status = container_document(e->container, "config.json", &text, &bytes);
    if (status < 0)
        return status;
    status = model_config_parse(text, bytes, &e->config);
    if (status == SLUICE_OK && e->hooks.few_layers)
        status = keep_few_layers(e, text, bytes);
    mem_free(text);
    return status < 0 ? error_prefix(status, "%s", container_path(e->container)) : SLUICE_OK;
}

// The container's expert records have the shapes that the config calls for, in every layer.
static enum sluice_status check_experts(const struct sluice_engine *e)
{
    const struct model_config *c = &e->config;
    for (uint32_t i = 0; i < c->layer_count; i++) {
        const struct container_expert_layer *l = container_expert_layer(e->container, i);
        if (!l != !c->layers[i].moe)
            return error_set(SLUICE_ERR_FORMAT, "%s: layer %u %s experts, but config.json says otherwise",
                             container_path(e->container), i, l ? "has" : "has no");
        if (!l)
            continue;
        enum quant_type gate_up = (enum quant_type)l->gate_up_type_id, down = (enum quant_type)l->down_type_id;
        bool known = quant_format_get(gate_up) && quant_format_get(down);
        uint64_t gate_up_bytes = known ? 2 * quant_tile_bytes(gate_up, l->intermediate, l->hidden) : 0;
        uint64_t down_bytes = known ? quant_tile_bytes(down, l->hidden, l->intermediate) : 0;
        if (l->expert_count != c->experts || l->hidden != c->hidden_size || l->intermediate != c->expert_intermediate ||
            gate_up_bytes == 0 || down_bytes == 0 || l->down_offset % 256 != 0 || l->down_offset < gate_up_bytes ||
            l->record_bytes < l->down_offset || l->record_bytes - l->down_offset < down_bytes ||
            l->record_bytes > UINT32_MAX)
            return error_set(SLUICE_ERR_FORMAT, "%s: the expert records of layer %u do not fit config.json",
                             container_path(e->container), i);
    }
    return SLUICE_OK;
}

static enum sluice_status describe_model(struct sluice_engine *e)
{
    const struct model_config *c = &e->config;
    uint32_t context = e->options.context_tokens ? e->options.context_tokens : CONTEXT_DEFAULT;
    if (!e->options.context_tokens && context > c->positions_max)
        context = c->positions_max;
    if (context > c->positions_max)
        return error_set(SLUICE_ERR_ARGUMENT, "--ctx %u: the model has %u positions", context, c->positions_max);
    e->model = (struct sluice_model){
        .layers = c->layer_count,
        .hidden = c->hidden_size,
        .vocab = c->vocab_size,
        .experts = c->experts,
        .top_k = c->top_k,
        .positions_max = c->positions_max,
        .context_tokens = context,
        .value_heads = c->linear_value_heads,
        .key_dim = c->linear_key_dim,
        .value_dim = c->linear_value_dim,
    };
    return SLUICE_OK;
}

// --- open and close -------------------------------------------------------------------------------------------------

_Static_assert((int)SLUICE_KV_F16 == (int)KV_F16 && (int)SLUICE_KV_F32 == (int)KV_F32 &&
                   (int)SLUICE_KV_Q8 == (int)KV_Q8,
               "sluice_kv is kv_type");
_Static_assert((int)SLUICE_IO_AUTO == (int)READER_AUTO && (int)SLUICE_IO_URING == (int)READER_URING &&
                   (int)SLUICE_IO_PREAD == (int)READER_PREAD,
               "sluice_io is reader_kind");
_Static_assert((int)OPS_HEAD_DIM_MAX == (int)MODEL_HEAD_DIM_MAX &&
                   (int)OPS_HEADS_PER_KV_MAX == (int)MODEL_HEADS_PER_KV_MAX &&
                   (int)OPS_CONV_TAPS_MAX == (int)MODEL_CONV_TAPS_MAX &&
                   (int)OPS_EXPERTS_MAX == (int)MODEL_EXPERTS_MAX && (int)OPS_TOP_K_MAX == (int)MODEL_TOP_K_MAX,
               "operations take every model that is accepted, and no other is");

// Before anything else, so that the plan can still change: a driver that says it can do with one pool may yet refuse
// that much memory.
static enum sluice_status allocate_experts(struct sluice_engine *e, struct memory_plan *plan)
{
    struct error_record refusal;
    enum sluice_status status = pager_create(e->device, e->container, &plan->pager, &e->pager);
    if (status != SLUICE_ERR_UNSUPPORTED || !plan->report.unified || e->options.expert_pool != SLUICE_EXPERT_POOL_AUTO)
        return status;
    error_save(&refusal, status);
    e->pool_refused = true;
    TRY(plan_memory(e, plan));
    TRY(pager_create(e->device, e->container, &plan->pager, &e->pager));
    log_message(LOG_NOTE, "%s; experts are copied on their way to the device instead", refusal.message);
fail:
    return status;
}

static enum sluice_status allocate(struct sluice_engine *e, struct memory_plan *plan)
{
    enum sluice_status status = SLUICE_OK;
    if (e->config.moe_count)
        TRY(allocate_experts(e, plan));
    TRY(weights_load(e->device, e->container, &e->config, &e->weights));
    TRY(scratch_create(e->device, &e->config, &plan->limits, true, &e->scratch, NULL));
    for (uint32_t i = 0; i < e->options.sessions; i++) {
        e->sessions[i].engine = e;
        TRY(cache_create(e->device, &e->config, (enum kv_type)e->options.kv, e->model.context_tokens,
                         &e->sessions[i].cache));
    }
    e->pass_blocks = mem_alloc(e->scratch.block_count, sizeof *e->pass_blocks);
    e->memos = mem_alloc(e->config.layer_count, MEMO_PART_COUNT * sizeof *e->memos);
    if (!e->pass_blocks || !e->memos)
        return SLUICE_ERR_MEMORY;
    if (e->config.moe_count)
        TRY(moe_create(e));
fail:
    return status;
}

enum sluice_status sluice_open(const char *path, const struct sluice_options *options, struct sluice_engine **engine)
{
    return engine_open_hooked(path, options, &(struct engine_hooks){0}, engine);
}

// Everything before memory is taken: options, container, device, plan. After a failure the engine can be closed.
static enum sluice_status prepare(struct sluice_engine *e, const char *path, struct memory_plan *plan)
{
    enum sluice_status status;
    if (e->options.sessions == 0)
        e->options.sessions = 1;
    if (e->options.sessions > SLUICE_SESSIONS_MAX)
        return error_set(SLUICE_ERR_ARGUMENT, "at most %u sessions", SLUICE_SESSIONS_MAX);
    TRY(container_open(path, &e->container));
    TRY(read_config(e));
    TRY(check_experts(e));
    TRY(describe_model(e));
    struct gpu_device_options device = {
        .name = e->options.device,
        .timestamps = e->options.timestamps,
        .max_buffer_bytes = e->hooks.max_buffer_bytes,
        .no_import = e->hooks.no_import,
        .cache_folder = e->options.cache_folder,
        .fail_buffer_at = e->hooks.fail_buffer_at,
    };
    TRY(gpu_device_create(&device, &e->device));
    struct ops_options ops = {
        .cache_folder = e->options.cache_folder,
        .recalibrate = e->options.recalibrate,
        .matrix_cores = (enum ops_matrix_cores)e->options.matrix_cores,
        .hooks = &e->hooks.ops,
    };
    TRY(ops_create(e->device, &ops, &e->ops));
    TRY(plan_memory(e, plan));
fail:
    return status;
}

static struct sluice_engine *engine_new(const struct sluice_options *options, const struct engine_hooks *hooks)
{
    struct sluice_engine *e = mem_alloc(1, sizeof *e);
    if (e) {
        e->options = *options;
        e->hooks = *hooks;
    }
    return e;
}

enum sluice_status engine_open_hooked(const char *path, const struct sluice_options *options,
                                      const struct engine_hooks *hooks, struct sluice_engine **engine)
{
    enum sluice_status status;
    struct memory_plan plan = {0};
    *engine = NULL;
    struct sluice_engine *e = engine_new(options, hooks);
    if (!e)
        return SLUICE_ERR_MEMORY;
    TRY(prepare(e, path, &plan));
    TRY(allocate(e, &plan));
    sluice_stats_reset(e);
    *engine = e;
    return SLUICE_OK;
fail:
    sluice_close(e);
    return status;
}

enum sluice_status sluice_plan(const char *path, const struct sluice_options *options, struct sluice_plan *plan)
{
    return engine_plan_hooked(path, options, &(struct engine_hooks){0}, plan);
}

enum sluice_status engine_plan_hooked(const char *path, const struct sluice_options *options,
                                      const struct engine_hooks *hooks, struct sluice_plan *plan)
{
    struct memory_plan memory = {0};
    struct sluice_engine *e = engine_new(options, hooks);
    if (!e)
        return SLUICE_ERR_MEMORY;
    enum sluice_status status = prepare(e, path, &memory);
    *plan = memory.report;
    if (status == SLUICE_OK)
        snprintf(plan->device_name, sizeof plan->device_name, "%s", sluice_device_name(e));
    sluice_close(e);
    return status;
}

void sluice_close(struct sluice_engine *e)
{
    if (!e)
        return;
    if (e->device && gpu_tick_last(e->device))
        gpu_wait(e->device, gpu_tick_last(e->device));
    pager_destroy(e->pager);
    moe_finish(e);
    for (uint32_t i = 0; i < SLUICE_SESSIONS_MAX; i++) {
        CHECK(!e->sessions[i].in_use);
        cache_finish(&e->sessions[i].cache);
    }
    scratch_finish(&e->scratch);
    weights_finish(&e->weights);
    ops_destroy(e->ops);
    gpu_device_destroy(e->device);
    container_close(e->container);
    for (unsigned i = 0; i < e->document_count; i++) {
        mem_free(e->documents[i].name);
        mem_free(e->documents[i].text);
    }
    mem_free(e->pass_blocks);
    mem_free(e->memos);
    mem_free(e);
}

// --- what others ask ------------------------------------------------------------------------------------------------

const struct sluice_model *sluice_engine_model(const struct sluice_engine *e)
{
    return &e->model;
}

bool sluice_layer_is_linear(const struct sluice_engine *e, uint32_t layer)
{
    CHECK(layer < e->config.layer_count);
    return !e->config.layers[layer].full_attention;
}

bool sluice_layer_has_experts(const struct sluice_engine *e, uint32_t layer)
{
    CHECK(layer < e->config.layer_count);
    return e->config.layers[layer].moe;
}

const char *sluice_device_name(const struct sluice_engine *e)
{
    return gpu_device_caps(e->device)->device_name;
}

const char *sluice_driver_name(const struct sluice_engine *e)
{
    return gpu_device_caps(e->device)->driver_name;
}

enum sluice_status sluice_document(struct sluice_engine *e, const char *name, const char **text, size_t *bytes)
{
    for (unsigned i = 0; i < e->document_count; i++) {
        if (strcmp(e->documents[i].name, name) != 0)
            continue;
        *text = e->documents[i].text;
        *bytes = e->documents[i].bytes;
        return SLUICE_OK;
    }
    if (e->document_count == DOCUMENTS_MAX)
        return error_set(SLUICE_ERR_ARGUMENT, "more than %d documents of one container were asked for", DOCUMENTS_MAX);
    char *copy = NULL;
    enum sluice_status status = container_document(e->container, name, &copy, bytes);
    if (status == SLUICE_ERR_UNSUPPORTED)
        return error_set(SLUICE_ERR_ARGUMENT, "%s: holds no %s", container_path(e->container), name);
    if (status < 0)
        return status;
    char *name_copy = mem_strndup(name, strlen(name));
    if (!name_copy) {
        mem_free(copy);
        return SLUICE_ERR_MEMORY;
    }
    e->documents[e->document_count].name = name_copy;
    e->documents[e->document_count].text = copy;
    e->documents[e->document_count++].bytes = *bytes;
    *text = copy;
    return SLUICE_OK;
}

void sluice_stats(const struct sluice_engine *e, struct sluice_stats *stats)
{
    struct gpu_usage u = gpu_device_usage(e->device);
    struct pager_statistics p = e->pager ? pager_statistics(e->pager) : (struct pager_statistics){0};
    const struct pager_statistics *b = &e->pager_base;
    uint64_t slot_bytes = pager_slot_bytes(e->container);
    *stats = (struct sluice_stats){
        .expert_hits_device = p.hits_device - b->hits_device,
        .expert_hits_host = p.hits_host - b->hits_host,
        .expert_misses = p.misses - b->misses,
        .expert_bytes_read = p.bytes_read - b->bytes_read,
        .expert_reads_wasted = p.wasted - b->wasted,
        .wait_drive_ns = p.wait_ns - b->wait_ns,
        .reading_ns = p.busy_ns - b->busy_ns,
        .wait_gpu_ns = u.wait_ns - e->usage_base.wait_ns,
        .io_cpu_ns = p.cpu_ns - b->cpu_ns,
        .io_caller_cpu_ns = p.caller_cpu_ns - b->caller_cpu_ns,
        .checksum_cpu_ns = p.checksum_cpu_ns - b->checksum_cpu_ns,
        .checksums = p.checksums - b->checksums,
        .record_cpu_ns = e->record.cpu_ns - e->record_base_ns,
        .wait_gpu_cpu_ns = u.wait_cpu_ns - e->usage_base.wait_cpu_ns,
        .wait_drive_cpu_ns = p.wait_cpu_ns - b->wait_cpu_ns,
        .submits = u.submits - e->usage_base.submits,
        .dispatches = u.dispatches - e->usage_base.dispatches,
        .barriers = u.barriers - e->usage_base.barriers,
        .recorded = u.recorded - e->usage_base.recorded,
        .replayed = u.replayed - e->usage_base.replayed,
        .sets_filled = u.sets_filled - e->usage_base.sets_filled,
        .device_bytes = u.device_bytes,
        .device_bytes_max = u.device_bytes_max,
        .host_bytes = p.host_bytes,
        .kv_bytes = cache_kv_bytes(&e->sessions[0].cache),
        .slots_device = slot_bytes ? (uint32_t)(p.device_bytes / slot_bytes) : 0,
        .slots_host = slot_bytes ? (uint32_t)(p.host_bytes / slot_bytes) : 0,
        .unified = e->pager && p.host_bytes == 0,
        .experts_total = (uint32_t)container_expert_count(e->container),
        .expert_bytes = (uint32_t)slot_bytes,
        .matrix_path = ops_matrix_path(e->ops),
    };
}

void sluice_stats_reset(struct sluice_engine *e)
{
    e->usage_base = gpu_device_usage(e->device);
    e->record_base_ns = e->record.cpu_ns;
    if (e->pager)
        e->pager_base = pager_statistics(e->pager);
}

void sluice_gpu_times(struct sluice_engine *e,
                      void (*visit)(void *user, const char *label, uint64_t total_ns, uint64_t count), void *user)
{
    gpu_times(e->device, visit, user);
}
