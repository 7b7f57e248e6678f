// The slot cache: a plain model of LRU as reference, and a machine that does what it says and checks the contents.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "container_sample.h"
#include "offload/residency.h"
#include "runtime/base/mem.h"
#include "runtime/base/random.h"

enum { EXPERTS = 60, SLOTS_MAX = 40, PINS_MAX = 24 };

// What really lies where, and who still needs it: the part of the caller.
struct machine {
    struct residency *r;
    bool pool; // reads go straight to device slots
    uint32_t device_content[SLOTS_MAX], host_content[SLOTS_MAX];
    uint64_t device_reader[SLOTS_MAX], device_copy[SLOTS_MAX], host_copy[SLOTS_MAX]; // last ticks, as used by us
    uint64_t tick;
    struct pin {
        uint32_t expert, device_slot;
        bool reading, failed; // failed: has no slot any more
    } pins[PINS_MAX];
    uint32_t pin_count;
    struct demotion {
        uint32_t slot, expert; // what goes where with the copy of the expert
    } demotions[EXPERTS];
};

static void machine_create(struct machine *m, const struct residency_options *options)
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

static enum residency_result machine_acquire(struct machine *m, uint32_t expert, enum residency_mode mode)
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

static void machine_read_done(struct machine *m, uint32_t expert, bool ok)
{
    struct residency_ticket t;
    assert_int_equal(residency_look(m->r, expert, &t), RESIDENCY_PENDING);
    residency_read_done(m->r, expert, ok);
    *(m->pool ? &m->device_content[t.device_slot] : &m->host_content[t.host_slot]) = ok ? expert : RESIDENCY_NONE;
    for (uint32_t i = 0; i < m->pin_count; i++)
        if (m->pins[i].expert == expert)
            m->pins[i].failed = !ok;
}

static void machine_copy(struct machine *m, uint32_t expert)
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

static void machine_release(struct machine *m, uint32_t index)
{
    struct pin pin = m->pins[index];
    bool was_read = residency_look(m->r, pin.expert, NULL) == RESIDENCY_DEVICE;
    uint64_t tick = was_read ? ++m->tick : 0;
    if (tick)
        m->device_reader[pin.device_slot] = tick;
    residency_release(m->r, pin.expert, tick);
    m->pins[index] = m->pins[--m->pin_count];
}

// One random step: acquire, finish something that was begun, or release.
static void random_step(struct machine *m, uint64_t *random)
{
    uint64_t choice = random_next(random) % 8;
    if (m->pin_count == 0 || (choice < 3 && m->pin_count < PINS_MAX)) {
        uint64_t range = random_next(random) % 3 ? EXPERTS / 3 : EXPERTS; // some are used more
        machine_acquire(m, (uint32_t)(random_next(random) % range),
                        random_next(random) % 4 ? RESIDENCY_NORMAL : RESIDENCY_SWEEP);
        return;
    }
    uint32_t index = (uint32_t)(random_next(random) % m->pin_count);
    uint32_t expert = m->pins[index].expert;
    enum residency_result where = residency_look(m->r, expert, NULL);
    if (choice == 7)
        residency_touch(m->r, (uint32_t)(random_next(random) % EXPERTS));
    else if (where == RESIDENCY_PENDING)
        machine_read_done(m, expert, random_next(random) % 8 != 0);
    else if (where == RESIDENCY_HOST && random_next(random) % 8 != 0)
        machine_copy(m, expert);
    else
        machine_release(m, index);
}

// A kernel would compute with the wrong expert, or one that is being overwritten.
static void contents_are_what_tickets_say(void **state)
{
    (void)state;
    static const struct residency_options options[] = {
        {EXPERTS, 1, 1, 1, 1, false},    {EXPERTS, 1, 1, 1, 1, true},      {EXPERTS, 2, 1, 1, 1, true},
        {EXPERTS, 8, 4, 3, 2, false},    {EXPERTS, 8, 4, 3, 2, true},      {EXPERTS, 16, 40, 4, 4, true},
        {EXPERTS, 40, 20, 40, 20, true}, {EXPERTS, 30, 12, 10, 12, false}, {EXPERTS, 1, 0, 1, 0, false},
        {EXPERTS, 8, 0, 3, 0, false},    {EXPERTS, 16, 0, 4, 0, false},    {EXPERTS, 40, 0, 40, 0, false},
    };
    uint64_t random = 31337;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        struct machine m;
        machine_create(&m, &options[i]);
        for (int step = 0; step < 4000; step++) {
            random_step(&m, &random);
            residency_check(m.r);
        }
        while (m.pin_count > 0) {
            enum residency_result where = residency_look(m.r, m.pins[0].expert, NULL);
            if (where == RESIDENCY_PENDING)
                machine_read_done(&m, m.pins[0].expert, true);
            machine_release(&m, 0);
            residency_check(m.r);
        }
        struct residency_statistics s = residency_statistics(m.r);
        assert_true(s.normal.misses > 0 && s.sweep.misses > 0 && s.normal.device_hits > 0 && s.read_failures > 0);
        residency_destroy(m.r);
    }
}

