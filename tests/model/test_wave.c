// When a layer's experts are computed: the decisions, and what becomes of a layer that is run by them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/model/wave.h"

enum { MAX = 64, RING = 64, READ_DEPTH = 32, LATE = 2 * RING, EXPERTS = 486 };

// A layer's sweep by a drive that reads experts into a ring of slots, and a device that computes waves in order. One
// read ends per unit of time. Uneven: up to two units between two ends, in any order among the 32 reads that are under
// way; experts take from none to twice the time. Waves are handed out in the order of the file, as a long prompt has
// it.
struct layer {
    double compute, per_wave; // of an expert; of each wave, besides
    bool uneven;
    uint64_t random;           // state
    double now, device_end;    // when everything submitted is computed
    double last_arrival;       // of those that are requested
    double arrival[EXPERTS];   // of those that are requested
    double slot_free[EXPERTS]; // of those that are handed out
    uint32_t requested, handed_out, waves, small_waves;
    double idle, late_idle; // of the device: from the first wave on, and after the first LATE units of time
    double drive_idle;      // for want of slots
};

// Evenly distributed in 0..1.
static double layer_draw(struct layer *l)
{
    l->random = l->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(l->random >> 40) / (double)(1 << 24);
}

// The read that was begun last may end before others that are under way.
static void layer_shuffle(struct layer *l, uint32_t i)
{
    uint32_t first = i < READ_DEPTH ? 0 : i - READ_DEPTH + 1;
    uint32_t other = first + (uint32_t)(layer_draw(l) * (i - first + 1));
    if (l->arrival[other] <= l->now)
        return;
    double swapped = l->arrival[i];
    l->arrival[i] = l->arrival[other];
    l->arrival[other] = swapped;
}

// Reads begin as soon as there are slots.
static void layer_request(struct layer *l)
{
    for (; l->requested < EXPERTS; l->requested++) {
        uint32_t i = l->requested;
        if (i >= RING && (i - RING >= l->handed_out || l->slot_free[i - RING] > l->now))
            return;
        l->drive_idle += l->now > l->last_arrival ? l->now - l->last_arrival : 0;
        l->last_arrival = (l->last_arrival > l->now ? l->last_arrival : l->now) + (l->uneven ? 2 * layer_draw(l) : 1);
        l->arrival[i] = l->last_arrival;
        if (l->uneven)
            layer_shuffle(l, i);
    }
}

// End of the experts that have arrived without a gap.
static uint32_t layer_arrived(const struct layer *l)
{
    uint32_t arrived = l->handed_out;
    while (arrived < l->requested && l->arrival[arrived] <= l->now)
        arrived++;
    return arrived;
}

// When the next of the reads under way ends; 0: none is.
static double layer_next_arrival(const struct layer *l)
{
    double next = 0;
    for (uint32_t i = l->handed_out; i < l->requested; i++)
        if (l->arrival[i] > l->now && (next == 0 || l->arrival[i] < next))
            next = l->arrival[i];
    return next;
}

static struct wave_view layer_look(const struct layer *l)
{
    uint32_t ready = layer_arrived(l) - l->handed_out, queued = 0;
    for (uint32_t i = 0; i < l->handed_out; i++) // a wave's slots become free together
        queued += l->slot_free[i] > l->now && (i == 0 || l->slot_free[i - 1] < l->slot_free[i]);
    bool awaited = l->requested < EXPERTS && l->requested - RING < l->handed_out;
    return (struct wave_view){
        .ready = ready < MAX ? ready : MAX,
        .left = EXPERTS - l->handed_out,
        .queued = queued,
        .arriving = layer_next_arrival(l) > 0,
        .slot_awaited = awaited,
        .slot_is_last = awaited && l->slot_free[l->requested - RING] >= l->device_end,
    };
}

