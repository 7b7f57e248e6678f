// The pager's sweeps: acquiring slots, reading, handing out.
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/model/config.h"
#include "runtime/model/pager_private.h"

static struct sweep *sweep_now(struct pager *pager)
{
    return &pager->sweeps[pager->now];
}

static struct sweep *sweep_ahead(struct pager *pager)
{
    return &pager->sweeps[1 - pager->now];
}

static uint32_t expert_key(const struct sweep *sweep, uint32_t expert)
{
    return (uint32_t)sweep->shape->expert_first + expert;
}

// --- requests -------------------------------------------------------------------------------------------------------

static void start_read(struct pager *pager, struct sweep *sweep, uint32_t expert)
{
    struct item *item = &sweep->items[expert];
    struct loader_request request = {
        .layer = sweep->layer,
        .expert = expert,
        .destination =
            pager->memory + (pager->unified ? item->ticket.device_slot : item->ticket.host_slot) * pager->slot_bytes,
        .tag = (uint64_t)(sweep - pager->sweeps) << 32 | expert,
    };
    if (!pager->unified)
        pager->is_staged[item->ticket.host_slot] = false;
    pager->batch[pager->batch_count++] = request;
    item->state = ITEM_READING;
}

// When a read may overwrite what is in its slot: once the copy out of the host slot has run, or the last kernel that
// reads the pool's slot.
static uint64_t free_tick(const struct pager *pager, const struct item *item)
{
    return pager->unified ? item->ticket.device_reader_tick : item->ticket.host_copy_tick;
}

static bool slot_is_free(struct pager *pager, const struct item *item)
{
    return free_tick(pager, item) <= gpu_tick_done(pager->device);
}

// Acquires one expert. False if it has to wait.
static bool request(struct pager *pager, struct sweep *sweep, uint32_t expert)
{
    struct item *item = &sweep->items[expert];
    if (item->state != ITEM_NONE)
        return true; // read ahead
    if (loader_space(pager->loader) == pager->batch_count)
        return false;
    switch (residency_acquire(pager->residency, expert_key(sweep, expert), sweep->mode, &item->ticket)) {
    case RESIDENCY_DEVICE:
        item->state = ITEM_RESIDENT;
        return true;
    case RESIDENCY_HOST:
        item->state = ITEM_LOADED;
        item->from_drive = false;
        return true;
    case RESIDENCY_MISS:
        item->from_drive = true;
        sweep->reading++;
        if (slot_is_free(pager, item)) {
            start_read(pager, sweep, expert);
            return true;
        }
        item->state = ITEM_STALLED;
        pager->stalled = sweep;
        pager->stalled_expert = expert;
        return true;
    case RESIDENCY_NO_SLOT:
        return false;
    case RESIDENCY_PENDING: // a list holds every expert once, and nothing is in flight outside of the sweeps
    case RESIDENCY_FAILED:
        break;
    }
    check_failed("no expert is in flight outside its sweep", __FILE__, __LINE__);
}

static void resume_stalled(struct pager *pager)
{
    if (!pager->stalled || !slot_is_free(pager, &pager->stalled->items[pager->stalled_expert]))
        return;
    start_read(pager, pager->stalled, pager->stalled_expert);
    pager->stalled = NULL;
}

static bool request_list(struct pager *pager, struct sweep *sweep)
{
    for (; sweep->requested < sweep->count; sweep->requested++)
        if (pager->stalled || !request(pager, sweep, sweep->order[sweep->requested]))
            return false;
    return true;
}

// Acquires further experts, as far as slots and the loader allow: of the sweep under way, then of the one read ahead.
// Their reads begin together. Those of a decode are few, and waited for at once: no thread has to be woken for them.
static void request_more(struct pager *pager)
{
    resume_stalled(pager);
    if (request_list(pager, sweep_now(pager)) && sweep_ahead(pager)->open)
        request_list(pager, sweep_ahead(pager));
    if (pager->batch_count)
        loader_submit(pager->loader, pager->batch, pager->batch_count,
                      sweep_now(pager)->mode == RESIDENCY_NORMAL ? LOADER_BY_CALLER : LOADER_BY_THREAD);
    pager->batch_count = 0;
}

// --- arrivals -------------------------------------------------------------------------------------------------------

