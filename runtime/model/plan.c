#include "runtime/model/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "offload/budget.h"
#include "runtime/base/check.h"
#include "runtime/base/integer.h"
#include "runtime/base/memory_available.h"
#include "runtime/model/plan_advice.h"
#include "runtime/model/plan_sizes.h"
#include "runtime/model/speed_trial.h"

enum { STAGING_SLOTS = RESIDENCY_LOADS_MAX, HOST_SLOTS_MIN = 2, PASS_TOKENS_MIN = 4096 };

// What is reported as free is not all ours: other programs and the driver's own needs change while we run.
enum { DEVICE_MARGIN_DIVISOR = 16, HOST_MARGIN_DIVISOR = 8 };

// What the process grows by beside what is planned: compiled kernels, command buffers, the heap's slack.
static const uint64_t PROGRAM_GROWTH_BYTES = (uint64_t)32 << 20;

// What may be used.
struct limits {
    uint64_t free_bytes, device_bytes; // of the device; the second less the margin
    uint64_t available_bytes;          // of main memory; UINT64_MAX: unknown
    uint64_t host_bytes;               // the same less the margin
    uint64_t resident_bytes;           // what the process takes already
    bool shared;                       // device memory is main memory
    bool unified;                      // experts have one pool
};

// What is to be in main memory beside the device's part.
struct host_share {
    uint64_t bytes;     // all of it
    uint64_t ram_bytes; // of it by --ram
    uint64_t ram_least; // what --ram must at least be
};

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

// What the host's part leaves of main memory.
static uint64_t memory_left(const struct limits *l, uint64_t host_bytes)
{
    return l->host_bytes == UINT64_MAX ? UINT64_MAX
                                       : u64_subtract(l->host_bytes, u64_subtract(host_bytes, l->resident_bytes));
}

