#include "runtime/model/speed_trial.h"
#include "runtime/base/doubles.h"

#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/integer.h"
#include "runtime/base/mem.h"
#include "runtime/model/engine_internal.h"

enum {
    TOKENS_FIRST = 64, // of a prefill trial; more if that is soon done
    TOKENS_MAX = 512,  // one sub-batch
    DECODE_TOKENS_MAX = 6,
    RUNS = 3, // the median counts
    COPIES = 8,
    TRIAL_HOST_SLOTS = 128, // twice what streaming needs, for drivers that need a second copy
};

static const double TRIAL_SECONDS = 0.5; // a prefill trial that takes less is repeated with more tokens

struct trial {
    struct sluice_engine *engine;
    struct sluice_session *session;
    uint32_t prompt;        // tokens of the prompt in question
    uint32_t decode_tokens; // of a decode trial
    int32_t ids[TOKENS_MAX];
};

uint32_t speed_trial_layers(const struct model_config *c)
{
    bool seen[2][2] = {{false}};
    uint32_t layers = 1;
    for (uint32_t i = 0; i < c->layer_count; i++) {
        bool *kind = &seen[c->layers[i].full_attention][c->layers[i].moe];
        if (!*kind)
            layers = i + 1;
        *kind = true;
    }
    return layers;
}

struct speed_trial_sizes speed_trial_sizes(uint32_t experts, uint32_t top_k, uint32_t experts_max, uint32_t prompt,
                                           uint32_t wanted)
{
    uint32_t tokens = wanted < prompt ? wanted : prompt;
    uint64_t routed = u64_divide_up((uint64_t)experts * tokens, prompt);
    experts_max = experts_max > top_k ? experts_max : top_k;
    routed = routed < top_k ? top_k : routed > experts_max ? experts_max : routed;
    if (experts) // the number of tokens that gives these experts the rows they would have
        tokens = (uint32_t)(routed * prompt / experts);
    return (struct speed_trial_sizes){.tokens = tokens ? tokens : 1, .experts = (uint32_t)routed};
}

// --- runs -----------------------------------------------------------------------------------------------------------

static double seconds_since(uint64_t start_ns)
{
    return clock_seconds(clock_ns() - start_ns);
}

// Draws from the first `experts` of each layer from now on.
static enum sluice_status route_to(struct trial *t, uint32_t experts)
{
    struct sluice_engine *e = t->engine;
    if (!e->config.moe_count)
        return SLUICE_OK;
    struct routing_model_options options = {
        .kind = SLUICE_ROUTING_UNIFORM,
        .seed = 1,
        .layers = e->config.layer_count,
        .experts = experts,
        .top_k = e->config.top_k,
        .sessions = 1,
    };
    routing_model_destroy(e->routing_model);
    return routing_model_create(&options, &e->routing_model);
}

// An empty session that claims to hold `depth` tokens already, whose K and V are zeros.
static enum sluice_status rewind_to(struct trial *t, uint32_t depth)
{
    enum sluice_status status = sluice_session_reset(t->session);
    t->session->tokens = depth;
    return status;
}

static enum sluice_status clear_cache(struct trial *t)
{
    struct gpu_command *cmd;
    enum sluice_status status = gpu_command_begin(t->engine->device, &cmd);
    if (status < 0)
        return status;
    const struct cache *cache = &t->session->cache;
    for (uint32_t i = 0; i < cache->layer_count; i++)
        for (uint32_t s = 0; s < cache->layers[i].segment_count; s++) {
            gpu_clear(cmd, cache->layers[i].segments[s].k);
            gpu_clear(cmd, cache->layers[i].segments[s].v);
        }
    return gpu_command_submit(cmd, NULL);
}

