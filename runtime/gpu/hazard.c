#include "runtime/gpu/hazard.h"

#include "runtime/base/check.h"

static bool conflict(const struct hazard_access *a, const struct hazard_access *b)
{
    return a->buffer == b->buffer && a->begin < b->end && b->begin < a->end && (a->written || b->written);
}

static bool conflicts(const struct hazard_tracker *tracker, const struct hazard_access *access)
{
    for (unsigned i = 0; i < tracker->count; i++)
        if (conflict(&tracker->accesses[i], access))
            return true;
    return false;
}

// Many dispatches in a row read the same input: one entry is enough for them.
static bool already_read(const struct hazard_tracker *tracker, const struct hazard_access *access)
{
    for (unsigned i = 0; i < tracker->count; i++) {
        const struct hazard_access *old = &tracker->accesses[i];
        if (old->buffer == access->buffer && old->begin <= access->begin && old->end >= access->end)
            return !old->written && !access->written;
    }
    return false;
}

bool hazard_add(struct hazard_tracker *tracker, const struct hazard_access *accesses, unsigned count)
{
    CHECK(count <= HAZARD_ACCESSES_MAX);
    bool barrier = tracker->count + count > HAZARD_ACCESSES_MAX;
    for (unsigned i = 0; i < count && !barrier; i++)
        barrier = conflicts(tracker, &accesses[i]);
    if (barrier)
        tracker->count = 0;
    for (unsigned i = 0; i < count; i++)
        if (!already_read(tracker, &accesses[i]))
            tracker->accesses[tracker->count++] = accesses[i];
    return barrier;
}
