#include "runtime/model/wave.h"

#include "runtime/base/check.h"
#include "runtime/base/integer.h"

enum { PROMPT_WAVE_EXPERTS = 16 }; // a few milliseconds for a graphics card to submit behind, and a fraction of a layer

struct wave_demand wave_of_prompt(uint32_t max)
{
    return (struct wave_demand){.want = u32_min(PROMPT_WAVE_EXPERTS, max), .max = max, .steady = true};
}

struct wave_demand wave_of_decode(uint32_t max, uint32_t left, uint32_t at_hand, bool split)
{
    CHECK(left > 0 && at_hand <= left);
    uint32_t want = split && at_hand > 0 ? at_hand : left;
    return (struct wave_demand){.want = u32_min(want, max), .max = max};
}

static bool is_enough(const struct wave_demand *demand, const struct wave_view *view)
{
    if (view->ready == view->left || view->ready >= demand->max)
        return true;
    if (!demand->steady)
        return view->ready >= demand->want;
    return view->ready >= (view->queued > 1 ? demand->max : view->queued > 0 ? demand->want : 1);
}

enum wave_turn wave_next(const struct wave_demand *demand, const struct wave_view *view)
{
    CHECK(demand->want > 0 && demand->want <= demand->max && view->left > 0);
    if (is_enough(demand, view))
        return WAVE_HAND_OUT;
    if (view->arriving)
        return WAVE_AWAIT_READ;
    bool busy_meanwhile = view->slot_awaited && !view->slot_is_last; // the device, when the slot becomes free
    if (view->ready > 0 && !(demand->steady && busy_meanwhile))
        return WAVE_HAND_OUT;
    return view->ready == 0 && view->unsubmitted ? WAVE_SUBMIT : WAVE_AWAIT_SLOT;
}