static void layer_hand_out(struct layer *l, uint32_t count)
{
    double begin = l->device_end > l->now ? l->device_end : l->now;
    double late = l->device_end > LATE ? l->device_end : LATE;
    l->idle += l->waves > 0 ? begin - l->device_end : 0;
    l->late_idle += begin > late ? begin - late : 0;
    l->device_end = begin + l->per_wave;
    for (uint32_t i = 0; i < count; i++)
        l->device_end += l->compute * (l->uneven ? 2 * layer_draw(l) : 1);
    l->waves++;
    l->small_waves += count < 16;
    for (uint32_t i = 0; i < count; i++)
        l->slot_free[l->handed_out++] = l->device_end;
}

static struct layer layer_run(double compute, double per_wave, uint64_t seed)
{
    struct layer l = {.compute = compute, .per_wave = per_wave, .uneven = seed > 0, .random = seed};
    struct wave_demand demand = wave_of_prompt(MAX);
    while (l.handed_out < EXPERTS) {
        layer_request(&l);
        struct wave_view view = layer_look(&l);
        enum wave_turn turn = wave_next(&demand, &view);
        assert_int_not_equal(turn, WAVE_SUBMIT);
        if (turn == WAVE_HAND_OUT)
            layer_hand_out(&l, view.ready);
        else
            l.now = turn == WAVE_AWAIT_READ ? layer_next_arrival(&l) : l.slot_free[l.requested - RING];
    }
    return l;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

// The worst of 200 uneven ones.
static struct layer layer_worst(double compute, double per_wave)
{
    struct layer worst = {0};
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct layer l = layer_run(compute, per_wave, seed);
        worst.idle = larger(worst.idle, l.idle);
        worst.late_idle = larger(worst.late_idle, l.late_idle);
        worst.drive_idle = larger(worst.drive_idle, l.drive_idle);
        worst.small_waves = (uint32_t)larger(worst.small_waves, l.small_waves);
    }
    print_message("uneven, an expert computes %.2f reads: at worst %u small waves, device idle %.1f, late %.1f, drive "
                  "idle %.1f\n",
                  compute, worst.small_waves, worst.idle, worst.late_idle, worst.drive_idle);
    return worst;
}

// If this fails, prompts take reading and computing one after the other, or spend time on many small waves.
static void test_slow_device_hardly_waits_for_the_drive(void **state)
{
    (void)state;
    for (double compute = 1.5; compute < 20; compute *= 1.7) {
        struct layer l = layer_run(compute, 3, 0);
        print_message("an expert computes %.2f reads: %u waves, %u small, device idle %.1f, all in %.0f\n", compute,
                      l.waves, l.small_waves, l.idle, l.device_end);
        assert_true(l.idle < 4 && l.late_idle == 0);
        assert_true(l.small_waves <= 4); // while there are few, and the last
        assert_true(l.waves <= EXPERTS / 16);
    }
}

// The same with reads that end in any order, while the experts are computed in that of the file: what is read must have
// got ahead before it helps.
static void test_slow_device_waits_for_uneven_reads_in_the_beginning(void **state)
{
    (void)state;
    for (double compute = 1.5; compute < 20; compute *= 1.7) {
        struct layer worst = layer_worst(compute, 3);
        assert_true(worst.idle < READ_DEPTH);
        assert_true(worst.late_idle < (compute < 3 ? 6 : 0.001));
        assert_true(worst.small_waves <= 10);
    }
}

// If this fails, a graphics card that is faster than the drive leaves the drive waiting.
static void test_fast_device_computes_what_arrives(void **state)
{
    (void)state;
    for (double compute = 0.01; compute < 0.8; compute *= 2) {
        struct layer l = layer_run(compute, 0.1, 0);
        assert_true(l.device_end < 1.05 * EXPERTS && l.drive_idle == 0);
        assert_true(layer_worst(compute, 0.1).drive_idle < 0.05 * EXPERTS);
    }
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
        cmocka_unit_test(test_slow_device_hardly_waits_for_the_drive),
        cmocka_unit_test(test_slow_device_waits_for_uneven_reads_in_the_beginning),
        cmocka_unit_test(test_fast_device_computes_what_arrives),
        cmocka_unit_test(test_decode_computes_what_is_at_hand_at_once),
        cmocka_unit_test(test_decode_without_experts_at_hand_waits_for_all),
        cmocka_unit_test(test_slots_of_the_open_command_are_submitted_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