// Use and let go at once.
static enum residency_result use(struct machine *m, uint32_t expert, enum residency_mode mode)
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

// The same cache with host slots that only pass experts on, and as one pool.
static struct residency_options without_tier(uint32_t slots, uint32_t ring, bool pool)
{
    return (struct residency_options){
        .expert_count = EXPERTS,
        .device_slot_count = slots,
        .host_slot_count = pool ? 0 : 8,
        .ring_device_slots = ring,
        .ring_host_slots = pool ? 0 : 4,
    };
}

// The hit rate, and with it the speed, would be less than promised: without a RAM tier the cache is exactly LRU.
static void without_a_tier_it_is_plain_lru(void **state)
{
    (void)state;
    for (uint32_t slots = 1; slots <= 33; slots += 4) {
        const struct residency_options options = without_tier(slots, 1, slots % 8 == 5);
        struct machine m;
        uint64_t random = slots, last_use[EXPERTS] = {0};
        machine_create(&m, &options);
        for (uint64_t now = 1; now < 3000; now++) {
            uint64_t range = random_next(&random) % 2 ? EXPERTS / 4 : EXPERTS;
            uint32_t expert = (uint32_t)(random_next(&random) % range), later = 0;
            for (uint32_t i = 0; i < EXPERTS; i++) // distinct experts used since
                later += i != expert && last_use[i] > last_use[expert];
            bool hit = last_use[expert] > 0 && later < slots;
            assert_int_equal(use(&m, expert, RESIDENCY_NORMAL), hit ? RESIDENCY_DEVICE : RESIDENCY_MISS);
            last_use[expert] = now;
        }
        residency_destroy(m.r);
    }
}

// Reading a document would throw out what the conversation needs next.
static void a_sweep_keeps_the_decode_cache(void **state)
{
    (void)state;
    const struct residency_options options[] = {{EXPERTS, 20, 10, 4, 4, true}, without_tier(20, 4, true)};
    for (int i = 0; i < 2; i++) {
        struct machine m;
        machine_create(&m, &options[i]);
        for (int n = 0; n < 200; n++)
            use(&m, (uint32_t)n % 16, RESIDENCY_NORMAL);
        for (uint32_t expert = 0; expert < EXPERTS; expert++)
            use(&m, expert, RESIDENCY_SWEEP);
        for (uint32_t expert = 0; expert < EXPERTS; expert++)
            use(&m, expert, RESIDENCY_SWEEP);
        for (uint32_t expert = 0; expert < 16; expert++)
            assert_true(use(&m, expert, RESIDENCY_NORMAL) != RESIDENCY_MISS);
        struct residency_statistics s = residency_statistics(m.r);
        assert_int_equal(s.sweep.misses + s.sweep.device_hits + s.sweep.host_hits, 2 * EXPERTS);
        residency_destroy(m.r);
    }
}

// A second document would read everything again, though a part could have stayed; and one that came before any
// generation would leave the memory unused.
static void a_sweep_fills_what_is_free_and_finds_it_again(void **state)
{
    (void)state;
    for (int pool = 0; pool < 2; pool++) {
        const struct residency_options options = without_tier(30, 4, pool);
        struct machine m;
        machine_create(&m, &options);
        for (uint32_t expert = 0; expert < EXPERTS; expert++)
            assert_int_equal(use(&m, expert, RESIDENCY_SWEEP), RESIDENCY_MISS);
        for (int n = 0; n < 3; n++) {
            uint32_t hits = 0;
            for (uint32_t expert = 0; expert < EXPERTS; expert++)
                hits += use(&m, expert, RESIDENCY_SWEEP) == RESIDENCY_DEVICE;
            assert_true(hits >= 26 && hits <= 30);
        }
        residency_destroy(m.r);
    }
}

