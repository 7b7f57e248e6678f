// The reads of the pager's sweeps: acquiring slots for them, starting them, taking what has arrived.
#include "runtime/base/check.h"
#include "runtime/model/pager_private.h"

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

uint64_t pager_reads_free_tick(const struct pager *pager, const struct item *item)
{
    return pager->unified ? item->ticket.device_reader_tick : item->ticket.host_copy_tick;
}

static bool slot_is_free(struct pager *pager, const struct item *item)
{
    return pager_reads_free_tick(pager, item) <= gpu_tick_done(pager->device);
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

// The reads of a decode are few, and waited for at once: no thread has to be woken for them.
void pager_reads_request(struct pager *pager)
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

void pager_reads_give_up(struct pager *pager, struct sweep *sweep, uint32_t expert, bool read_ahead)
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

enum sluice_status pager_reads_collect(struct pager *pager, uint32_t min)
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