// One prefill, less the time waited for the drive.
static enum sluice_status run_prefill(struct trial *t, uint32_t tokens, uint32_t depth, double *seconds)
{
    enum sluice_status status;
    struct sluice_stats stats;
    TRY(rewind_to(t, depth));
    sluice_stats_reset(t->engine);
    uint64_t start_ns = clock_ns();
    TRY(sluice_prefill(t->session, t->ids, tokens, NULL));
    *seconds = seconds_since(start_ns);
    sluice_stats(t->engine, &stats);
    *seconds -= clock_seconds(stats.wait_drive_ns);
fail:
    return status;
}

// Seconds per token.
static enum sluice_status run_decode(struct trial *t, uint32_t depth, double *seconds)
{
    enum sluice_status status;
    struct sluice_stats stats;
    TRY(rewind_to(t, depth));
    sluice_stats_reset(t->engine);
    uint64_t start_ns = clock_ns();
    for (uint32_t i = 0; i < t->decode_tokens; i++)
        TRY(sluice_decode(t->engine, &t->session, &t->ids[i], 1, NULL));
    *seconds = seconds_since(start_ns);
    sluice_stats(t->engine, &stats);
    *seconds = (*seconds - clock_seconds(stats.wait_drive_ns)) / t->decode_tokens;
fail:
    return status;
}

// --- parts ----------------------------------------------------------------------------------------------------------

static void add_attention(void *user, const char *label, uint64_t total_ns, uint64_t count)
{
    (void)count;
    if (strncmp(label, "attend", 6) == 0)
        *(double *)user += clock_seconds(total_ns);
}

// Kernel time of attention since the device was opened.
static double attention_seconds(struct trial *t)
{
    double seconds = 0;
    gpu_times(t->engine->device, add_attention, &seconds);
    return seconds;
}

static enum sluice_status measure_head(struct trial *t, double *seconds)
{
    enum sluice_status status;
    double values[RUNS];
    struct pass pass = {.engine = t->engine, .blocks = t->engine->pass_blocks};
    for (int i = -1; i < RUNS; i++) {
        uint64_t tick, start_ns = clock_ns();
        TRY(forward_logits(&pass, 0, 0, 1, &tick));
        TRY(gpu_wait(t->engine->device, tick));
        if (i >= 0)
            values[i] = seconds_since(start_ns);
    }
    *seconds = doubles_median(values, RUNS);
fail:
    return status;
}

// One expert from main memory to the device.
static enum sluice_status measure_copy(struct trial *t, double *seconds)
{
    enum sluice_status status;
    struct gpu_device *device = t->engine->device;
    struct gpu_buffer *from = NULL, *to = NULL;
    double values[RUNS];
    uint64_t bytes = pager_slot_bytes(t->engine->container);
    *seconds = 0;
    if (bytes == 0 || pager_statistics(t->engine->pager).host_bytes == 0) // no experts; one pool
        return SLUICE_OK;
    TRY(gpu_buffer_create(device, GPU_MEMORY_UPLOAD, bytes, "trial", &from));
    TRY(gpu_buffer_create(device, GPU_MEMORY_DEVICE, bytes, "trial", &to));
    memset(gpu_buffer_map(from), 1, bytes);
    for (int i = -1; i < RUNS; i++) {
        struct gpu_command *cmd;
        uint64_t tick, start_ns = clock_ns();
        TRY(gpu_command_begin(device, &cmd));
        for (int c = 0; c < COPIES; c++)
            gpu_copy(cmd, gpu_range_make(from, 0, bytes), gpu_range_make(to, 0, bytes));
        TRY(gpu_command_submit(cmd, &tick));
        TRY(gpu_wait(device, tick));
        if (i >= 0)
            values[i] = seconds_since(start_ns) / COPIES;
    }
    *seconds = doubles_median(values, RUNS);
fail:
    gpu_buffer_destroy(to);
    gpu_buffer_destroy(from);
    return status;
}

// --- prefill and decode ---------------------------------------------------------------------------------------------