// Reads an expert that was just acquired and brings it to the device.
static void arrive(struct machine *m, uint32_t expert)
{
    machine_read_done(m, expert, true);
    if (!m->pool)
        machine_copy(m, expert);
}

static void check_recycling(bool pool)
{
    const struct residency_options options = without_tier(12, 3, pool);
    struct machine m;
    machine_create(&m, &options);
    for (uint32_t expert = 0; expert < 12; expert++)
        use(&m, expert, RESIDENCY_NORMAL);
    uint32_t slots[3];
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(machine_acquire(&m, 20 + i, RESIDENCY_SWEEP), RESIDENCY_MISS);
        slots[i] = m.pins[i].device_slot;
        arrive(&m, 20 + i);
    }
    assert_int_equal(machine_acquire(&m, 30, RESIDENCY_SWEEP), RESIDENCY_NO_SLOT);
    while (m.pin_count > 0)
        machine_release(&m, 0);
    for (uint32_t i = 0; i < 9; i++) {
        assert_int_equal(machine_acquire(&m, 30 + i, RESIDENCY_SWEEP), RESIDENCY_MISS);
        assert_int_equal(m.pins[0].device_slot, slots[i % 3]);
        arrive(&m, 30 + i);
        machine_release(&m, 0);
    }
    residency_destroy(m.r);
}

// A sweep that waits for no release would take the whole cache, and recycle the slot that the GPU just began to read.
static void a_sweep_recycles_its_oldest_slot(void **state)
{
    (void)state;
    check_recycling(false);
    check_recycling(true);
}

// What the prompt's tail used most would be read again for the first words of the answer.
static void touched_experts_stay(void **state)
{
    (void)state;
    const struct residency_options options = {EXPERTS, 10, 4, 4, 4, false};
    struct machine m;
    machine_create(&m, &options);
    for (uint32_t expert = 0; expert < 10; expert++)
        use(&m, expert, RESIDENCY_NORMAL);
    for (uint32_t expert = 20; expert < 24; expert++)
        use(&m, expert, RESIDENCY_SWEEP);
    assert_true(residency_touch(m.r, 22));
    assert_true(residency_touch(m.r, 5)); // 0..3 gave way to the ring
    assert_false(residency_touch(m.r, 50));
    residency_check(m.r);
    for (uint32_t expert = 30; expert < 35; expert++)
        use(&m, expert, RESIDENCY_NORMAL);
    assert_int_equal(use(&m, 22, RESIDENCY_NORMAL), RESIDENCY_DEVICE);
    assert_int_equal(use(&m, 5, RESIDENCY_NORMAL), RESIDENCY_DEVICE);
    assert_int_equal(use(&m, 9, RESIDENCY_NORMAL), RESIDENCY_MISS);
    residency_destroy(m.r);
}

// After a document a part of the cache would be lost to decoding for good.
static void a_settled_ring_is_given_up_first(void **state)
{
    (void)state;
    const struct residency_options options = {EXPERTS, 12, 4, 4, 4, false};
    struct machine m;
    machine_create(&m, &options);
    for (uint32_t expert = 0; expert < 12; expert++)
        use(&m, expert, RESIDENCY_NORMAL);
    for (uint32_t expert = 20; expert < 30; expert++)
        use(&m, expert, RESIDENCY_SWEEP);
    residency_settle(m.r);
    residency_check(m.r);
    for (uint32_t expert = 26; expert < 30; expert++)
        assert_int_equal(residency_look(m.r, expert, NULL), RESIDENCY_DEVICE);
    for (uint32_t expert = 40; expert < 44; expert++)
        use(&m, expert, RESIDENCY_NORMAL);
    for (uint32_t expert = 26; expert < 30; expert++)
        assert_int_equal(residency_look(m.r, expert, NULL), RESIDENCY_MISS);
    for (uint32_t expert = 4; expert < 12; expert++)
        assert_int_equal(use(&m, expert, RESIDENCY_NORMAL), RESIDENCY_DEVICE);
    residency_destroy(m.r);
}

