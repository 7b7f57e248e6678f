// What happens to an expert and its slots: shared, failed, never copied, lost, given back.
#include "runtime/base/mem.h"
#include "tests/offload/residency_machine.h"

// After a failed submission the model would go on with weights that never reached the device.
static void a_lost_copy_is_forgotten(void **state)
{
    (void)state;
    for (int host_cache = 0; host_cache < 2; host_cache++) {
        const struct residency_options options = {MACHINE_EXPERTS, 4, 4, 2, 2, host_cache};
        struct machine m;
        machine_create(&m, &options);
        machine_use(&m, 1, RESIDENCY_NORMAL);
        residency_copy_lost(m.r, 1);
        residency_check(m.r);
        residency_copy_lost(m.r, 1); // has no slot any more
        residency_copy_lost(m.r, 2); // never had one
        assert_int_equal(machine_use(&m, 1, RESIDENCY_NORMAL), host_cache ? RESIDENCY_HOST : RESIDENCY_MISS);
        assert_int_equal(machine_use(&m, 1, RESIDENCY_NORMAL), RESIDENCY_DEVICE);
        residency_destroy(m.r);
    }
}

// In one pool the drive would overwrite an expert that the device still reads, or wait for ever for a reader that was
// given up; or what is there would be read again.
static void a_pool_tells_when_a_slot_may_be_read_to(void **state)
{
    (void)state;
    const struct residency_options options = machine_without_tier(2, 1, true);
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

// Two sessions that want the same expert would read it twice, or one would use it before it is there.
static void a_second_user_shares_the_first_ones_read(void **state)
{
    (void)state;
    const struct residency_options options = {MACHINE_EXPERTS, 4, 4, 1, 1, false};
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
    const struct residency_options options = {MACHINE_EXPERTS, 1, 1, 1, 1, true};
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
    assert_int_equal(machine_use(&m, 8, RESIDENCY_NORMAL), RESIDENCY_MISS); // the slots are free at once
    residency_release(m.r, 7, 0);
    assert_int_equal(residency_acquire(m.r, 7, RESIDENCY_NORMAL, &t), RESIDENCY_FAILED);
    residency_release(m.r, 7, 0);
    assert_int_equal(machine_use(&m, 7, RESIDENCY_NORMAL), RESIDENCY_MISS);
    residency_destroy(m.r);
}

// A copy that could not be recorded would leave the slot taken, or the expert marked as there.
static void an_expert_never_copied_gives_its_slot_back(void **state)
{
    (void)state;
    for (int host_cache = 0; host_cache < 2; host_cache++) {
        const struct residency_options options = {MACHINE_EXPERTS, 1, 1, 1, 1, host_cache};
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
    const struct residency_options good = {MACHINE_EXPERTS, 4, 4, 1, 1, true};
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
static void given_back_slots_are_not_used(void **state)
{
    (void)state;
    const uint32_t sizes[] = {20, 13, 13, 5, 1};
    const struct residency_options variants[] = {{MACHINE_EXPERTS, 24, 6, 8, 3, false},
                                                 {MACHINE_EXPERTS, 24, 6, 8, 3, true},
                                                 {MACHINE_EXPERTS, 24, 0, 8, 0, false}};
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        struct residency_options options = variants[v];
        struct residency *r;
        struct residency_ticket ticket;
        assert_int_equal(residency_create(&options, &r), SLUICE_OK);
        for (uint32_t i = 0; i < 70; i++) // a full ring and a full list
            bring(r, i * 7 % MACHINE_EXPERTS, i % 3 ? RESIDENCY_SWEEP : RESIDENCY_NORMAL, &ticket);
        for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++) {
            uint32_t resident = 0;
            residency_shrink(r, sizes[n]);
            residency_check(r);
            for (uint32_t i = 0; i < MACHINE_EXPERTS; i++)
                resident += residency_look(r, i, NULL) == RESIDENCY_DEVICE;
            assert_true(resident <= sizes[n]);
            for (uint32_t i = 0; i < 3 * MACHINE_EXPERTS; i++) {
                bring(r, i * 11 % MACHINE_EXPERTS, i % 5 ? RESIDENCY_NORMAL : RESIDENCY_SWEEP, &ticket);
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
        cmocka_unit_test(a_lost_copy_is_forgotten),
        cmocka_unit_test(a_pool_tells_when_a_slot_may_be_read_to),
        cmocka_unit_test(a_second_user_shares_the_first_ones_read),
        cmocka_unit_test(a_failed_read_can_be_tried_again),
        cmocka_unit_test(an_expert_never_copied_gives_its_slot_back),
        cmocka_unit_test(impossible_options_and_memory_are_refused),
        cmocka_unit_test(given_back_slots_are_not_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
