// Which experts the slot cache keeps: a plain model of LRU as reference, and a machine that does what it says and
// checks the contents. What happens to one expert is in test_residency_events.c.
#include "tests/offload/residency_machine.h"

#include "runtime/base/random.h"

// One random step: acquire, finish something that was begun, or release.
static void random_step(struct machine *m, uint64_t *random)
{
    uint64_t choice = random_next(random) % 8;
    if (m->pin_count == 0 || (choice < 3 && m->pin_count < MACHINE_PINS_MAX)) {
        uint64_t range = random_next(random) % 3 ? MACHINE_EXPERTS / 3 : MACHINE_EXPERTS; // some are used more
        machine_acquire(m, (uint32_t)(random_next(random) % range),
                        random_next(random) % 4 ? RESIDENCY_NORMAL : RESIDENCY_SWEEP);
        return;
    }
    uint32_t index = (uint32_t)(random_next(random) % m->pin_count);
    uint32_t expert = m->pins[index].expert;
    enum residency_result where = residency_look(m->r, expert, NULL);
    if (choice == 7)
        residency_touch(m->r, (uint32_t)(random_next(random) % MACHINE_EXPERTS));
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
        {MACHINE_EXPERTS, 1, 1, 1, 1, false},    {MACHINE_EXPERTS, 1, 1, 1, 1, true},
        {MACHINE_EXPERTS, 2, 1, 1, 1, true},     {MACHINE_EXPERTS, 8, 4, 3, 2, false},
        {MACHINE_EXPERTS, 8, 4, 3, 2, true},     {MACHINE_EXPERTS, 16, 40, 4, 4, true},
        {MACHINE_EXPERTS, 40, 20, 40, 20, true}, {MACHINE_EXPERTS, 30, 12, 10, 12, false},
        {MACHINE_EXPERTS, 1, 0, 1, 0, false},    {MACHINE_EXPERTS, 8, 0, 3, 0, false},
        {MACHINE_EXPERTS, 16, 0, 4, 0, false},   {MACHINE_EXPERTS, 40, 0, 40, 0, false},
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

// The hit rate, and with it the speed, would be less than promised: without a RAM tier the cache is exactly LRU.
static void without_a_tier_it_is_plain_lru(void **state)
{
    (void)state;
    for (uint32_t slots = 1; slots <= 33; slots += 4) {
        const struct residency_options options = machine_without_tier(slots, 1, slots % 8 == 5);
        struct machine m;
        uint64_t random = slots, last_use[MACHINE_EXPERTS] = {0};
        machine_create(&m, &options);
        for (uint64_t now = 1; now < 3000; now++) {
            uint64_t range = random_next(&random) % 2 ? MACHINE_EXPERTS / 4 : MACHINE_EXPERTS;
            uint32_t expert = (uint32_t)(random_next(&random) % range), later = 0;
            for (uint32_t i = 0; i < MACHINE_EXPERTS; i++) // distinct experts used since
                later += i != expert && last_use[i] > last_use[expert];
            bool hit = last_use[expert] > 0 && later < slots;
            assert_int_equal(machine_use(&m, expert, RESIDENCY_NORMAL), hit ? RESIDENCY_DEVICE : RESIDENCY_MISS);
            last_use[expert] = now;
        }
        residency_destroy(m.r);
    }
}

// Reading a document would throw out what the conversation needs next.
static void a_sweep_keeps_the_decode_cache(void **state)
{
    (void)state;
    const struct residency_options options[] = {{MACHINE_EXPERTS, 20, 10, 4, 4, true},
                                                machine_without_tier(20, 4, true)};
    for (int i = 0; i < 2; i++) {
        struct machine m;
        machine_create(&m, &options[i]);
        for (int n = 0; n < 200; n++)
            machine_use(&m, (uint32_t)n % 16, RESIDENCY_NORMAL);
        for (uint32_t expert = 0; expert < MACHINE_EXPERTS; expert++)
            machine_use(&m, expert, RESIDENCY_SWEEP);
        for (uint32_t expert = 0; expert < MACHINE_EXPERTS; expert++)
            machine_use(&m, expert, RESIDENCY_SWEEP);
        for (uint32_t expert = 0; expert < 16; expert++)
            assert_true(machine_use(&m, expert, RESIDENCY_NORMAL) != RESIDENCY_MISS);
        struct residency_statistics s = residency_statistics(m.r);
        assert_int_equal(s.sweep.misses + s.sweep.device_hits + s.sweep.host_hits, 2 * MACHINE_EXPERTS);
        residency_destroy(m.r);
    }
}

// A second document would read everything again, though a part could have stayed; and one that came before any
// generation would leave the memory unused.
static void a_sweep_fills_what_is_free_and_finds_it_again(void **state)
{
    (void)state;
    for (int pool = 0; pool < 2; pool++) {
        const struct residency_options options = machine_without_tier(30, 4, pool);
        struct machine m;
        machine_create(&m, &options);
        for (uint32_t expert = 0; expert < MACHINE_EXPERTS; expert++)
            assert_int_equal(machine_use(&m, expert, RESIDENCY_SWEEP), RESIDENCY_MISS);
        for (int n = 0; n < 3; n++) {
            uint32_t hits = 0;
            for (uint32_t expert = 0; expert < MACHINE_EXPERTS; expert++)
                hits += machine_use(&m, expert, RESIDENCY_SWEEP) == RESIDENCY_DEVICE;
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
    const struct residency_options options = machine_without_tier(12, 3, pool);
    struct machine m;
    machine_create(&m, &options);
    for (uint32_t expert = 0; expert < 12; expert++)
        machine_use(&m, expert, RESIDENCY_NORMAL);
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
    const struct residency_options options = {MACHINE_EXPERTS, 10, 4, 4, 4, false};
    struct machine m;
    machine_create(&m, &options);
    for (uint32_t expert = 0; expert < 10; expert++)
        machine_use(&m, expert, RESIDENCY_NORMAL);
    for (uint32_t expert = 20; expert < 24; expert++)
        machine_use(&m, expert, RESIDENCY_SWEEP);
    assert_true(residency_touch(m.r, 22));
    assert_true(residency_touch(m.r, 5)); // 0..3 gave way to the ring
    assert_false(residency_touch(m.r, 50));
    residency_check(m.r);
    for (uint32_t expert = 30; expert < 35; expert++)
        machine_use(&m, expert, RESIDENCY_NORMAL);
    assert_int_equal(machine_use(&m, 22, RESIDENCY_NORMAL), RESIDENCY_DEVICE);
    assert_int_equal(machine_use(&m, 5, RESIDENCY_NORMAL), RESIDENCY_DEVICE);
    assert_int_equal(machine_use(&m, 9, RESIDENCY_NORMAL), RESIDENCY_MISS);
    residency_destroy(m.r);
}

// After a document a part of the cache would be lost to decoding for good.
static void a_settled_ring_is_given_up_first(void **state)
{
    (void)state;
    const struct residency_options options = {MACHINE_EXPERTS, 12, 4, 4, 4, false};
    struct machine m;
    machine_create(&m, &options);
    for (uint32_t expert = 0; expert < 12; expert++)
        machine_use(&m, expert, RESIDENCY_NORMAL);
    for (uint32_t expert = 20; expert < 30; expert++)
        machine_use(&m, expert, RESIDENCY_SWEEP);
    residency_settle(m.r);
    residency_check(m.r);
    for (uint32_t expert = 26; expert < 30; expert++)
        assert_int_equal(residency_look(m.r, expert, NULL), RESIDENCY_DEVICE);
    for (uint32_t expert = 40; expert < 44; expert++)
        machine_use(&m, expert, RESIDENCY_NORMAL);
    for (uint32_t expert = 26; expert < 30; expert++)
        assert_int_equal(residency_look(m.r, expert, NULL), RESIDENCY_MISS);
    for (uint32_t expert = 4; expert < 12; expert++)
        assert_int_equal(machine_use(&m, expert, RESIDENCY_NORMAL), RESIDENCY_DEVICE);
    residency_destroy(m.r);
}

// The host memory would keep nothing of what the prompt's end used.
static void host_memory_keeps_what_it_is_told(void **state)
{
    (void)state;
    const struct residency_options options = {MACHINE_EXPERTS, 6, 12, 2, 2, true};
    struct machine m;
    machine_create(&m, &options);
    for (uint32_t expert = 0; expert < 18; expert++)
        machine_use(&m, expert, RESIDENCY_NORMAL);
    for (uint32_t expert = 20; expert < 40; expert++) {
        machine_use(&m, expert, RESIDENCY_SWEEP);
        if (expert % 4 == 0)
            assert_true(residency_keep_host(m.r, expert));
    }
    assert_false(residency_keep_host(m.r, 50));
    residency_settle(m.r);
    residency_check(m.r);
    for (uint32_t expert = 20; expert < 40; expert += 4)
        assert_int_equal(machine_use(&m, expert, RESIDENCY_NORMAL), RESIDENCY_HOST);
    residency_destroy(m.r);
}

// With a RAM tier no larger than the card's cache, RAM would hold only what the card holds too.
static void the_ram_tier_adds_to_the_device(void **state)
{
    (void)state;
    const struct residency_options plain = {MACHINE_EXPERTS, 20, 4, 2, 2, false},
                                   tiered = {MACHINE_EXPERTS, 20, 16, 2, 2, true};
    const struct residency_options *options[] = {&plain, &tiered};
    uint64_t misses[2];
    for (int i = 0; i < 2; i++) {
        struct machine m;
        uint64_t random = 5;
        machine_create(&m, options[i]);
        for (int n = 0; n < 20000; n++) {
            uint64_t a = random_next(&random) % MACHINE_EXPERTS, b = random_next(&random) % MACHINE_EXPERTS;
            machine_use(&m, (uint32_t)(a * b / MACHINE_EXPERTS), RESIDENCY_NORMAL); // small numbers more often
        }
        misses[i] = residency_statistics(m.r).normal.misses;
        residency_destroy(m.r);
    }
    assert_true(misses[1] < misses[0] * 3 / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contents_are_what_tickets_say),
        cmocka_unit_test(without_a_tier_it_is_plain_lru),
        cmocka_unit_test(a_sweep_keeps_the_decode_cache),
        cmocka_unit_test(a_sweep_fills_what_is_free_and_finds_it_again),
        cmocka_unit_test(a_sweep_recycles_its_oldest_slot),
        cmocka_unit_test(touched_experts_stay),
        cmocka_unit_test(a_settled_ring_is_given_up_first),
        cmocka_unit_test(host_memory_keeps_what_it_is_told),
        cmocka_unit_test(the_ram_tier_adds_to_the_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