// Gives up an expert that is not needed, in whatever state it is.
static void give_up(struct pager *pager, struct sweep *sweep, uint32_t expert, bool read_ahead)
{
    struct item *item = &sweep->items[expert];
    uint32_t key = expert_key(sweep, expert);
    switch (item->state) {
    case ITEM_STALLED:
        pager->stalled = NULL;
        sweep->reading--;
        residency_read_done(pager->residency, key, false);
        residency_release(pager->residency, key, 0);
        break;
    case ITEM_READING:
        pager->wasted += read_ahead;
        item->state = ITEM_UNWANTED;
        return;
    case ITEM_LOADED:
        pager->wasted += read_ahead && item->from_drive;
        residency_release(pager->residency, key, 0);
        break;
    case ITEM_RESIDENT: // nothing of this sweep has read it
        residency_release(pager->residency, key, 0);
        break;
    case ITEM_HANDED_OUT:
        residency_release(pager->residency, key, gpu_tick_last(pager->device) + 1);
        break;
    case ITEM_NONE:
    case ITEM_DONE:
    case ITEM_UNWANTED:
    case ITEM_FAILED:
        return;
    }
    item->state = ITEM_NONE;
}

static enum sluice_status finish_read(struct pager *pager, const struct loader_completion *completion)
{
    struct sweep *sweep = &pager->sweeps[completion->tag >> 32];
    uint32_t expert = (uint32_t)completion->tag, key = expert_key(sweep, expert);
    struct item *item = &sweep->items[expert];
    bool wanted = item->state == ITEM_READING, ok = !completion->failure;
    CHECK(wanted || item->state == ITEM_UNWANTED);
    sweep->reading--;
    residency_read_done(pager->residency, key, ok);
    if (!ok || !wanted)
        residency_release(pager->residency, key, 0);
    item->state = !wanted ? ITEM_NONE : ok ? ITEM_LOADED : ITEM_FAILED;
    if (ok || !wanted)
        return SLUICE_OK;
    if (sweep == sweep_now(pager))
        return error_restore(completion->failure);
    item->state = ITEM_NONE; // read ahead: asked for again when it is needed, and then the failure counts
    sweep->requested = sweep->count;
    return SLUICE_OK;
}

// Takes finished reads, waiting for at least `min` of them. The first failure is returned, after all were taken.
static enum sluice_status collect_reads(struct pager *pager, uint32_t min)
{
    struct loader_completion completions[READ_DEPTH];
    uint32_t count = loader_collect(pager->loader, min, READ_DEPTH, completions);
    struct error_record first = {0};
    for (uint32_t i = 0; i < count; i++) {
        enum sluice_status status = finish_read(pager, &completions[i]);
        if (status < 0 && first.status == SLUICE_OK)
            error_save(&first, status);
    }
    return first.status < 0 ? error_restore(&first) : SLUICE_OK;
}

// --- begin and end --------------------------------------------------------------------------------------------------

static void sweep_open(struct pager *pager, struct sweep *sweep, uint32_t layer)
{
    sweep->open = true;
    sweep->layer = layer;
    sweep->shape = container_expert_layer(pager->container, layer);
    CHECK(sweep->shape);
    sweep->requested = sweep->first_left = sweep->left = sweep->count = sweep->reading = 0;
}

// Gives up what was read ahead and is not on the list.
static void keep_wanted(struct pager *pager, struct sweep *sweep, const uint32_t *experts, uint32_t count)
{
    bool wanted[MODEL_EXPERTS_MAX] = {0};
    CHECK(sweep->shape->expert_count <= MODEL_EXPERTS_MAX);
    for (uint32_t i = 0; i < count; i++)
        wanted[experts[i]] = true;
    for (uint32_t expert = 0; expert < sweep->shape->expert_count; expert++)
        if (!wanted[expert])
            give_up(pager, sweep, expert, true);
}

enum sluice_status pager_sweep_begin(struct pager *pager, uint32_t layer, const uint32_t *experts, uint32_t count,
                                     bool in_order, enum residency_mode mode)
{
    CHECK(!sweep_now(pager)->open);
    if (sweep_ahead(pager)->open) {
        pager->now = 1 - pager->now;
        CHECK(sweep_now(pager)->layer == layer && sweep_now(pager)->mode == mode);
        keep_wanted(pager, sweep_now(pager), experts, count);
    } else {
        sweep_open(pager, sweep_now(pager), layer);
    }
    struct sweep *sweep = sweep_now(pager);
    CHECK(count <= sweep->shape->expert_count);
    memcpy(sweep->order, experts, count * sizeof *experts);
    sweep->in_order = in_order;
    sweep->mode = mode;
    sweep->count = sweep->left = count;
    sweep->requested = sweep->first_left = 0;
    for (uint32_t i = 0; i < count && mode == RESIDENCY_NORMAL; i++) // none is evicted for another of the same list
        residency_touch(pager->residency, expert_key(sweep, experts[i]));
    request_more(pager);
    return SLUICE_OK;
}

