#include "tests/offload/residency_machine.h"

#include <string.h>

void machine_create(struct machine *m, const struct residency_options *options)
{
    memset(m, 0, sizeof *m);
    memset(m->device_content, 0xFF, sizeof m->device_content);
    memset(m->host_content, 0xFF, sizeof m->host_content);
    memset(m->demotions, 0xFF, sizeof m->demotions);
    m->pool = options->host_slot_count == 0;
    assert_int_equal(residency_create(options, &m->r), SLUICE_OK);
    residency_check(m->r);
}

static bool is_pinned_slot(const struct machine *m, uint32_t device_slot, uint32_t except_expert)
{
    for (uint32_t i = 0; i < m->pin_count; i++)
        if (!m->pins[i].failed && m->pins[i].device_slot == device_slot && m->pins[i].expert != except_expert)
            return true;
    return false;
}

// The host slot is still waiting for a read or copy of another expert.
static bool is_busy_host_slot(const struct machine *m, uint32_t host_slot, uint32_t except_expert)
{
    for (uint32_t i = 0; i < m->pin_count; i++) {
        struct residency_ticket ticket;
        enum residency_result where = residency_look(m->r, m->pins[i].expert, &ticket);
        bool under_way = where == RESIDENCY_PENDING || (where == RESIDENCY_HOST && !m->pins[i].failed);
        if (under_way && ticket.host_slot == host_slot && m->pins[i].expert != except_expert)
            return true;
        if (under_way && m->demotions[m->pins[i].expert].slot == host_slot && m->pins[i].expert != except_expert)
            return true;
    }
    return false;
}

// The ticket promises neither too little nor another slot's past.
static void check_ticket(const struct machine *m, const struct residency_ticket *t, enum residency_result result)
{
    assert_false(is_pinned_slot(m, t->device_slot, t->expert));
    assert_true(t->device_copy_tick == m->device_copy[t->device_slot]);
    assert_true(t->device_reader_tick == m->device_reader[t->device_slot]);
    if (result == RESIDENCY_DEVICE)
        assert_int_equal(m->device_content[t->device_slot], t->expert);
    assert_true(!m->pool || t->host_slot == RESIDENCY_NONE);
    if (result == RESIDENCY_HOST || (result == RESIDENCY_MISS && !m->pool)) {
        assert_false(is_busy_host_slot(m, t->host_slot, t->expert));
        assert_true(t->host_copy_tick == m->host_copy[t->host_slot]);
    }
    if (result == RESIDENCY_HOST || result == RESIDENCY_MISS) {
        uint32_t was = m->device_content[t->device_slot];
        if (t->evicted_expert != RESIDENCY_NONE)
            assert_int_equal(was, t->evicted_expert);
    }
    if (result == RESIDENCY_HOST)
        assert_int_equal(m->host_content[t->host_slot], t->expert);
}

enum residency_result machine_acquire(struct machine *m, uint32_t expert, enum residency_mode mode)
{
    struct residency_ticket t;
    enum residency_result result = residency_acquire(m->r, expert, mode, &t);
    if (result == RESIDENCY_FAILED || result == RESIDENCY_NO_SLOT)
        return result;
    check_ticket(m, &t, result);
    if (result == RESIDENCY_MISS && !m->pool)
        m->host_content[t.host_slot] = RESIDENCY_NONE;
    if (result == RESIDENCY_MISS || result == RESIDENCY_HOST) {
        m->device_content[t.device_slot] = RESIDENCY_NONE;
        m->demotions[expert] = (struct demotion){t.demotion_slot, t.evicted_expert};
    }
    if (t.demotion_slot != RESIDENCY_NONE) {
        assert_true(t.demotion_slot != t.host_slot && t.evicted_expert != RESIDENCY_NONE);
        assert_false(is_busy_host_slot(m, t.demotion_slot, expert));
        m->host_content[t.demotion_slot] = RESIDENCY_NONE;
    }
    m->pins[m->pin_count++] = (struct pin){expert, t.device_slot, result == RESIDENCY_MISS, false};
    return result;
}

void machine_read_done(struct machine *m, uint32_t expert, bool ok)
{
    struct residency_ticket t;
    assert_int_equal(residency_look(m->r, expert, &t), RESIDENCY_PENDING);
    residency_read_done(m->r, expert, ok);
    *(m->pool ? &m->device_content[t.device_slot] : &m->host_content[t.host_slot]) = ok ? expert : RESIDENCY_NONE;
    for (uint32_t i = 0; i < m->pin_count; i++)
        if (m->pins[i].expert == expert)
            m->pins[i].failed = !ok;
}

void machine_copy(struct machine *m, uint32_t expert)
{
    struct residency_ticket t;
    assert_int_equal(residency_look(m->r, expert, &t), RESIDENCY_HOST);
    residency_copy_recorded(m->r, expert, ++m->tick);
    struct demotion demotion = m->demotions[expert];
    if (demotion.slot != RESIDENCY_NONE) {
        m->host_content[demotion.slot] = demotion.expert;
        m->host_copy[demotion.slot] = m->tick;
    }
    m->device_content[t.device_slot] = m->host_content[t.host_slot];
    m->device_copy[t.device_slot] = m->host_copy[t.host_slot] = m->tick;
    assert_int_equal(m->device_content[t.device_slot], expert);
}

void machine_release(struct machine *m, uint32_t index)
{
    struct pin pin = m->pins[index];
    bool was_read = residency_look(m->r, pin.expert, NULL) == RESIDENCY_DEVICE;
    uint64_t tick = was_read ? ++m->tick : 0;
    if (tick)
        m->device_reader[pin.device_slot] = tick;
    residency_release(m->r, pin.expert, tick);
    m->pins[index] = m->pins[--m->pin_count];
}

enum residency_result machine_use(struct machine *m, uint32_t expert, enum residency_mode mode)
{
    enum residency_result result = machine_acquire(m, expert, mode);
    if (result == RESIDENCY_MISS)
        machine_read_done(m, expert, true);
    if ((result == RESIDENCY_MISS || result == RESIDENCY_HOST) && !m->pool)
        machine_copy(m, expert);
    machine_release(m, m->pin_count - 1);
    residency_check(m->r);
    return result;
}

struct residency_options machine_without_tier(uint32_t slots, uint32_t ring, bool pool)
{
    return (struct residency_options){
        .expert_count = MACHINE_EXPERTS,
        .device_slot_count = slots,
        .host_slot_count = pool ? 0 : 8,
        .ring_device_slots = ring,
        .ring_host_slots = pool ? 0 : 4,
    };
}
