#include "runtime/model/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "offload/budget.h"
#include "runtime/base/check.h"
#include "runtime/base/integer.h"
#include "runtime/base/log.h"
#include "runtime/base/memory_available.h"
#include "runtime/model/engine_internal.h"
#include "runtime/model/speed_trial.h"

enum { STAGING_SLOTS = RESIDENCY_LOADS_MAX, HOST_SLOTS_MIN = 2, CONTEXT_STEP = 1024, PASS_TOKENS_MIN = 4096 };

// What is reported as free is not all ours: other programs and the driver's own needs change while we run.
enum { DEVICE_MARGIN_DIVISOR = 16, HOST_MARGIN_DIVISOR = 8 };

// What the process grows by beside what is planned: compiled kernels, command buffers, the heap's slack.
static const uint64_t PROGRAM_GROWTH_BYTES = (uint64_t)32 << 20;

// Everything but expert slots, for one capacity of a session.
struct sizes {
    uint32_t passes;                        // that the longest prompt is cut into; 0: 1
    uint64_t trunk, state, kv, activations; // on the device; state and kv of one session
    uint64_t transfers, lists;              // in main memory
    struct scratch_limits limits;
};

// What may be used.
struct limits {
    uint64_t free_bytes, device_bytes; // of the device; the second less the margin
    uint64_t available_bytes;          // of main memory; UINT64_MAX: unknown
    uint64_t host_bytes;               // the same less the margin
    uint64_t resident_bytes;           // what the process takes already
    bool shared;                       // device memory is main memory
    bool unified;                      // experts have one pool
};

// --- sizes ----------------------------------------------------------------------------------------------------------

// Whether the experts' gate and up matrices, or any of the trunk's, are in a format with integer kernels.
static struct scratch_limits scratch_needs(const struct sluice_engine *e, uint32_t context, uint32_t passes,
                                           uint32_t segments_max)
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
        .capacity_tokens = context,
        .pass_tokens = u32_divide_up(context, passes),
        .segments_max = segments_max,
        .quantise_trunk = q8 && trunk,
        .quantise_experts = q8 && experts,
        .inter_max = c->dense_intermediate > c->shared_intermediate ? c->dense_intermediate : c->shared_intermediate,
    };
}

static uint64_t state_bytes(const struct model_config *c)
{
    uint64_t state = (uint64_t)c->linear_value_heads * c->linear_key_dim * c->linear_value_dim;
    uint64_t conv = c->linear_count ? (uint64_t)model_conv_channels(c) * (c->conv_taps - 1) : 0;
    return 4 * c->linear_count * (state + conv);
}

// Fills all but the trunk. Errors: SLUICE_ERR_BUDGET (an array exceeds the device's largest binding).
static enum sluice_status measure_sizes(const struct sluice_engine *e, uint32_t context, struct sizes *s)
{
    enum sluice_status status;
    const struct model_config *c = &e->config;
    struct scratch scratch = {0};
    uint64_t cache;
    uint32_t segments_max;
    TRY(cache_bytes(e->device, c, (enum kv_type)e->options.kv, context, &cache, &segments_max));
    s->state = state_bytes(c);
    s->kv = cache - s->state;
    s->limits = scratch_needs(e, context, s->passes ? s->passes : 1, segments_max);
    TRY(scratch_create(e->device, c, &s->limits, false, &scratch, &s->activations));
    s->transfers = scratch.upload.bytes + scratch.readback.bytes;
    uint64_t rows = (uint64_t)scratch.block_count * scratch.block_tokens;
    s->lists = 4 * (rows * c->top_k + (uint64_t)scratch.block_count * (c->experts + 1));
fail:
    scratch_finish(&scratch);
    return status;
}

static uint64_t slots_least(const struct sluice_engine *e)
{
    return e->config.moe_count ? e->config.top_k * pager_slot_bytes(e->container) : 0;
}

static uint64_t device_fixed(const struct sizes *s, uint32_t sessions)
{
    return s->trunk + s->activations + sessions * (s->state + s->kv);
}

static uint64_t host_fixed(const struct sluice_engine *e, const struct sizes *s, const struct limits *l)
{
    uint64_t logits = 4ull * e->options.sessions * e->config.vocab_size;
    return s->transfers + s->lists + logits + l->resident_bytes + PROGRAM_GROWTH_BYTES;
}