// The host memory would keep nothing of what the prompt's end used.
static void host_memory_keeps_what_it_is_told(void **state)
{
    (void)state;
    const struct residency_options options = {EXPERTS, 6, 12, 2, 2, true};
    struct machine m;
    machine_create(&m, &options);
    for (uint32_t expert = 0; expert < 18; expert++)
        use(&m, expert, RESIDENCY_NORMAL);
    for (uint32_t expert = 20; expert < 40; expert++) {
        use(&m, expert, RESIDENCY_SWEEP);
        if (expert % 4 == 0)
            assert_true(residency_keep_host(m.r, expert));
    }
    assert_false(residency_keep_host(m.r, 50));
    residency_settle(m.r);
    residency_check(m.r);
    for (uint32_t expert = 20; expert < 40; expert += 4)
        assert_int_equal(use(&m, expert, RESIDENCY_NORMAL), RESIDENCY_HOST);
    residency_destroy(m.r);
}

// After a failed submission the model would go on with weights that never reached the device.
static void a_lost_copy_is_forgotten(void **state)
{
    (void)state;
    for (int host_cache = 0; host_cache < 2; host_cache++) {
        const struct residency_options options = {EXPERTS, 4, 4, 2, 2, host_cache};
        struct machine m;
        machine_create(&m, &options);
        use(&m, 1, RESIDENCY_NORMAL);
        residency_copy_lost(m.r, 1);
        residency_check(m.r);
        residency_copy_lost(m.r, 1); // has no slot any more
        residency_copy_lost(m.r, 2); // never had one
        assert_int_equal(use(&m, 1, RESIDENCY_NORMAL), host_cache ? RESIDENCY_HOST : RESIDENCY_MISS);
        assert_int_equal(use(&m, 1, RESIDENCY_NORMAL), RESIDENCY_DEVICE);
        residency_destroy(m.r);
    }
}

// In one pool the drive would overwrite an expert that the device still reads, or wait for ever for a reader that was
// given up; or what is there would be read again.
static void a_pool_tells_when_a_slot_may_be_read_to(void **state)
{
    (void)state;
    const struct residency_options options = without_tier(2, 1, true);
    struct residency *r;
    struct residency_ticket t;
    assert_int_equal(residency_create(&options, &r), SLUICE_OK);
    assert_int_equal(residency_acquire(r, 1, RESIDENCY_NORMAL, &t), RESIDENCY_MISS);
    assert_true(t.device_reader_tick == 0 && t.host_slot == RESIDENCY_NONE && t.demotion_slot == RESIDENCY_NONE);
    residency_read_done(r, 1, true);
    assert_int_equal(residency_acquire(r, 1, RESIDENCY_NORMAL, &t), RESIDENCY_DEVICE); // nothing to be copied
    assert_true(t.device_copy_tick == 0);
    residency_release(r, 1, 7);
    residency_release(r, 1, 0); // given up before it was used: stays
    residency_check(r);
    assert_int_equal(residency_acquire(r, 2, RESIDENCY_NORMAL, &t), RESIDENCY_MISS);
    residency_read_done(r, 2, true);
    residency_release(r, 2, 9);
    assert_int_equal(residency_acquire(r, 3, RESIDENCY_NORMAL, &t), RESIDENCY_MISS);
    assert_true(t.evicted_expert == 1 && t.device_reader_tick == 7);
    residency_read_done(r, 3, false); // the freed slot remembers its reader
    residency_release(r, 3, 0);
    assert_int_equal(residency_acquire(r, 3, RESIDENCY_NORMAL, &t), RESIDENCY_MISS);
    assert_true(t.evicted_expert == RESIDENCY_NONE && t.device_reader_tick == 7);
    residency_read_done(r, 3, true);
    residency_release(r, 3, 10);
    residency_readers_lost(r, 8); // 9 and 10 were never submitted
    residency_check(r);
    for (uint32_t expert = 2; expert < 4; expert++) {
        assert_int_equal(residency_look(r, expert, &t), RESIDENCY_DEVICE);
        assert_true(t.device_reader_tick == 8);
    }
    residency_destroy(r);
}

// With a RAM tier no larger than the card's cache, RAM would hold only what the card holds too.
static void the_ram_tier_adds_to_the_device(void **state)
{
    (void)state;
    const struct residency_options plain = {EXPERTS, 20, 4, 2, 2, false}, tiered = {EXPERTS, 20, 16, 2, 2, true};
    const struct residency_options *options[] = {&plain, &tiered};
    uint64_t misses[2];
    for (int i = 0; i < 2; i++) {
        struct machine m;
        uint64_t random = 5;
        machine_create(&m, options[i]);
        for (int n = 0; n < 20000; n++) {
            uint64_t a = random_next(&random) % EXPERTS, b = random_next(&random) % EXPERTS;
            use(&m, (uint32_t)(a * b / EXPERTS), RESIDENCY_NORMAL); // small numbers more often
        }
        misses[i] = residency_statistics(m.r).normal.misses;
        residency_destroy(m.r);
    }
    assert_true(misses[1] < misses[0] * 3 / 4);
}

