// When a layer's experts are computed: the decisions, and what becomes of a layer that is run by them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/model/wave.h"

enum { MAX = 64, RING = 64, EXPERTS = 486 };

// A layer's sweep in a drive that reads one expert after the other into a ring of slots, and a device that computes
// waves in order. Times in units of one read.
struct layer {
    double compute, per_wave;  // of an expert; of each wave, besides
    double now, device_end;    // when everything submitted is computed
    double arrival[EXPERTS];   // of those that are requested
    double slot_free[EXPERTS]; // of those that are handed out
    uint32_t requested, handed_out, waves, small_waves;
    double idle; // of the device, from the first wave on
};

// Reads begin as soon as there are slots.
static void layer_request(struct layer *l)
{
    for (; l->requested < EXPERTS; l->requested++) {
        uint32_t i = l->requested;
        if (i >= RING && (i - RING >= l->handed_out || l->slot_free[i - RING] > l->now))
            return;
        double before = i > 0 ? l->arrival[i - 1] : 0;
        l->arrival[i] = (before > l->now ? before : l->now) + 1;
    }
}

static uint32_t layer_arrived(const struct layer *l)
{
    uint32_t arrived = l->handed_out;
    while (arrived < l->requested && l->arrival[arrived] <= l->now)
        arrived++;
    return arrived;
}

static struct wave_view layer_look(const struct layer *l)
{
    uint32_t arrived = layer_arrived(l), queued = 0;
    for (uint32_t i = 0; i < l->handed_out; i++) // a wave's slots become free together
        queued += l->slot_free[i] > l->now && (i == 0 || l->slot_free[i - 1] < l->slot_free[i]);
    bool awaited = l->requested < EXPERTS && l->requested - RING < l->handed_out;
    return (struct wave_view){
        .ready = arrived - l->handed_out < MAX ? arrived - l->handed_out : MAX,
        .left = EXPERTS - l->handed_out,
        .queued = queued,
        .arriving = arrived < l->requested,
        .slot_awaited = awaited,
        .slot_is_last = awaited && l->slot_free[l->requested - RING] >= l->device_end,
    };
}

static void layer_hand_out(struct layer *l, uint32_t count)
{
    double begin = l->device_end > l->now ? l->device_end : l->now;
    l->idle += l->waves > 0 ? begin - l->device_end : 0;
    l->device_end = begin + count * l->compute + l->per_wave;
    l->waves++;
    l->small_waves += count < 16;
    for (uint32_t i = 0; i < count; i++)
        l->slot_free[l->handed_out++] = l->device_end;
}

static struct layer layer_run(double compute, double per_wave)
{
    struct layer l = {.compute = compute, .per_wave = per_wave};
    struct wave_demand demand = wave_of_prompt(MAX);
    while (l.handed_out < EXPERTS) {
        layer_request(&l);
        struct wave_view view = layer_look(&l);
        enum wave_turn turn = wave_next(&demand, &view);
        assert_int_not_equal(turn, WAVE_SUBMIT);
        if (turn == WAVE_HAND_OUT)
            layer_hand_out(&l, view.ready);
        else
            l.now = turn == WAVE_AWAIT_READ ? l.arrival[layer_arrived(&l)] : l.slot_free[l.requested - RING];
    }
    print_message("an expert computes %.2f reads: %u waves, %u small, device idle %.1f, all in %.0f\n", compute,
                  l.waves, l.small_waves, l.idle, l.device_end);
    return l;
}

// If this fails, prompts take reading and computing one after the other, or spend time on many small waves.
static void test_slow_device_never_waits_for_the_drive(void **state)
{
    (void)state;
    for (double compute = 1.5; compute < 20; compute *= 1.7) {
        struct layer l = layer_run(compute, 3);
        assert_true(l.idle < 4);
        assert_true(l.small_waves <= 4); // while there are few, and the last
        assert_true(l.waves <= EXPERTS / 16);
    }
}

// If this fails, a graphics card that is faster than the drive leaves the drive waiting.
static void test_fast_device_computes_what_arrives(void **state)
{
    (void)state;
    for (double compute = 0.01; compute < 0.8; compute *= 2)
        assert_true(layer_run(compute, 0.1).device_end < 1.05 * EXPERTS);
}

// If this fails, experts at hand are computed after the reads instead of during them, or a token takes more
// submissions than it needs.
static void test_decode_computes_what_is_at_hand_at_once(void **state)
{
    (void)state;
    struct wave_demand demand = wave_of_decode(MAX, 10, 4, true);
    struct wave_view view = {.ready = 4, .left = 10, .queued = 1, .arriving = true};
    assert_int_equal(wave_next(&demand, &view), WAVE_HAND_OUT);
    demand = wave_of_decode(MAX, 6, 0, false);
    for (view = (struct wave_view){.left = 6, .arriving = true}; view.ready < 6; view.ready++)
        assert_int_equal(wave_next(&demand, &view), WAVE_AWAIT_READ);
    assert_int_equal(wave_next(&demand, &view), WAVE_HAND_OUT);
}

// If this fails, tokens whose experts are all on the drive, and the last layer's, cost a submission for one expert.
static void test_decode_without_experts_at_hand_waits_for_all(void **state)
{
    (void)state;
    assert_int_equal(wave_of_decode(MAX, 10, 0, true).want, 10);
    assert_int_equal(wave_of_decode(MAX, 10, 4, false).want, 10);
    assert_int_equal(wave_of_decode(8, 10, 9, true).want, 8);
}

// If this fails, a small cache waits for slots that only the command being recorded can free: the program hangs.
static void test_slots_of_the_open_command_are_submitted_first(void **state)
{
    (void)state;
    struct wave_demand prompt = wave_of_prompt(MAX), decode = wave_of_decode(MAX, 10, 0, true);
    struct wave_view view = {.left = 10, .unsubmitted = true};
    assert_int_equal(wave_next(&prompt, &view), WAVE_SUBMIT);
    assert_int_equal(wave_next(&decode, &view), WAVE_SUBMIT);
    view = (struct wave_view){.left = 10, .slot_awaited = true};
    assert_int_equal(wave_next(&decode, &view), WAVE_AWAIT_SLOT);
    view = (struct wave_view){.left = 10, .ready = 1, .queued = 2, .slot_awaited = true, .slot_is_last = true};
    assert_int_equal(wave_next(&prompt, &view), WAVE_HAND_OUT); // or the device would have nothing to do
    view.slot_is_last = false;
    assert_int_equal(wave_next(&prompt, &view), WAVE_AWAIT_SLOT);
    assert_int_equal(wave_next(&decode, &view), WAVE_HAND_OUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow_device_never_waits_for_the_drive),
        cmocka_unit_test(test_fast_device_computes_what_arrives),
        cmocka_unit_test(test_decode_computes_what_is_at_hand_at_once),
        cmocka_unit_test(test_decode_without_experts_at_hand_waits_for_all),
        cmocka_unit_test(test_slots_of_the_open_command_are_submitted_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