void pager_read_ahead(struct pager *pager, uint32_t layer)
{
    struct sweep *sweep = sweep_ahead(pager);
    CHECK(sweep_now(pager)->open && !sweep->open);
    sweep_open(pager, sweep, layer);
    sweep->mode = sweep_now(pager)->mode;
    sweep->count = sweep->shape->expert_count;
    for (uint32_t i = 0; i < sweep->count; i++)
        sweep->order[i] = i;
    request_more(pager);
}

// Ends a sweep in whatever state it is. What is not on its list is in no state already, but for reads in vain that are
// under way; so a decode, which uses 10 of 512, need not look at the rest.
static void close_sweep(struct pager *pager, struct sweep *sweep, bool read_ahead)
{
    if (!sweep->open)
        return;
    struct error_record failure; // the caller's message survives the cleaning up
    error_save(&failure, SLUICE_OK);
    for (uint32_t i = 0; i < sweep->count; i++)
        give_up(pager, sweep, sweep->order[i], read_ahead);
    while (sweep->reading > 0)
        (void)collect_reads(pager, 1);
    for (uint32_t i = 0; i < sweep->count; i++)
        sweep->items[sweep->order[i]].state = ITEM_NONE;
    sweep->open = false;
    sweep->count = sweep->requested = sweep->left = sweep->first_left = 0;
    (void)error_restore(&failure);
}

void pager_read_ahead_end(struct pager *pager)
{
    close_sweep(pager, sweep_ahead(pager), true);
}

void pager_sweep_end(struct pager *pager)
{
    close_sweep(pager, sweep_now(pager), false);
}

// --- handing out ----------------------------------------------------------------------------------------------------

static bool is_ready(const struct item *item)
{
    return item->state == ITEM_LOADED || item->state == ITEM_RESIDENT;
}

// How many could be handed out now, `max` or more being as good as max.
static uint32_t count_ready(const struct sweep *sweep, uint32_t max)
{
    uint32_t count = 0;
    for (uint32_t i = sweep->first_left; i < sweep->requested && count < max; i++) {
        const struct item *item = &sweep->items[sweep->order[i]];
        if (is_ready(item))
            count++;
        else if (sweep->in_order && item->state != ITEM_HANDED_OUT && item->state != ITEM_DONE)
            break;
    }
    return count;
}

static uint32_t hand_out(struct pager *pager, struct gpu_command *cmd, struct pager_place *places, uint32_t max)
{
    struct sweep *sweep = sweep_now(pager);
    uint32_t count = 0;
    for (uint32_t i = sweep->first_left; i < sweep->requested && count < max; i++) {
        uint32_t expert = sweep->order[i];
        struct item *item = &sweep->items[expert];
        if (is_ready(item)) {
            if (item->state == ITEM_LOADED && !pager->unified)
                pager_record_copy(pager, cmd, expert_key(sweep, expert), item);
            item->state = ITEM_HANDED_OUT;
            uint32_t slot = item->ticket.device_slot;
            places[count++] = (struct pager_place){i, slot / pager->slots_per_slab, slot % pager->slots_per_slab};
            sweep->left--;
        } else if (sweep->in_order && item->state != ITEM_HANDED_OUT && item->state != ITEM_DONE) {
            break;
        }
    }
    pager->unsubmitted |= count > 0;
    while (sweep->first_left < sweep->requested &&
           sweep->items[sweep->order[sweep->first_left]].state >= ITEM_HANDED_OUT)
        sweep->first_left++;
    return count;
}

// For the slot that the next read needs.
static enum sluice_status wait_for_slot(struct pager *pager)
{
    CHECK(pager->stalled); // everything handed out has been submitted: otherwise a slot would be free
    return gpu_wait(pager->device, free_tick(pager, &pager->stalled->items[pager->stalled_expert]));
}