// Two sessions that want the same expert would read it twice, or one would use it before it is there.
static void a_second_user_shares_the_first_ones_read(void **state)
{
    (void)state;
    const struct residency_options options = {EXPERTS, 4, 4, 1, 1, false};
    struct machine m;
    struct residency_ticket first, second;
    machine_create(&m, &options);
    assert_int_equal(residency_acquire(m.r, 7, RESIDENCY_NORMAL, &first), RESIDENCY_MISS);
    assert_int_equal(residency_acquire(m.r, 7, RESIDENCY_NORMAL, &second), RESIDENCY_PENDING);
    assert_true(first.device_slot == second.device_slot && first.host_slot == second.host_slot);
    residency_read_done(m.r, 7, true);
    assert_int_equal(residency_acquire(m.r, 7, RESIDENCY_SWEEP, &second), RESIDENCY_PENDING);
    residency_copy_recorded(m.r, 7, 11);
    assert_int_equal(residency_acquire(m.r, 7, RESIDENCY_NORMAL, &second), RESIDENCY_DEVICE);
    assert_true(second.device_copy_tick == 11 && second.host_slot == RESIDENCY_NONE);
    for (uint64_t i = 0; i < 4; i++)
        residency_release(m.r, 7, 20 - i); // not in order
    residency_check(m.r);
    assert_int_equal(residency_look(m.r, 7, &second), RESIDENCY_DEVICE);
    assert_true(second.device_reader_tick == 20);
    struct residency_statistics s = residency_statistics(m.r);
    assert_true(s.normal.misses == 1 && s.normal.pending == 1 && s.sweep.pending == 1 && s.normal.device_hits == 1);
    residency_destroy(m.r);
}

// After one bad read the expert would be unusable for ever, or its garbage be used.
static void a_failed_read_can_be_tried_again(void **state)
{
    (void)state;
    const struct residency_options options = {EXPERTS, 1, 1, 1, 1, true};
    struct machine m;
    struct residency_ticket t;
    machine_create(&m, &options);
    assert_int_equal(residency_acquire(m.r, 7, RESIDENCY_NORMAL, &t), RESIDENCY_MISS);
    assert_int_equal(residency_acquire(m.r, 7, RESIDENCY_NORMAL, &t), RESIDENCY_PENDING);
    assert_int_equal(residency_acquire(m.r, 8, RESIDENCY_NORMAL, &t), RESIDENCY_NO_SLOT);
    residency_read_done(m.r, 7, false);
    residency_check(m.r);
    assert_int_equal(residency_acquire(m.r, 7, RESIDENCY_NORMAL, &t), RESIDENCY_FAILED);
    assert_int_equal(residency_look(m.r, 7, NULL), RESIDENCY_FAILED);
    assert_int_equal(use(&m, 8, RESIDENCY_NORMAL), RESIDENCY_MISS); // the slots are free at once
    residency_release(m.r, 7, 0);
    assert_int_equal(residency_acquire(m.r, 7, RESIDENCY_NORMAL, &t), RESIDENCY_FAILED);
    residency_release(m.r, 7, 0);
    assert_int_equal(use(&m, 7, RESIDENCY_NORMAL), RESIDENCY_MISS);
    residency_destroy(m.r);
}

// A copy that could not be recorded would leave the slot taken, or the expert marked as there.
static void an_expert_never_copied_gives_its_slot_back(void **state)
{
    (void)state;
    for (int host_cache = 0; host_cache < 2; host_cache++) {
        const struct residency_options options = {EXPERTS, 1, 1, 1, 1, host_cache};
        struct machine m;
        struct residency_ticket t;
        machine_create(&m, &options);
        assert_int_equal(residency_acquire(m.r, 7, RESIDENCY_NORMAL, &t), RESIDENCY_MISS);
        residency_read_done(m.r, 7, true);
        residency_release(m.r, 7, 0);
        residency_check(m.r);
        assert_int_equal(residency_look(m.r, 7, NULL), host_cache ? RESIDENCY_HOST : RESIDENCY_MISS);
        assert_int_equal(residency_acquire(m.r, 8, RESIDENCY_NORMAL, &t), RESIDENCY_MISS);
        assert_int_equal(t.evicted_expert, RESIDENCY_NONE);
        residency_destroy(m.r);
    }
}