// A trial of one size: seconds of the layers, and of attention in them at the prompt's beginning and end.
struct prefill_trial {
    uint32_t tokens, depth;
    double seconds, attention, attention_deep;
};

static enum sluice_status try_prefill(struct trial *t, uint32_t wanted, uint32_t experts_max, struct prefill_trial *p)
{
    enum sluice_status status;
    const struct model_config *c = &t->engine->config;
    uint32_t block = t->engine->scratch.block_tokens, prompt = t->prompt < block ? t->prompt : block;
    struct speed_trial_sizes sizes = speed_trial_sizes(c->experts, c->top_k, experts_max, prompt, wanted);
    double values[RUNS], seconds;
    *p = (struct prefill_trial){.tokens = sizes.tokens < TOKENS_MAX ? sizes.tokens : TOKENS_MAX};
    TRY(route_to(t, sizes.experts));
    TRY(run_prefill(t, p->tokens, 0, &seconds)); // experts arrive, kernels are compiled
    double attention = attention_seconds(t);
    for (int i = 0; i < RUNS; i++)
        TRY(run_prefill(t, p->tokens, 0, &values[i]));
    p->seconds = doubles_median(values, RUNS);
    p->attention = (attention_seconds(t) - attention) / RUNS;
    if (t->prompt < 2 * p->tokens)
        return SLUICE_OK;
    p->depth = t->prompt - p->tokens;
    attention = attention_seconds(t);
    TRY(run_prefill(t, p->tokens, p->depth, &seconds));
    p->attention_deep = attention_seconds(t) - attention;
fail:
    return status;
}

static double above(double a, double b)
{
    return a > b ? a - b : 0;
}

// The whole prompt in the trial's layers. A query at position i costs a + b i; the trial gives both.
static double extend_prefill(const struct prefill_trial *p, uint32_t prompt, double head)
{
    double n = p->tokens, whole = prompt, b = 0;
    if (p->depth && p->attention_deep > p->attention)
        b = (p->attention_deep - p->attention) / (n * p->depth);
    double a = p->attention / n - b * n / 2;
    return above(p->seconds, head + p->attention) * whole / n + a * whole + b * whole * whole / 2;
}

// With as many tokens as a moment allows.
static enum sluice_status measure_prefill(struct trial *t, uint32_t experts_max, struct prefill_trial *p)
{
    enum sluice_status status;
    uint32_t wanted = TOKENS_FIRST;
    TRY(try_prefill(t, wanted, experts_max, p));
    while (p->seconds < TRIAL_SECONDS && p->tokens < t->prompt && p->tokens >= wanted && wanted < TOKENS_MAX) {
        wanted *= 2;
        TRY(try_prefill(t, wanted, experts_max, p));
    }
fail:
    return status;
}

static enum sluice_status measure_decode(struct trial *t, uint32_t depth, double *seconds)
{
    enum sluice_status status;
    double values[RUNS];
    TRY(run_decode(t, depth, &values[0])); // experts arrive
    for (int i = 0; i < RUNS; i++)
        TRY(run_decode(t, depth, &values[i]));
    *seconds = doubles_median(values, RUNS);
fail:
    return status;
}

// Share of the routed experts in the weights that a token reads in the layers.
static double expert_share(const struct trial *t, uint64_t trunk_bytes)
{
    const struct sluice_engine *e = t->engine;
    double experts = (double)e->config.moe_count * e->config.top_k * (double)pager_slot_bytes(e->container);
    const struct container_tensor *embed = container_tensor_find(e->container, "model.embed_tokens.weight");
    const struct container_tensor *head = container_tensor_find(e->container, "lm_head.weight");
    double layers = (double)trunk_bytes - (embed ? (double)embed->bytes : 0) - (head ? (double)head->bytes : 0);
    return experts > 0 ? experts / (experts + (layers > 0 ? layers : 0)) : 0;
}