// Main memory of one host slot: without import an upload buffer of the same size stands beside it.
static uint64_t host_slot_bytes(const struct sluice_engine *e)
{
    return pager_slot_bytes(e->container) * (gpu_device_caps(e->device)->can_import ? 1 : 2);
}

// --- what would fit -------------------------------------------------------------------------------------------------

// The largest capacity below the present one, in steps, with which the least number of slots fits; 0: none.
static uint32_t context_fitting(const struct sluice_engine *e, uint64_t trunk, uint64_t limit)
{
    uint32_t low = 0, high = (e->model.context_tokens - 1) / CONTEXT_STEP; // steps; low fits (or is none)
    while (low < high) {
        uint32_t middle = (low + high + 1) / 2;
        struct sizes s = {.trunk = trunk};
        bool fits = measure_sizes(e, middle * CONTEXT_STEP, &s) == SLUICE_OK &&
                    device_fixed(&s, e->options.sessions) + slots_least(e) <= limit;
        if (fits)
            low = middle;
        else
            high = middle - 1;
    }
    return low * CONTEXT_STEP;
}

static uint32_t sessions_fitting(const struct sluice_engine *e, const struct sizes *s, uint64_t limit)
{
    uint32_t sessions = e->options.sessions - 1;
    while (sessions > 0 && device_fixed(s, sessions) + slots_least(e) > limit)
        sessions--;
    return sessions;
}

// A size as options take it, rounded up: "6.2G", "12M".
static void format_option(uint64_t bytes, char *out, size_t out_bytes)
{
    const uint64_t mebibyte = 1 << 20, gibibyte = 1 << 30;
    if (bytes > UINT64_MAX / 16)
        snprintf(out, out_bytes, "%" PRIu64, bytes);
    else if (bytes < gibibyte)
        snprintf(out, out_bytes, "%" PRIu64 "M", u64_divide_up(bytes, mebibyte));
    else
        snprintf(out, out_bytes, "%.1fG", (double)u64_divide_up(bytes * 10, gibibyte) / 10);
}

static void add_choice(char *out, size_t out_bytes, const char *choice)
{
    size_t used = strlen(out);
    snprintf(out + used, out_bytes - used, "%s%s", used ? " or " : "try ", choice);
}

// "try --vram 6.2G or --ctx 32768": what is nearest to the options and possible. `sizes` NULL: no size is known because
// the context alone is impossible.
static void advise(const struct sluice_engine *e, const struct sizes *sizes, uint64_t trunk, uint64_t limit,
                   uint64_t most, char *out, size_t out_bytes)
{
    char choice[64] = "--vram ";
    uint64_t needed = sizes ? device_fixed(sizes, e->options.sessions) + slots_least(e) : UINT64_MAX;
    uint32_t context = context_fitting(e, trunk, limit), sessions = sizes ? sessions_fitting(e, sizes, limit) : 0;
    *out = '\0';
    if (needed <= most) {
        format_option(needed, choice + 7, sizeof choice - 7);
        add_choice(out, out_bytes, choice);
    }
    if (context > 0) {
        snprintf(choice, sizeof choice, "--ctx %u", context);
        add_choice(out, out_bytes, choice);
    }
    if (sessions > 0) {
        snprintf(choice, sizeof choice, "--sessions %u", sessions);
        add_choice(out, out_bytes, choice);
    }
    if (!*out)
        snprintf(out, out_bytes, "no --ctx makes it fit on this device");
}

// --- the device -----------------------------------------------------------------------------------------------------

static struct limits find_limits(const struct sluice_engine *e)
{
    const struct gpu_caps *caps = gpu_device_caps(e->device);
    uint64_t device = e->hooks.device_free_bytes ? e->hooks.device_free_bytes : caps->device_budget_bytes;
    uint64_t host = e->hooks.host_free_bytes ? e->hooks.host_free_bytes : memory_available("").bytes;
    return (struct limits){
        .free_bytes = device,
        .device_bytes = device - device / DEVICE_MARGIN_DIVISOR,
        .available_bytes = host,
        .host_bytes = host == UINT64_MAX ? host : host - host / HOST_MARGIN_DIVISOR,
        .resident_bytes = memory_resident_bytes(),
        .shared = e->hooks.own_memory ? false : caps->integrated,
    };
}