// A setting that cannot work would crash later; too little memory would crash at once.
static void impossible_options_and_memory_are_refused(void **state)
{
    (void)state;
    const struct residency_options wrong[] = {
        {0, 1, 1, 1, 1, false}, {1, 0, 1, 1, 1, false}, {1, 1, 0, 1, 1, false},
        {1, 1, 1, 0, 1, false}, {1, 1, 1, 2, 1, false}, {1, 1, 1, 1, 0, false},
        {1, 1, 1, 1, 2, false}, {1, 1, 0, 1, 0, true},  {1, 1, 0, 2, 0, false},
    };
    struct residency *r;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(residency_create(&wrong[i], &r), SLUICE_ERR_ARGUMENT);
        assert_null(r);
    }
    const struct residency_options good = {EXPERTS, 4, 4, 1, 1, true};
    for (uint64_t index = 0; index < 4; index++) {
        mem_fail_at(index);
        assert_int_equal(residency_create(&good, &r), SLUICE_ERR_MEMORY);
        mem_fail_at(UINT64_MAX);
        assert_null(r);
    }
    residency_destroy(NULL);
}

// Brings an expert to the device and releases it.
static void bring(struct residency *r, uint32_t expert, enum residency_mode mode, struct residency_ticket *ticket)
{
    enum residency_result result = residency_acquire(r, expert, mode, ticket);
    assert_true(result == RESIDENCY_DEVICE || result == RESIDENCY_HOST || result == RESIDENCY_MISS);
    if (result == RESIDENCY_MISS)
        residency_read_done(r, expert, true);
    if (residency_look(r, expert, NULL) == RESIDENCY_HOST)
        residency_copy_recorded(r, expert, 1);
    residency_release(r, expert, 1);
}

// If this fails, slots whose memory was given back to the driver are used again.
static void test_shrink(void **state)
{
    (void)state;
    const uint32_t sizes[] = {20, 13, 13, 5, 1};
    const struct residency_options variants[] = {
        {EXPERTS, 24, 6, 8, 3, false}, {EXPERTS, 24, 6, 8, 3, true}, {EXPERTS, 24, 0, 8, 0, false}};
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        struct residency_options options = variants[v];
        struct residency *r;
        struct residency_ticket ticket;
        assert_int_equal(residency_create(&options, &r), SLUICE_OK);
        for (uint32_t i = 0; i < 70; i++) // a full ring and a full list
            bring(r, i * 7 % EXPERTS, i % 3 ? RESIDENCY_SWEEP : RESIDENCY_NORMAL, &ticket);
        for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++) {
            uint32_t resident = 0;
            residency_shrink(r, sizes[n]);
            residency_check(r);
            for (uint32_t i = 0; i < EXPERTS; i++)
                resident += residency_look(r, i, NULL) == RESIDENCY_DEVICE;
            assert_true(resident <= sizes[n]);
            for (uint32_t i = 0; i < 3 * EXPERTS; i++) {
                bring(r, i * 11 % EXPERTS, i % 5 ? RESIDENCY_NORMAL : RESIDENCY_SWEEP, &ticket);
                assert_true(ticket.device_slot < sizes[n]);
            }
            residency_check(r);
        }
        residency_destroy(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shrink),
        cmocka_unit_test(contents_are_what_tickets_say),
        cmocka_unit_test(without_a_tier_it_is_plain_lru),
        cmocka_unit_test(a_sweep_keeps_the_decode_cache),
        cmocka_unit_test(a_sweep_fills_what_is_free_and_finds_it_again),
        cmocka_unit_test(a_sweep_recycles_its_oldest_slot),
        cmocka_unit_test(touched_experts_stay),
        cmocka_unit_test(a_settled_ring_is_given_up_first),
        cmocka_unit_test(host_memory_keeps_what_it_is_told),
        cmocka_unit_test(a_lost_copy_is_forgotten),
        cmocka_unit_test(a_pool_tells_when_a_slot_may_be_read_to),
        cmocka_unit_test(the_ram_tier_adds_to_the_device),
        cmocka_unit_test(a_second_user_shares_the_first_ones_read),
        cmocka_unit_test(a_failed_read_can_be_tried_again),
        cmocka_unit_test(an_expert_never_copied_gives_its_slot_back),
        cmocka_unit_test(impossible_options_and_memory_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