static enum sluice_status run_trial(struct trial *t, uint32_t experts_max, uint32_t layers, struct sluice_speed *speed)
{
    enum sluice_status status;
    const struct model_config *c = &t->engine->config;
    struct prefill_trial prefill;
    double head, scale = (double)layers / c->layer_count, decode, deep;
    uint32_t context = t->engine->model.context_tokens, few = 2 * c->top_k < experts_max ? 2 * c->top_k : experts_max;
    t->decode_tokens = context < DECODE_TOKENS_MAX ? context : DECODE_TOKENS_MAX;
    speed->decode_deep_tokens = context - t->decode_tokens;
    for (uint32_t i = 0; i < TOKENS_MAX; i++)
        t->ids[i] = (int32_t)(i * 7919u % c->vocab_size);
    TRY(clear_cache(t));
    TRY(measure_prefill(t, experts_max, &prefill));
    TRY(measure_head(t, &head));
    TRY(measure_copy(t, &speed->copy_seconds));
    TRY(route_to(t, few > c->top_k ? few : c->top_k));
    TRY(measure_decode(t, 0, &decode));
    TRY(measure_decode(t, speed->decode_deep_tokens, &deep));
    speed->prefill_seconds = extend_prefill(&prefill, t->prompt, head) * scale + head;
    speed->decode_seconds = above(decode, head) * scale + head;
    speed->decode_deep_seconds = above(deep, head) * scale + head;
    speed->experts_seconds = above(decode, head) * scale * expert_share(t, t->engine->weights.slab.bytes);
    speed->layers_tried = c->layer_count;
    speed->tokens_tried = prefill.tokens;
fail:
    return status;
}

// What the trial's engine is opened with: the user's options, and slots for as many experts as it draws from.
static struct sluice_options trial_options(const struct sluice_options *options, const struct sluice_plan *plan,
                                           uint32_t layers, uint32_t experts_max)
{
    struct sluice_options o = *options;
    o.sessions = 1;
    o.routing = SLUICE_ROUTING_UNIFORM;
    o.verify = SLUICE_VERIFY_NEVER;
    o.timestamps = true;
    o.slots = layers * experts_max < plan->slots_device ? layers * experts_max : plan->slots_device;
    o.ram_bytes = plan->unified ? 0 : (uint64_t)plan->expert_bytes * TRIAL_HOST_SLOTS;
    if (plan->unified && o.vram_bytes) // slots_device counts those of --ram
        o.vram_bytes += options->ram_bytes;
    return o;
}

enum sluice_status sluice_speed_measure(const char *path, const struct sluice_options *options,
                                        const struct sluice_plan *plan, uint32_t prompt_tokens,
                                        struct sluice_speed *speed)
{
    enum sluice_status status;
    const struct sluice_model *m = &plan->model;
    const struct engine_hooks hooks = {.few_layers = true};
    uint32_t layers = plan->layers_distinct;
    *speed = (struct sluice_speed){.prompt_tokens = prompt_tokens};
    if (prompt_tokens < 1 || prompt_tokens > m->context_tokens)
        return error_set(SLUICE_ERR_ARGUMENT, "a prompt of %u tokens does not fit the context of %u", prompt_tokens,
                         m->context_tokens);
    uint32_t experts_max = plan->slots_device / layers < m->experts ? plan->slots_device / layers : m->experts;
    experts_max = experts_max > m->top_k ? experts_max : m->top_k;
    struct sluice_options open = trial_options(options, plan, layers, experts_max);
    struct trial *t = mem_alloc(1, sizeof *t);
    if (!t)
        return SLUICE_ERR_MEMORY;
    t->prompt = prompt_tokens;
    TRY(engine_open_hooked(path, &open, &hooks, &t->engine));
    TRY(sluice_session_create(t->engine, &t->session));
    TRY(run_trial(t, experts_max, m->layers, speed));
fail:
    sluice_session_destroy(t->session);
    sluice_close(t->engine);
    mem_free(t);
    return status;
}