// One pool of experts or separate places.
static enum sluice_status choose_places(const struct sluice_engine *e, struct limits *l)
{
    const char *device = gpu_device_caps(e->device)->device_name;
    bool possible = pager_can_unify(e->device, e->container) && !e->pool_refused;
    l->unified = l->shared && possible && e->options.expert_pool != SLUICE_EXPERT_POOL_SEPARATE;
    if (l->unified || e->options.expert_pool != SLUICE_EXPERT_POOL_UNIFIED)
        return SLUICE_OK;
    if (!l->shared)
        return error_set(SLUICE_ERR_ARGUMENT, "--expert-pool unified: %s has memory of its own; choose auto", device);
    return error_set(SLUICE_ERR_UNSUPPORTED,
                     "--expert-pool unified: the driver of %s cannot let kernels use imported host memory; choose auto",
                     device);
}

// The device's budget; on a device that shares main memory, what the host's part leaves.
static uint64_t device_limit(const struct sluice_engine *e, const struct limits *l, uint64_t host_bytes)
{
    uint64_t budget, used;
    bool known = e->hooks.own_memory || gpu_device_budget(e->device, &budget, &used);
    // A budget beyond what a card has free would be spilt to main memory by its driver.
    if (e->options.vram_bytes)
        return known && !l->shared && l->free_bytes < e->options.vram_bytes ? l->free_bytes : e->options.vram_bytes;
    uint64_t left = l->host_bytes == UINT64_MAX
                        ? UINT64_MAX
                        : u64_subtract(l->host_bytes, u64_subtract(host_bytes, l->resident_bytes));
    return l->shared && left < l->device_bytes ? left : l->device_bytes;
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

// In one pool: what --ram adds to it at most. More than all experts take is of no use.
static uint64_t pooled_ram(const struct sluice_engine *e)
{
    uint64_t all = container_expert_count(e->container) * pager_slot_bytes(e->container);
    return e->options.ram_bytes < all ? e->options.ram_bytes : all;
}

// In one pool: the slots that --ram adds to those of --vram.
static void add_ram_slots(const struct sluice_engine *e, struct budget *vram, struct memory_plan *plan)
{
    uint64_t slots = e->options.ram_bytes / pager_slot_bytes(e->container);
    uint64_t missing = container_expert_count(e->container) - plan->pager.device_slots;
    plan->ram_slots = (uint32_t)(slots < missing ? slots : missing);
    plan->pager.device_slots += plan->ram_slots;
    vram->limit_bytes += e->options.ram_bytes < UINT64_MAX - vram->limit_bytes ? e->options.ram_bytes : 0;
}

static void report_items(const struct budget *b, struct sluice_plan_place *place)
{
    *place = (struct sluice_plan_place){.limit_bytes = b->limit_bytes, .used_bytes = budget_used_bytes(b)};
    for (uint32_t i = 0; i < b->item_count; i++) {
        CHECK(i < SLUICE_PLAN_ITEMS_MAX);
        place->items[place->item_count++] = (struct sluice_plan_item){b->items[i].name, b->items[i].bytes};
    }
}

static enum sluice_status plan_device(const struct sluice_engine *e, const struct limits *l, const struct sizes *s,
                                      uint64_t host_bytes, struct memory_plan *plan)
{
    enum sluice_status status;
    struct budget vram;
    char advice[192] = "";
    bool left_by_ram = l->unified && e->options.ram_bytes && !e->options.vram_bytes;
    size_t used = left_by_ram ? (size_t)snprintf(advice, sizeof advice, "choose a smaller --ram, or ") : 0;
    budget_init(&vram, "VRAM", left_by_ram ? "what --ram leaves" : "--vram", device_limit(e, l, host_bytes));
    budget_add(&vram, "trunk", s->trunk);
    if (s->state)
        budget_add(&vram, "DeltaNet state", s->state * e->options.sessions);
    if (s->kv)
        budget_add(&vram, "KV cache", s->kv * e->options.sessions);
    budget_add(&vram, "activations", s->activations);
    if (budget_left_bytes(&vram) < slots_least(e) || budget_used_bytes(&vram) > vram.limit_bytes)
        advise(e, s, s->trunk, vram.limit_bytes,
               l->shared && l->available_bytes != UINT64_MAX ? l->available_bytes : l->device_bytes, advice + used,
               sizeof advice - used);
    vram.remedy = advice[used] ? advice : NULL;
    TRY(budget_check(&vram));
    if (e->config.moe_count) {
        TRY(choose_slots(e, &vram, &plan->pager.device_slots));
        if (l->unified)
            add_ram_slots(e, &vram, plan);
        budget_add(&vram, l->unified ? "expert pool" : "device slots",
                   plan->pager.device_slots * pager_slot_bytes(e->container));
    }
    report_items(&vram, &plan->report.device);
fail:
    return status;
}

// --- main memory ----------------------------------------------------------------------------------------------------

// Slots in main memory, if they are separate: as --ram says; else all that fits on a card with memory of its own, and
// staging elsewhere.
static enum sluice_status choose_host_slots(const struct sluice_engine *e, const struct limits *l,
                                            const struct sizes *s, struct pager_options *pager)
{
    uint64_t slot_bytes = host_slot_bytes(e), total = container_expert_count(e->container);
    uint64_t slots = STAGING_SLOTS;
    if (e->options.ram_bytes)
        slots = e->options.ram_bytes / slot_bytes;
    else if (!l->shared && l->host_bytes != UINT64_MAX)
        slots = u64_subtract(l->host_bytes, u64_subtract(host_fixed(e, s, l), l->resident_bytes)) / slot_bytes;
    if (slots < HOST_SLOTS_MIN && e->options.ram_bytes) {
        char least[32];
        format_option(HOST_SLOTS_MIN * slot_bytes, least, sizeof least);
        return error_set(SLUICE_ERR_BUDGET,
                         "--ram: streaming needs at least %u expert slots of %" PRIu64 " bytes; try --ram %s",
                         HOST_SLOTS_MIN, slot_bytes, least);
    }
    if (slots < HOST_SLOTS_MIN)
        slots = HOST_SLOTS_MIN; // too little memory: refused below with all items
    pager->host_cache = e->options.ram_bytes != 0 || slots > STAGING_SLOTS;
    pager->host_slots = (uint32_t)(slots < total ? slots : total);
    return SLUICE_OK;
}

static void plan_host(const struct sluice_engine *e, const struct limits *l, const struct sizes *s,
                      const struct pager_options *pager, struct budget *ram)
{
    budget_init(ram, "RAM", NULL, l->host_bytes == UINT64_MAX ? UINT64_MAX : l->host_bytes + l->resident_bytes);
    if (pager->host_slots) {
        budget_add(ram, "host slots", pager->host_slots * pager_slot_bytes(e->container));
        if (!gpu_device_caps(e->device)->can_import)
            budget_add(ram, "upload of host slots", pager->host_slots * pager_slot_bytes(e->container));
    }
    budget_add(ram, "transfers", s->transfers);
    budget_add(ram, "lists and logits", s->lists + 4ull * e->options.sessions * e->config.vocab_size);
    budget_add(ram, "program and driver", l->resident_bytes + PROGRAM_GROWTH_BYTES);
}

// What is planned in main memory must be there: nobody shall be killed for lack of it, or swap.
static enum sluice_status check_host(const struct sluice_engine *e, const struct limits *l, const struct budget *ram,
                                     const struct memory_plan *plan)
{
    const struct sluice_plan_place *device = &plan->report.device;
    struct budget all = *ram;
    char advice[96] = "";
    if (l->available_bytes == UINT64_MAX)
        return SLUICE_OK;
    all.place = l->shared ? "main memory, which this device shares" : "main memory";
    all.limit_bytes = l->available_bytes + l->resident_bytes;
    if (l->shared)
        budget_add(&all, "VRAM", device->used_bytes);
    uint64_t used = budget_used_bytes(&all), over = used > all.limit_bytes ? used - all.limit_bytes : 0;
    uint64_t slot_bytes = pager_slot_bytes(e->container), slots = slot_bytes * e->config.top_k;
    // What --vram and --ram hold now, and at least.
    uint64_t pooled = plan->ram_slots * slot_bytes, in_vram = device->used_bytes - pooled, vram_least = 0, reduced = 0;
    uint64_t in_ram = l->unified ? pooled : plan->pager.host_slots * slot_bytes;
    uint64_t ram_least = l->unified ? 0 : HOST_SLOTS_MIN * host_slot_bytes(e);
    for (uint32_t i = 0; i + 1 < device->item_count; i++)
        vram_least += device->items[i].bytes;
    if (l->shared && vram_least + slots + over <= in_vram)
        reduced = (in_vram - over) >> 20 << 20;
    if (reduced) {
        snprintf(advice, sizeof advice, "try --vram %" PRIu64 "M", reduced >> 20);
    } else if (in_ram > over + ram_least) {
        snprintf(advice, sizeof advice, "try --ram %" PRIu64 "M", (in_ram - over) >> 20);
    } else {
        snprintf(advice, sizeof advice, "close other programs, or choose a smaller --ctx");
    }
    all.remedy = advice;
    return budget_check(&all);
}

// --- all ------------------------------------------------------------------------------------------------------------

static enum sluice_status plan_sizes(const struct sluice_engine *e, const struct limits *l, struct sizes *s)
{
    enum sluice_status status;
    TRY(weights_bytes(e->device, e->container, &e->config, &s->trunk));
    status = measure_sizes(e, e->model.context_tokens, s);
    if (status == SLUICE_ERR_BUDGET) {
        struct error_record reason;
        char advice[160];
        error_save(&reason, status);
        advise(e, NULL, s->trunk, device_limit(e, l, 0), 0, advice, sizeof advice);
        return error_set(status, "%s; %s", reason.message, advice);
    }
fail:
    return status;
}

static enum sluice_status plan_passes(const struct sluice_engine *e, uint32_t passes, struct memory_plan *plan)
{
    enum sluice_status status;
    struct limits limits = find_limits(e);
    struct sizes sizes = {.passes = passes};
    struct budget ram;
    memset(plan, 0, sizeof *plan);
    if (e->config.moe_count)
        TRY(choose_places(e, &limits));
    TRY(plan_sizes(e, &limits, &sizes));
    plan->limits = sizes.limits;
    if (e->config.moe_count) {
        plan->pager = (struct pager_options){
            .io = (enum reader_kind)e->options.io,
            .verify = (enum loader_verify)e->options.verify,
            .faults = e->hooks.faults,
        };
        if (!limits.unified)
            TRY(choose_host_slots(e, &limits, &sizes, &plan->pager));
    }
    plan_host(e, &limits, &sizes, &plan->pager, &ram);
    TRY(plan_device(e, &limits, &sizes, budget_used_bytes(&ram) + (limits.unified ? pooled_ram(e) : 0), plan));
    TRY(check_host(e, &limits, &ram, plan));
    report_items(&ram, &plan->report.host);
    plan->report.shared = limits.shared;
    plan->report.available_bytes = limits.available_bytes;
    plan->report.slots_device = plan->pager.device_slots;
    plan->report.slots_host = plan->pager.host_slots;
    plan->report.host_cache = plan->pager.host_cache;
    plan->report.unified = limits.unified;
    plan->report.experts_total = (uint32_t)container_expert_count(e->container);
    plan->report.expert_bytes = (uint32_t)pager_slot_bytes(e->container);
    plan->report.sessions = e->options.sessions;
    plan->report.layers_distinct = speed_trial_layers(&e->config);
    plan->report.model = e->model;
fail:
    return status;
}

// Each pass reads all experts again, so there are as few as the budgets allow. Parts of fewer tokens than
// PASS_TOKENS_MIN would save next to nothing.
enum sluice_status plan_memory(const struct sluice_engine *e, struct memory_plan *plan)
{
    uint32_t context = e->model.context_tokens, forced = e->hooks.passes;
    struct error_record first;
    enum sluice_status status = plan_passes(e, forced ? forced : 1, plan);
    if (status != SLUICE_ERR_BUDGET || forced)
        return status;
    error_save(&first, status); // its advice is for whole prompts
    for (uint32_t passes = 2; status == SLUICE_ERR_BUDGET && context / passes >= PASS_TOKENS_MIN; passes++)
        status = plan_passes(e, passes, plan);
    return status == SLUICE_ERR_BUDGET ? error_restore(&first) : status;
}
