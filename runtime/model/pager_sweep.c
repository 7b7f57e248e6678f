// The pager's sweeps: beginning, handing out, ending. What they read is pager_reads.c's.
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/model/config.h"
#include "runtime/model/pager_private.h"

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
            pager_reads_give_up(pager, sweep, expert, true);
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
    pager_reads_request(pager);
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
    pager_reads_request(pager);
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
        pager_reads_give_up(pager, sweep, sweep->order[i], read_ahead);
    while (sweep->reading > 0)
        (void)pager_reads_collect(pager, 1);
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
    return gpu_wait(pager->device, pager_reads_free_tick(pager, &pager->stalled->items[pager->stalled_expert]));
}

// For how many reads to wait: as many as are missing, if there is nothing to do when the first of them arrives.
static enum sluice_status wait_for_reads(struct pager *pager, const struct wave_demand *demand, uint32_t ready)
{
    const struct sweep *sweep = sweep_now(pager);
    bool all_requested = sweep->requested == sweep->count && !pager->stalled && !sweep_ahead(pager)->open;
    uint32_t most = sweep->reading < READ_DEPTH ? sweep->reading : READ_DEPTH, missing = demand->want - ready;
    if (demand->steady || !all_requested)
        return pager_reads_collect(pager, 1);
    return pager_reads_collect(pager, missing < most ? missing : most);
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
        .slot_is_last = stalled && pager_reads_free_tick(pager, stalled) >= last,
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
        TRY(pager_reads_collect(pager, 0));
        pager_reads_request(pager);
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
