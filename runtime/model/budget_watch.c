// The driver's memory budget while running: other programs come and go, and what exceeds the budget is moved to main
// memory by the driver, which costs far more than the experts that would have stayed. So expert slots are given back
// first, in whole buffers. They are not taken again later: that would need memory in mid-work.
#include <inttypes.h>

#include "runtime/base/clock.h"
#include "runtime/base/integer.h"
#include "runtime/base/log.h"
#include "runtime/model/engine_internal.h"

enum { INTERVAL_NS = 1000000000 };

// Asking costs 20 to 100 us, because drivers ask the system: not in each of several tokens a second.
static bool read_budget(struct sluice_engine *e, uint64_t *budget_bytes, uint64_t *used_bytes)
{
    if (e->hooks.device_budget)
        return e->hooks.device_budget(e->hooks.user, budget_bytes, used_bytes);
    uint64_t now_ns = clock_ns();
    if (now_ns - e->budget_read_ns < INTERVAL_NS)
        return false;
    e->budget_read_ns = now_ns;
    return gpu_device_budget(e->device, budget_bytes, used_bytes);
}

// Nothing of the pass is in flight or unsubmitted any more, and no expert is in use.
static enum sluice_status come_to_rest(struct pass *pass)
{
    enum sluice_status status;
    pager_read_ahead_end(pass->engine->pager);
    TRY(pass_submit(pass, NULL, NULL));
    TRY(gpu_wait(pass->engine->device, gpu_tick_last(pass->engine->device)));
fail:
    return status;
}

enum sluice_status budget_watch(struct pass *pass)
{
    enum sluice_status status = SLUICE_OK;
    struct sluice_engine *e = pass->engine;
    uint64_t budget, used, slot_bytes = pager_slot_bytes(e->container);
    if (!e->pager || !read_budget(e, &budget, &used) || used <= budget)
        return SLUICE_OK;
    uint64_t give = u64_divide_up(used - budget, slot_bytes);
    uint32_t slots = pager_device_slots(e->pager), wanted = give < slots ? slots - (uint32_t)give : 0;
    uint32_t left = pager_shrink_to(e->pager, e->config.top_k, wanted);
    if (left == slots)
        return SLUICE_OK;
    TRY(come_to_rest(pass));
    pager_shrink(e->pager, left);
    log_message(LOG_WARNING,
                "%s: the driver's budget is exceeded by %" PRIu64 " MiB: %" PRIu32 " of %" PRIu32
                " expert slots are given back, which costs speed",
                sluice_device_name(e), (used - budget) >> 20, slots - left, slots);
fail:
    return status;
}