// For how many reads to wait: as many as are missing, if there is nothing to do when the first of them arrives.
static enum sluice_status wait_for_reads(struct pager *pager, const struct wave_demand *demand, uint32_t ready)
{
    const struct sweep *sweep = sweep_now(pager);
    bool all_requested = sweep->requested == sweep->count && !pager->stalled && !sweep_ahead(pager)->open;
    uint32_t most = sweep->reading < READ_DEPTH ? sweep->reading : READ_DEPTH, missing = demand->want - ready;
    if (demand->steady || !all_requested)
        return collect_reads(pager, 1);
    return collect_reads(pager, missing < most ? missing : most);
}

static struct wave_view look(struct pager *pager, const struct wave_demand *demand)
{
    const struct sweep *sweep = sweep_now(pager);
    uint64_t last = gpu_tick_last(pager->device);
    const struct item *stalled = pager->stalled ? &pager->stalled->items[pager->stalled_expert] : NULL;
    return (struct wave_view){
        .ready = count_ready(sweep, demand->max),
        .left = sweep->left,
        .queued = demand->steady ? (uint32_t)(last - gpu_tick_done(pager->device)) : 0,
        .arriving = sweep->reading > (pager->stalled == sweep),
        .slot_awaited = stalled,
        .slot_is_last = stalled && free_tick(pager, stalled) >= last,
        .unsubmitted = pager->unsubmitted,
    };
}

// The demand as far as there are slots for it in the command.
static struct wave_demand limit_demand(const struct pager *pager, const struct wave_demand *demand)
{
    uint32_t room = pager->options.device_slots - pager->unsubmitted_count;
    struct wave_demand limited = *demand;
    limited.max = demand->max < room ? demand->max : room;
    limited.want = demand->want < limited.max ? demand->want : limited.max;
    return limited;
}

enum sluice_status pager_sweep_next(struct pager *pager, struct gpu_command *cmd, const struct wave_demand *demand,
                                    struct pager_place *places, uint32_t *count)
{
    enum sluice_status status;
    struct sweep *sweep = sweep_now(pager);
    struct wave_demand limited = limit_demand(pager, demand);
    CHECK(sweep->open);
    *count = 0;
    while (sweep->left > 0 && limited.max > 0) {
        TRY(collect_reads(pager, 0));
        request_more(pager);
        struct wave_view view = look(pager, &limited);
        switch (wave_next(&limited, &view)) {
        case WAVE_HAND_OUT:
            *count = hand_out(pager, cmd, places, limited.max);
            return SLUICE_OK;
        case WAVE_AWAIT_READ:
            TRY(wait_for_reads(pager, &limited, view.ready));
            break;
        case WAVE_AWAIT_SLOT:
            TRY(wait_for_slot(pager));
            break;
        case WAVE_SUBMIT:
            return SLUICE_OK;
        }
    }
    return SLUICE_OK;
fail:
    return status;
}

void pager_sweep_recorded(struct pager *pager)
{
    struct sweep *sweep = sweep_now(pager);
    for (uint32_t i = 0; i < sweep->requested; i++) {
        struct item *item = &sweep->items[sweep->order[i]];
        if (item->state != ITEM_HANDED_OUT)
            continue;
        residency_release(pager->residency, expert_key(sweep, sweep->order[i]), gpu_tick_last(pager->device) + 1);
        item->state = ITEM_DONE;
        pager->unsubmitted = true; // also if what handed it out was submitted meanwhile
    }
}

void pager_submitted(struct pager *pager)
{
    pager->unsubmitted = false;
    pager->unsubmitted_count = pager->demoted_count = 0;
}

void pager_cancelled(struct pager *pager)
{
    for (uint32_t i = 0; i < pager->unsubmitted_count; i++)
        residency_copy_lost(pager->residency, pager->unsubmitted_keys[i]);
    for (uint32_t i = 0; i < pager->demoted_count; i++)
        residency_demotion_lost(pager->residency, pager->demoted_keys[i]);
    residency_readers_lost(pager->residency, gpu_tick_last(pager->device));
    pager_submitted(pager);
}

uint32_t pager_sweep_left(const struct pager *pager)
{
    return pager->sweeps[pager->now].left;
}

uint32_t pager_sweep_reading(const struct pager *pager)
{
    return pager->sweeps[pager->now].reading;
}

void pager_keep(struct pager *pager, uint32_t expert, bool on_device)
{
    uint32_t key = expert_key(sweep_now(pager), expert);
    if (on_device)
        residency_touch(pager->residency, key);
    else
        residency_keep_host(pager->residency, key);
}

void pager_settle(struct pager *pager)
{
    residency_settle(pager->residency);
}
