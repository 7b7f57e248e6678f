// Opening and closing: everything is planned against the budgets, then allocated, then loaded.
#include <stdio.h>
#include <string.h>

#include "offload/budget.h"
#include "quant/tile.h"
#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "runtime/model/engine_internal.h"

enum { CONTEXT_DEFAULT = 8192, STAGING_SLOTS = 32, HOST_SLOTS_MIN = 2 };

// What the driver reports as free is not all ours: other programs and the driver's own needs change while we run.
static const uint64_t DEVICE_MARGIN_DIVISOR = 16;

// --- model ----------------------------------------------------------------------------------------------------------

static enum sluice_status read_config(struct sluice_engine *e)
{
    char *text;
    size_t bytes;
    enum sluice_status status = container_document(e->container, "config.json", &text, &bytes);
    if (status < 0)
        return status;
    status = model_config_parse(text, bytes, &e->config);
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

// --- budget ---------------------------------------------------------------------------------------------------------

// Whether the experts' gate and up matrices, or any of the trunk's, are in a format with integer kernels.
static struct scratch_limits scratch_needs(const struct sluice_engine *e, uint32_t segments_max)
{
    const struct model_config *c = &e->config;
    bool q8 = e->options.activations == SLUICE_ACTIVATIONS_Q8, experts = false, trunk = false;
    for (uint32_t i = 0; i < container_expert_layer_count(e->container); i++) {
        const struct container_expert_layer *l = container_expert_layer_at(e->container, i);
        experts |= !quant_format_get((enum quant_type)l->gate_up_type_id)->is_float;
    }
    for (uint32_t i = 0; i < container_tensor_count(e->container); i++) {
        const struct container_tensor *t = container_tensor_at(e->container, i);
        const struct quant_format *format = quant_format_get((enum quant_type)t->type_id);
        trunk |= format && !format->is_float;
    }
    return (struct scratch_limits){
        .capacity_tokens = e->model.context_tokens,
        .segments_max = segments_max,
        .quantise_trunk = q8 && trunk,
        .quantise_experts = q8 && experts,
        .inter_max = c->dense_intermediate > c->shared_intermediate ? c->dense_intermediate : c->shared_intermediate,
    };
}

static enum sluice_status choose_slots(const struct sluice_engine *e, struct budget *vram, uint32_t *slots)
{
    uint64_t slot_bytes = pager_slot_bytes(e->container), total = container_expert_count(e->container);
    uint32_t least = e->config.top_k;
    if (e->options.slots && e->options.slots < least)
        return error_set(SLUICE_ERR_ARGUMENT, "--slots %u: the model needs at least %u (its top-k)", e->options.slots,
                         least);
    uint64_t wanted = e->options.slots && e->options.slots < total ? e->options.slots : total;
    if (e->options.slots) {
        enum sluice_status status = budget_check_units(vram, "expert slots", slot_bytes, wanted, least, 1);
        *slots = (uint32_t)wanted;
        return status;
    }
    uint64_t fit = budget_fit(vram, slot_bytes, wanted);
    *slots = (uint32_t)fit;
    return fit >= least ? SLUICE_OK : budget_check_units(vram, "expert slots", slot_bytes, least, least, 1);
}

struct plan {
    struct scratch_limits limits;
    struct pager_options pager;
};

static enum sluice_status plan_memory(struct sluice_engine *e, struct plan *plan)
{
    enum sluice_status status;
    struct scratch scratch = {0};
    struct budget vram;
    uint64_t trunk, cache, activations, free_bytes = gpu_device_caps(e->device)->device_budget_bytes;
    uint32_t segments_max;
    bool kv_f16 = e->options.kv == SLUICE_KV_F16;
    budget_init(&vram, "VRAM", "--vram",
                e->options.vram_bytes ? e->options.vram_bytes : free_bytes - free_bytes / DEVICE_MARGIN_DIVISOR);
    TRY(weights_bytes(e->device, e->container, &e->config, &trunk));
    TRY(cache_bytes(e->device, &e->config, kv_f16, e->model.context_tokens, &cache, &segments_max));
    plan->limits = scratch_needs(e, segments_max);
    TRY(scratch_create(e->device, &e->config, &plan->limits, false, &scratch, &activations));
    budget_add(&vram, "trunk", trunk);
    budget_add(&vram, "state and KV cache", cache * e->options.sessions);
    budget_add(&vram, "activations", activations);
    TRY(budget_check(&vram));
    if (e->config.moe_count) {
        uint64_t slot_bytes = pager_slot_bytes(e->container), total = container_expert_count(e->container);
        uint64_t host = e->options.ram_bytes ? e->options.ram_bytes / slot_bytes : STAGING_SLOTS;
        if (host < HOST_SLOTS_MIN)
            TRY(error_set(SLUICE_ERR_BUDGET, "--ram: streaming needs at least %u expert slots of %llu bytes",
                          HOST_SLOTS_MIN, (unsigned long long)slot_bytes));
        plan->pager = (struct pager_options){
            .host_slots = (uint32_t)(host < total ? host : total),
            .host_cache = e->options.ram_bytes != 0,
            .io = (enum reader_kind)e->options.io,
            .skip_checksums = e->options.skip_checksums,
            .faults = e->hooks.faults,
        };
        TRY(choose_slots(e, &vram, &plan->pager.device_slots));
    }
fail:
    scratch_finish(&scratch);
    return status;
}

// --- open and close -------------------------------------------------------------------------------------------------

_Static_assert((int)SLUICE_IO_AUTO == (int)READER_AUTO && (int)SLUICE_IO_URING == (int)READER_URING &&
                   (int)SLUICE_IO_PREAD == (int)READER_PREAD,
               "sluice_io is reader_kind");

static enum sluice_status allocate(struct sluice_engine *e, const struct plan *plan)
{
    enum sluice_status status;
    TRY(weights_load(e->device, e->container, &e->config, &e->weights));
    TRY(scratch_create(e->device, &e->config, &plan->limits, true, &e->scratch, NULL));
    for (uint32_t i = 0; i < e->options.sessions; i++) {
        e->sessions[i].engine = e;
        TRY(cache_create(e->device, &e->config, e->options.kv == SLUICE_KV_F16, e->model.context_tokens,
                         &e->sessions[i].cache));
    }
    e->pass_blocks = mem_alloc(e->scratch.block_count, sizeof *e->pass_blocks);
    if (!e->pass_blocks)
        return SLUICE_ERR_MEMORY;
    if (e->config.moe_count) {
        TRY(moe_create(e));
        TRY(pager_create(e->device, e->container, &plan->pager, &e->pager));
    }
fail:
    return status;
}

enum sluice_status sluice_open(const char *path, const struct sluice_options *options, struct sluice_engine **engine)
{
    return engine_open_hooked(path, options, &(struct engine_hooks){0}, engine);
}

enum sluice_status engine_open_hooked(const char *path, const struct sluice_options *options,
                                      const struct engine_hooks *hooks, struct sluice_engine **engine)
{
    enum sluice_status status;
    struct plan plan = {0};
    *engine = NULL;
    struct sluice_engine *e = mem_alloc(1, sizeof *e);
    if (!e)
        return SLUICE_ERR_MEMORY;
    e->options = *options;
    e->hooks = *hooks;
    if (e->options.sessions == 0)
        e->options.sessions = 1;
    if (e->options.sessions > SLUICE_SESSIONS_MAX) {
        status = error_set(SLUICE_ERR_ARGUMENT, "at most %u sessions", SLUICE_SESSIONS_MAX);
        goto fail;
    }
    TRY(container_open(path, &e->container));
    TRY(read_config(e));
    TRY(check_experts(e));
    TRY(describe_model(e));
    struct gpu_device_options device = {
        .name = options->device,
        .timestamps = options->timestamps,
        .max_buffer_bytes = hooks->max_buffer_bytes,
        .no_import = hooks->no_import,
    };
    TRY(gpu_device_create(&device, &e->device));
    struct ops_options ops = {
        .cache_folder = options->cache_folder,
        .recalibrate = options->recalibrate,
        .hooks = &e->hooks.ops,
    };
    TRY(ops_create(e->device, &ops, &e->ops));
    TRY(plan_memory(e, &plan));
    TRY(allocate(e, &plan));
    sluice_stats_reset(e);
    *engine = e;
    return SLUICE_OK;
fail:
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
    char *copy = NULL;
    enum sluice_status status = container_document(e->container, name, &copy, bytes);
    if (status == SLUICE_ERR_UNSUPPORTED)
        return error_set(SLUICE_ERR_ARGUMENT, "%s: holds no %s", container_path(e->container), name);
    if (status < 0)
        return status;
    char *name_copy = e->document_count < DOCUMENTS_MAX ? mem_strndup(name, strlen(name)) : NULL;
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
        .wait_drive_ns = p.wait_ns - b->wait_ns,
        .reading_ns = p.busy_ns - b->busy_ns,
        .wait_gpu_ns = u.wait_ns - e->usage_base.wait_ns,
        .io_cpu_ns = p.cpu_ns - b->cpu_ns,
        .wait_gpu_cpu_ns = u.wait_cpu_ns - e->usage_base.wait_cpu_ns,
        .submits = u.submits - e->usage_base.submits,
        .dispatches = u.dispatches - e->usage_base.dispatches,
        .barriers = u.barriers - e->usage_base.barriers,
        .device_bytes = u.device_bytes,
        .device_bytes_max = u.device_bytes_max,
        .host_bytes = p.host_bytes,
        .slots_device = slot_bytes ? (uint32_t)(p.device_bytes / slot_bytes) : 0,
        .slots_host = slot_bytes ? (uint32_t)(p.host_bytes / slot_bytes) : 0,
        .experts_total = (uint32_t)container_expert_count(e->container),
        .expert_bytes = (uint32_t)slot_bytes,
    };
}

void sluice_stats_reset(struct sluice_engine *e)
{
    e->usage_base = gpu_device_usage(e->device);
    if (e->pager)
        e->pager_base = pager_statistics(e->pager);
}

void sluice_gpu_times(struct sluice_engine *e,
                      void (*visit)(void *user, const char *label, uint64_t total_ns, uint64_t count), void *user)
{
    gpu_times(e->device, visit, user);
}