// The device's budget; on a device that shares main memory, what the host's part leaves.
static uint64_t device_limit(const struct sluice_engine *e, const struct limits *l, uint64_t host_bytes)
{
    uint64_t budget, used;
    bool known = e->hooks.own_memory || gpu_device_budget(e->device, &budget, &used);
    // A budget beyond what a card has free would be spilt to main memory by its driver.
    if (e->options.vram_bytes)
        return known && !l->shared && l->free_bytes < e->options.vram_bytes ? l->free_bytes : e->options.vram_bytes;
    uint64_t left = memory_left(l, host_bytes);
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

// --ram has no room for as many expert slots as make sense.
static enum sluice_status refuse_ram(const struct sluice_engine *e, const char *why, uint64_t least_bytes)
{
    char given[SIZE_TEXT_BYTES], slot[SIZE_TEXT_BYTES], least[32];
    plan_format_option(least_bytes, least, sizeof least);
    return error_set(SLUICE_ERR_BUDGET, "--ram: %s %s, and an expert takes %s; try --ram %s",
                     size_format(e->options.ram_bytes, given), why, size_format(pager_slot_bytes(e->container), slot),
                     least);
}

// In one pool: the slots that --ram adds to those of --vram.
static enum sluice_status add_ram_slots(const struct sluice_engine *e, struct budget *vram, struct memory_plan *plan)
{
    uint64_t slots = e->options.ram_bytes / pager_slot_bytes(e->container);
    if (e->options.ram_bytes && slots == 0)
        return refuse_ram(e, "add no expert to the pool", pager_slot_bytes(e->container));
    uint64_t missing = container_expert_count(e->container) - plan->pager.device_slots;
    plan->ram_slots = (uint32_t)(slots < missing ? slots : missing);
    plan->pager.device_slots += plan->ram_slots;
    vram->limit_bytes += e->options.ram_bytes < UINT64_MAX - vram->limit_bytes ? e->options.ram_bytes : 0;
    return SLUICE_OK;
}

// Whose doing the device's limit is.
static const char *limit_name(const struct sluice_engine *e, const struct limits *l, const struct host_share *host)
{
    uint64_t limit = device_limit(e, l, host->bytes);
    if (e->options.vram_bytes && limit == e->options.vram_bytes)
        return "--vram";
    if (limit < device_limit(e, l, host->bytes - host->ram_bytes))
        return "what --ram leaves";
    return l->shared && limit < l->device_bytes ? "what is free of main memory" : "what the device has free";
}

// What to do if the least does not fit; else `out` is empty.
static void advise_device(const struct sluice_engine *e, const struct limits *l, const struct plan_sizes *s,
                          const struct host_share *host, char *out, size_t out_bytes)
{
    uint64_t others = host->bytes - host->ram_bytes;
    uint64_t limit = device_limit(e, l, host->bytes), without_ram = device_limit(e, l, others);
    uint64_t needed = plan_sizes_device(s, e->options.sessions) + plan_slots_least(e);
    bool ram_is_to_blame = limit < without_ram;
    *out = '\0';
    if (needed <= limit)
        return;
    if (!ram_is_to_blame || needed > without_ram) {
        uint64_t beside = u64_subtract(ram_is_to_blame ? others : host->bytes, l->resident_bytes),
                 most = l->device_bytes;
        if (l->shared && l->available_bytes != UINT64_MAX)
            most = u64_subtract(l->available_bytes, beside);
        plan_advise(e, s, s->trunk, without_ram, most, out, out_bytes);
        snprintf(out + strlen(out), out_bytes - strlen(out), "%s", ram_is_to_blame ? " without --ram" : "");
        return;
    }
    uint64_t fitting = memory_left(l, others) - needed;
    fitting -= fitting / 64; // what is free changes
    if (fitting >= host->ram_least && fitting >> 20)
        snprintf(out, out_bytes, "try --ram %" PRIu64 "M", fitting >> 20);
    else
        snprintf(out, out_bytes, "leave out --ram");
}

static void report_items(const struct budget *b, struct sluice_plan_place *place)
{
    *place = (struct sluice_plan_place){.limit_bytes = b->limit_bytes, .used_bytes = budget_used_bytes(b)};
    for (uint32_t i = 0; i < b->item_count; i++) {
        CHECK(i < SLUICE_PLAN_ITEMS_MAX);
        place->items[place->item_count++] = (struct sluice_plan_item){b->items[i].name, b->items[i].bytes};
    }
}

static enum sluice_status plan_device(const struct sluice_engine *e, const struct limits *l, const struct plan_sizes *s,
                                      const struct host_share *host, struct memory_plan *plan)
{
    enum sluice_status status;
    struct budget vram;
    char advice[192];
    budget_init(&vram, "VRAM", limit_name(e, l, host), device_limit(e, l, host->bytes));
    budget_add(&vram, "trunk", s->trunk);
    if (s->state)
        budget_add(&vram, "DeltaNet state", s->state * e->options.sessions);
    if (s->kv)
        budget_add(&vram, "KV cache", s->kv * e->options.sessions);
    budget_add(&vram, "activations", s->activations);
    advise_device(e, l, s, host, advice, sizeof advice);
    vram.remedy = *advice ? advice : NULL;
    TRY(budget_check(&vram));
    if (e->config.moe_count) {
        TRY(choose_slots(e, &vram, &plan->pager.device_slots));
        if (l->unified)
            TRY(add_ram_slots(e, &vram, plan));
        budget_add(&vram, l->unified ? "expert pool" : "device slots",
                   plan->pager.device_slots * pager_slot_bytes(e->container));
    }
    report_items(&vram, &plan->report.device);
fail:
    return status;
}

// --- main memory ----------------------------------------------------------------------------------------------------

static uint64_t host_fixed(const struct sluice_engine *e, const struct plan_sizes *s, const struct limits *l)
{
    uint64_t logits = 4ull * e->options.sessions * e->config.vocab_size;
    return s->transfers + s->lists + logits + l->resident_bytes + PROGRAM_GROWTH_BYTES;
}

// Main memory of one host slot: without import an upload buffer of the same size stands beside it.
static uint64_t host_slot_bytes(const struct sluice_engine *e)
{
    return pager_slot_bytes(e->container) * (gpu_device_caps(e->device)->can_import ? 1 : 2);
}

// Slots in main memory, if they are separate: as --ram says; else all that fits on a card with memory of its own, and
// staging elsewhere.
static enum sluice_status choose_host_slots(const struct sluice_engine *e, const struct limits *l,
                                            const struct plan_sizes *s, struct pager_options *pager)
{
    uint64_t slot_bytes = host_slot_bytes(e), total = container_expert_count(e->container);
    uint64_t slots = STAGING_SLOTS;
    if (e->options.ram_bytes)
        slots = e->options.ram_bytes / slot_bytes;
    else if (!l->shared && l->host_bytes != UINT64_MAX)
        slots = u64_subtract(l->host_bytes, u64_subtract(host_fixed(e, s, l), l->resident_bytes)) / slot_bytes;
    if (slots < HOST_SLOTS_MIN && e->options.ram_bytes)
        return refuse_ram(e, "are too little to stream through", HOST_SLOTS_MIN * slot_bytes);
    if (slots < HOST_SLOTS_MIN)
        slots = HOST_SLOTS_MIN; // too little memory: refused below with all items
    pager->host_cache = e->options.ram_bytes != 0 || slots > STAGING_SLOTS;
    pager->host_slots = (uint32_t)(slots < total ? slots : total);
    return SLUICE_OK;
}

static void plan_host(const struct sluice_engine *e, const struct limits *l, const struct plan_sizes *s,
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

static struct host_share share_host(const struct sluice_engine *e, const struct limits *l, uint64_t planned_bytes,
                                    const struct pager_options *pager)
{
    if (l->unified) // what --ram adds to the pool is the device's, but main memory all the same
        return (struct host_share){planned_bytes + pooled_ram(e), pooled_ram(e), pager_slot_bytes(e->container)};
    uint64_t slot_bytes = e->config.moe_count ? host_slot_bytes(e) : 0;
    return (struct host_share){planned_bytes, e->options.ram_bytes ? pager->host_slots * slot_bytes : 0,
                               HOST_SLOTS_MIN * slot_bytes};
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

static enum sluice_status find_sizes(const struct sluice_engine *e, const struct limits *l, struct plan_sizes *s)
{
    enum sluice_status status;
    TRY(weights_bytes(e->device, e->container, &e->config, &s->trunk));
    status = plan_sizes_measure(e, e->model.context_tokens, s);
    if (status == SLUICE_ERR_BUDGET) {
        struct error_record reason;
        char advice[160];
        error_save(&reason, status);
        plan_advise(e, NULL, s->trunk, device_limit(e, l, 0), 0, advice, sizeof advice);
        return error_set(status, "%s; %s", reason.message, advice);
    }
fail:
    return status;
}

static void report_totals(const struct sluice_engine *e, const struct limits *l, struct memory_plan *plan)
{
    plan->report.shared = l->shared;
    plan->report.available_bytes = l->available_bytes;
    plan->report.slots_device = plan->pager.device_slots;
    plan->report.slots_host = plan->pager.host_slots;
    plan->report.host_cache = plan->pager.host_cache;
    plan->report.unified = l->unified;
    plan->report.experts_total = (uint32_t)container_expert_count(e->container);
    plan->report.expert_bytes = (uint32_t)pager_slot_bytes(e->container);
    plan->report.sessions = e->options.sessions;
    plan->report.layers_distinct = speed_trial_layers(&e->config);
    plan->report.model = e->model;
}

static enum sluice_status plan_passes(const struct sluice_engine *e, uint32_t passes, struct memory_plan *plan)
{
    enum sluice_status status;
    struct limits limits = find_limits(e);
    struct plan_sizes sizes = {.passes = passes};
    struct budget ram;
    memset(plan, 0, sizeof *plan);
    if (e->config.moe_count)
        TRY(choose_places(e, &limits));
    TRY(find_sizes(e, &limits, &sizes));
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
    struct host_share host = share_host(e, &limits, budget_used_bytes(&ram), &plan->pager);
    TRY(plan_device(e, &limits, &sizes, &host, plan));
    TRY(check_host(e, &limits, &ram, plan));
    report_items(&ram, &plan->report.host);
    report_totals(e, &limits, plan);
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
