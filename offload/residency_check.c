// For tests: where an expert is, and whether all invariants hold.
#include "offload/residency_private.h"
#include "runtime/base/check.h"

enum residency_result residency_look(const struct residency *r, uint32_t expert, struct residency_ticket *ticket)
{
    CHECK(expert < r->options.expert_count);
    const struct expert *e = &r->experts[expert];
    if (ticket)
        residency_fill_ticket(r, expert, ticket);
    switch (e->state) {
    case EXPERT_READING:
        return RESIDENCY_PENDING;
    case EXPERT_LOADED:
        return RESIDENCY_HOST;
    case EXPERT_RESIDENT:
        return RESIDENCY_DEVICE;
    case EXPERT_FAILED:
        return RESIDENCY_FAILED;
    case EXPERT_IDLE:
        break;
    }
    return e->host_slot != RESIDENCY_NONE && !e->is_arriving ? RESIDENCY_HOST : RESIDENCY_MISS;
}

static void check_expert(const struct residency *r, uint32_t expert)
{
    const struct expert *e = &r->experts[expert];
    bool on_device = e->device_slot != RESIDENCY_NONE, on_host = e->host_slot != RESIDENCY_NONE;
    bool under_way = e->state == EXPERT_READING || e->state == EXPERT_LOADED;
    CHECK(on_device == (under_way || e->state == EXPERT_RESIDENT));
    CHECK(!under_way || on_host || (residency_is_pool(r) && e->state == EXPERT_READING));
    CHECK(on_host <= (!residency_is_pool(r) && (under_way || r->options.host_cache)));
    CHECK(!e->is_arriving || (e->state == EXPERT_IDLE && on_host));
    CHECK(e->demoted == RESIDENCY_NONE || (under_way && r->experts[e->demoted].is_arriving));
    CHECK(e->state != EXPERT_FAILED || !on_host);
    CHECK(e->state == EXPERT_RESIDENT || (e->pin_count > 0) == (under_way || e->state == EXPERT_FAILED));
    if (on_device)
        CHECK(e->device_slot < r->device.slot_count && r->device.slots[e->device_slot].expert == expert);
    if (on_host)
        CHECK(e->host_slot < r->host.slot_count && r->host.slots[e->host_slot].expert == expert);
}

void residency_check(const struct residency *r)
{
    slot_tier_check(&r->device);
    slot_tier_check(&r->host);
    for (uint32_t expert = 0; expert < r->options.expert_count; expert++)
        check_expert(r, expert);
    for (uint32_t slot = 0; slot < r->device.slot_count; slot++)
        if (r->device.slots[slot].expert != RESIDENCY_NONE)
            CHECK(r->experts[r->device.slots[slot].expert].device_slot == slot);
    for (uint32_t slot = 0; slot < r->host.slot_count; slot++)
        if (r->host.slots[slot].expert != RESIDENCY_NONE)
            CHECK(r->experts[r->host.slots[slot].expert].host_slot == slot);
}
