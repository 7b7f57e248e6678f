// Commands that are submitted again as they were recorded: only where nothing about them has changed.
#include <stdbool.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "tests/gpu/gpu_fixture.h"

enum { WORDS = 256, BYTES = 4 * WORDS };

struct bench {
    struct gpu_device *device;
    uint32_t words[WORDS];
    struct gpu_buffer *x, *y;
};

static void setup(struct bench *b)
{
    b->device = gpu_fixture_device(NULL);
    for (uint32_t i = 0; i < WORDS; i++)
        b->words[i] = i * 2654435761u;
    b->x = gpu_fixture_filled(b->device, b->words, WORDS);
    b->y = gpu_fixture_buffer(b->device, GPU_MEMORY_DEVICE, 4 * BYTES);
}

static void finish(struct bench *b)
{
    gpu_buffer_destroy(b->x);
    gpu_buffer_destroy(b->y);
    gpu_device_destroy(b->device);
}

static void submit(struct gpu_device *device, struct gpu_command *command, bool waits)
{
    uint64_t tick;
    gpu_assert_ok(gpu_command_submit(command, &tick));
    if (waits)
        gpu_assert_ok(gpu_wait(device, tick));
}

// One command that writes y = x * multiplier + addend, for the first `count` words from word `to` of y on.
struct step {
    uint32_t to, count, multiplier, addend;
};

static void probe(struct bench *b, const struct step *s, bool waits)
{
    struct gpu_command *command = gpu_fixture_begin(b->device);
    gpu_fixture_probe(b->device, command, gpu_range_all(b->x), gpu_range_make(b->y, 4ull * s->to, BYTES),
                      (struct probe_push){.count = s->count, .multiplier = s->multiplier, .addend = s->addend});
    submit(b->device, command, waits);
}

static uint64_t replayed(const struct bench *b)
{
    return gpu_device_usage(b->device).replayed;
}

// Every token would be recorded again, and a processor is slower at that than a card at computing.
static void the_same_is_recorded_twice_only(void **state)
{
    (void)state;
    enum { TIMES = 20 };
    struct bench b;
    setup(&b);
    uint32_t out[WORDS];
    struct gpu_usage before = gpu_device_usage(b.device);
    for (uint32_t i = 0; i < TIMES; i++)
        probe(&b, &(struct step){0, WORDS, 3, 1}, true);
    struct gpu_usage after = gpu_device_usage(b.device);
    assert_int_equal(after.recorded - before.recorded, 2);
    assert_int_equal(after.replayed - before.replayed, TIMES - 2);
    assert_int_equal(after.dispatches - before.dispatches, TIMES);
    assert_int_equal(after.barriers - before.barriers, TIMES);
    // What it reads is what is there now, not what was there then.
    struct gpu_command *command = gpu_fixture_begin(b.device);
    gpu_clear(command, gpu_range_all(b.x));
    submit(b.device, command, false);
    probe(&b, &(struct step){0, WORDS, 3, 1}, false);
    gpu_fixture_read(b.device, b.y, out, WORDS);
    assert_int_equal(gpu_device_usage(b.device).replayed - after.replayed, 1);
    for (uint32_t i = 0; i < WORDS; i++)
        assert_int_equal(out[i], 1);
    finish(&b);
}

// A token would be computed at another one's position, or written where another one belongs.
static void what_differs_is_not_confused(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {0, WORDS, 3, 1},  {0, WORDS, 5, 1},         {0, WORDS, 3, 2}, // push constants
        {64, WORDS, 3, 1}, {2 * WORDS, WORDS, 3, 1},                   // ranges
        {0, 64, 3, 1},     {0, 128, 3, 1},                             // the grid, too
    };
    enum { STEPS = sizeof steps / sizeof *steps, ROUNDS = 4 };
    struct bench b;
    setup(&b);
    uint32_t *out = mem_alloc(4 * WORDS, 4);
    assert_non_null(out);
    for (uint32_t round = 0; round < ROUNDS; round++)
        for (uint32_t i = 0; i < STEPS; i++) {
            const struct step *s = &steps[(i * (round + 1)) % STEPS];
            struct gpu_command *command = gpu_fixture_begin(b.device);
            gpu_clear(command, gpu_range_all(b.y));
            submit(b.device, command, false);
            probe(&b, s, false);
            gpu_fixture_read(b.device, b.y, out, 4 * WORDS);
            for (uint32_t w = 0; w < 4 * WORDS; w++) {
                uint32_t at = w - s->to;
                assert_int_equal(out[w], w >= s->to && at < s->count ? b.words[at] * s->multiplier + s->addend : 0);
            }
        }
    assert_true(replayed(&b) >= STEPS * (ROUNDS - 2));
    mem_free(out);
    finish(&b);
}

// The same grid with other push constants and the same push constants with another grid.
static void grids_are_not_confused(void **state)
{
    (void)state;
    enum { ROUNDS = 5 };
    struct bench b;
    setup(&b);
    uint32_t out[WORDS];
    const struct gpu_kernel *kernel;
    gpu_assert_ok(gpu_kernel_get(b.device, SHADER_PROBE, NULL, 0, &kernel));
    const struct probe_push push = {.count = WORDS, .multiplier = 7, .addend = 1};
    const struct gpu_range ranges[] = {gpu_range_all(b.x), gpu_range_make(b.y, 0, BYTES)};
    for (uint32_t round = 0; round < ROUNDS; round++)
        for (uint32_t groups = 1; groups <= 4; groups++) {
            struct gpu_command *command = gpu_fixture_begin(b.device);
            gpu_clear(command, gpu_range_all(b.y));
            gpu_dispatch(command, kernel, ranges, 2, &push, sizeof push, groups, 1, 1);
            submit(b.device, command, false);
            gpu_fixture_read(b.device, b.y, out, WORDS);
            for (uint32_t i = 0; i < WORDS; i++)
                assert_int_equal(out[i], i < 64 * groups ? b.words[i] * 7 + 1 : 0);
        }
    assert_true(replayed(&b) >= 4 * (ROUNDS - 2));
    finish(&b);
}

// A driver may not be given the same command buffer twice at once; results of the later ones would be anything.
static void what_is_in_flight_is_recorded_anew(void **state)
{
    (void)state;
    enum { SUBMITS = 12, LOAD = 200 };
    struct bench b;
    setup(&b);
    uint32_t out[WORDS];
    struct gpu_command *commands[2];
    for (uint32_t s = 0; s < SUBMITS; s++) { // none is waited for; both of a submission are the same
        for (uint32_t c = 0; c < 2; c++) {
            commands[c] = gpu_fixture_begin(b.device);
            for (uint32_t i = 0; i < LOAD; i++)
                gpu_fixture_probe(b.device, commands[c], gpu_range_all(b.x), gpu_range_all(b.x),
                                  (struct probe_push){.count = WORDS, .multiplier = 5, .addend = i});
        }
        gpu_assert_ok(gpu_commands_submit(commands, 2, NULL));
    }
    gpu_fixture_read(b.device, b.x, out, WORDS);
    for (uint32_t i = 0; i < WORDS; i++) {
        for (uint32_t s = 0; s < 2 * SUBMITS; s++)
            for (uint32_t l = 0; l < LOAD; l++)
                b.words[i] = b.words[i] * 5 + l;
        assert_int_equal(out[i], b.words[i]);
    }
    finish(&b);
}

// Only what follows from a position would be recorded for each token, but with it everything that goes before and
// behind.
static void parts_are_found_each_for_itself(void **state)
{
    (void)state;
    enum { ROUNDS = 10 };
    struct bench b;
    setup(&b);
    uint32_t out[WORDS];
    struct gpu_usage before = gpu_device_usage(b.device);
    struct gpu_range t[] = {gpu_range_make(b.y, 0, BYTES), gpu_range_make(b.y, BYTES, BYTES),
                            gpu_range_make(b.y, 2 * BYTES, BYTES)};
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct gpu_command *command = gpu_fixture_begin(b.device);
        gpu_part(command); // nothing precedes it
        gpu_fixture_probe(b.device, command, gpu_range_all(b.x), t[0], (struct probe_push){WORDS, 3, 1});
        gpu_part(command);
        gpu_part(command);
        gpu_fixture_probe(b.device, command, t[0], t[1], (struct probe_push){WORDS, 1, round});
        gpu_part(command);
        gpu_fixture_probe(b.device, command, t[1], t[2], (struct probe_push){WORDS, 5, 7});
        gpu_part(command); // nothing follows
        submit(b.device, command, true);
    }
    struct gpu_usage after = gpu_device_usage(b.device);
    assert_int_equal(after.recorded - before.recorded, 2 + ROUNDS + 2);
    assert_int_equal(after.replayed - before.replayed, 2 * (ROUNDS - 2));
    assert_int_equal(after.barriers - before.barriers, 3 * ROUNDS);
    struct gpu_command *command = gpu_fixture_begin(b.device); // more parts than a command has
    for (uint32_t i = 0; i < 20; i++) {
        gpu_fixture_probe(b.device, command, t[2], t[2], (struct probe_push){WORDS, 1, i});
        gpu_part(command);
    }
    submit(b.device, command, false);
    gpu_fixture_read(b.device, b.y, out, 1);
    struct gpu_buffer *last = gpu_fixture_buffer(b.device, GPU_MEMORY_DEVICE, BYTES);
    command = gpu_fixture_begin(b.device);
    gpu_copy(command, t[2], gpu_range_all(last));
    submit(b.device, command, false);
    gpu_fixture_read(b.device, last, out, WORDS);
    for (uint32_t i = 0; i < WORDS; i++)
        assert_int_equal(out[i], (b.words[i] * 3 + 1 + ROUNDS - 1) * 5 + 7 + 190);
    gpu_buffer_destroy(last);
    finish(&b);
}

// y = x * 3 + addend, recorded only if it is not known. Returns whether it was known.
static bool remembered(struct bench *b, struct gpu_memo *memo, uint64_t key, struct gpu_buffer *y, uint32_t addend,
                       bool waits)
{
    struct gpu_command *command = gpu_fixture_begin(b->device);
    bool known = gpu_again(command, memo, key);
    if (!known)
        gpu_fixture_probe(b->device, command, gpu_range_all(b->x), gpu_range_make(y, 0, BYTES),
                          (struct probe_push){.count = WORDS, .multiplier = 3, .addend = addend});
    submit(b->device, command, waits);
    return known;
}

static void expect_words(struct bench *b, struct gpu_buffer *y, uint32_t addend)
{
    uint32_t out[WORDS];
    gpu_fixture_read(b->device, y, out, WORDS);
    for (uint32_t i = 0; i < WORDS; i++)
        assert_int_equal(out[i], b->words[i] * 3 + addend);
}

// Tokens would be computed with what other sessions, or buffers that are gone, left behind.
static void a_memo_knows_what_was_submitted_for_it(void **state)
{
    (void)state;
    enum { ROUNDS = 100, LEARNING = 2, CANCELLED = 7 };
    struct bench b;
    setup(&b);
    struct gpu_memo memo = {0};
    uint32_t known = 0;
    for (uint32_t round = 0; round < ROUNDS; round++)
        known += remembered(&b, &memo, 5, b.y, 5, true);
    assert_true(known >= ROUNDS - LEARNING - 4 && known < ROUNDS - LEARNING); // some are audited
    expect_words(&b, b.y, 5);
    for (uint32_t i = 0; i < CANCELLED; i++) { // what is given up can be had again
        struct gpu_command *command = gpu_fixture_begin(b.device);
        (void)gpu_again(command, &memo, 5);
        gpu_command_cancel(command);
    }
    assert_true(remembered(&b, &memo, 5, b.y, 5, true));
    assert_false(remembered(&b, &memo, 6, b.y, 6, true)); // another key
    expect_words(&b, b.y, 6);
    for (uint32_t round = 0; round < 10; round++) { // the buffer goes, and its address comes back
        struct gpu_buffer *y = gpu_fixture_buffer(b.device, GPU_MEMORY_DEVICE, BYTES);
        for (uint32_t i = 0; i < 4; i++)
            assert_true(!remembered(&b, &memo, 7, y, 7, true) || i > 0); // seen in the round before
        expect_words(&b, y, 7);
        gpu_buffer_destroy(y);
    }
    finish(&b);
}

// A part that is known would lack its end, so that the host reads too early, or be submitted while it is under way.
static void known_parts_go_with_others(void **state)
{
    (void)state;
    enum { ROUNDS = 20 };
    struct bench b;
    setup(&b);
    struct gpu_memo first = {0}, second = {0};
    struct gpu_range t[] = {gpu_range_make(b.y, 0, BYTES), gpu_range_make(b.y, BYTES, BYTES)};
    struct gpu_buffer *out = gpu_fixture_buffer(b.device, GPU_MEMORY_READBACK, BYTES);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct gpu_command *command = gpu_fixture_begin(b.device);
        if (!gpu_again(command, &first, 0))
            gpu_fixture_probe(b.device, command, gpu_range_all(b.x), t[0], (struct probe_push){WORDS, 3, 1});
        gpu_part(command);
        gpu_fixture_probe(b.device, command, t[0], t[1], (struct probe_push){WORDS, 1, round});
        if (round % 3 != 2) { // else the command ends with what varies
            if (!gpu_again(command, &second, 0))
                gpu_copy(command, t[1], gpu_range_all(out));
            gpu_part(command);
        }
        if (round % 3 == 1) // the part that ended commands does not end this one
            gpu_clear(command, t[1]);
        submit(b.device, command, true);
        for (uint32_t i = 0; i < WORDS && round % 3 != 2; i++)
            assert_int_equal(((const uint32_t *)gpu_buffer_map(out))[i], b.words[i] * 3 + 1 + round);
    }
    for (uint32_t round = 0; round < ROUNDS; round++) // none is waited for
        remembered(&b, &second, 1, b.y, 9, false);
    expect_words(&b, b.y, 9);
    gpu_buffer_destroy(out);
    finish(&b);
}

// After a budget has shrunk kernels would write into memory that is gone: the allocator gives a new buffer the address
// of one that was destroyed, so that its commands look the same.
static void commands_of_a_destroyed_buffer_are_gone(void **state)
{
    (void)state;
    enum { ROUNDS = 30, TIMES = 4 };
    struct bench b;
    setup(&b);
    uint32_t out[WORDS];
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct gpu_buffer *y = gpu_fixture_buffer(b.device, GPU_MEMORY_DEVICE, BYTES);
        struct gpu_buffer *z = gpu_fixture_buffer(b.device, GPU_MEMORY_DEVICE, BYTES); // in copies only
        for (uint32_t i = 0; i < TIMES; i++) {
            struct gpu_command *command = gpu_fixture_begin(b.device);
            gpu_fixture_probe(b.device, command, gpu_range_all(b.x), gpu_range_all(y),
                              (struct probe_push){.count = WORDS, .multiplier = 5, .addend = 9});
            gpu_part(command);
            gpu_copy(command, gpu_range_all(y), gpu_range_all(z));
            submit(b.device, command, true);
        }
        gpu_fixture_read(b.device, z, out, WORDS);
        for (uint32_t i = 0; i < WORDS; i++)
            assert_int_equal(out[i], b.words[i] * 5 + 9);
        gpu_buffer_destroy(round % 2 ? y : z);
        gpu_buffer_destroy(round % 2 ? z : y);
    }
    finish(&b);
}

// Memory would grow with every prompt length, and descriptor sets would run out.
static void what_is_kept_is_bounded(void **state)
{
    (void)state;
    enum { DIFFERENT = 1400, TIMES = 3, MOST = 1100 };
    struct bench b;
    setup(&b);
    for (uint32_t i = 0; i < DIFFERENT; i++)
        for (uint32_t t = 0; t < TIMES; t++)
            probe(&b, &(struct step){0, WORDS, 3, i}, true);
    struct gpu_usage usage = gpu_device_usage(b.device);
    assert_int_equal(usage.replayed, DIFFERENT * (TIMES - 2));
    assert_true(usage.command_buffers <= MOST);
    probe(&b, &(struct step){0, WORDS, 3, DIFFERENT - 1}, true); // the youngest is there still
    assert_int_equal(replayed(&b), usage.replayed + 1);
    probe(&b, &(struct step){0, WORDS, 3, 0}, true); // the oldest is not
    assert_int_equal(replayed(&b), usage.replayed + 1);
    for (uint32_t i = 0; i < 3; i++) // large ones come, too
        for (uint32_t t = 0; t < TIMES; t++) {
            uint32_t out[WORDS];
            struct gpu_command *command = gpu_fixture_begin(b.device);
            for (uint32_t d = 0; d < 20000; d++)
                gpu_fixture_probe(b.device, command, gpu_range_all(b.x), gpu_range_make(b.y, 0, BYTES),
                                  (struct probe_push){.count = 64, .multiplier = 1, .addend = i});
            submit(b.device, command, true);
            gpu_fixture_read(b.device, b.y, out, WORDS);
            assert_int_equal(out[63], b.words[63] + i);
        }
    finish(&b);
}

// Some parts of every token would be recorded anew for ever, because others of the same token take their place among
// what was seen.
static void hundreds_of_contents_do_not_push_each_other_out(void **state)
{
    (void)state;
    enum { DIFFERENT = 400, ROUNDS = 5, UNLUCKY = 25 };
    struct bench b;
    setup(&b);
    for (uint32_t round = 0; round < ROUNDS; round++)
        for (uint32_t i = 0; i < DIFFERENT; i++)
            probe(&b, &(struct step){0, WORDS, 3, i}, true);
    uint64_t recorded = gpu_device_usage(b.device).recorded;
    assert_in_range(recorded, 2 * DIFFERENT, 2 * DIFFERENT + UNLUCKY);
    finish(&b);
}

// With -v the times would be those of the first tokens.
static void measured_commands_are_recorded(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    probe(&b, &(struct step){0, WORDS, 3, 1}, true);
    probe(&b, &(struct step){0, WORDS, 3, 1}, true);
    if (!gpu_times_enable(b.device, true)) {
        finish(&b);
        skip();
    }
    uint64_t before = replayed(&b);
    for (uint32_t i = 0; i < 5; i++)
        probe(&b, &(struct step){0, WORDS, 3, 1}, true);
    assert_int_equal(replayed(&b), before);
    gpu_times_enable(b.device, false);
    probe(&b, &(struct step){0, WORDS, 3, 1}, true);
    assert_int_equal(replayed(&b), before + 1);
    finish(&b);
}

// The steps of a decode with a failing allocation; the status of the first failure.
static enum sluice_status repeat_with_failure(struct bench *b, uint64_t index)
{
    enum sluice_status status = SLUICE_OK;
    struct gpu_command *command;
    const struct gpu_kernel *kernel;
    const struct probe_push push = {.count = WORDS, .multiplier = 3, .addend = (uint32_t)index};
    const struct gpu_range ranges[] = {gpu_range_all(b->x), gpu_range_make(b->y, 0, BYTES)};
    TRY(gpu_kernel_get(b->device, SHADER_PROBE, NULL, 0, &kernel));
    mem_fail_at(index);
    for (uint32_t i = 0; i < 4; i++) {
        TRY(gpu_command_begin(b->device, &command));
        for (uint32_t d = 0; d < 200; d++)
            gpu_dispatch(command, kernel, ranges, 2, &push, sizeof push, WORDS / 64, 1, 1);
        TRY(gpu_command_submit(command, NULL));
        TRY(gpu_wait(b->device, gpu_tick_last(b->device)));
    }
fail:
    mem_fail_at(UINT64_MAX);
    return status;
}

// Running out of memory while a command is kept would crash, leak or leave half of one to be submitted.
static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (uint64_t index = 0; index < 12; index++) {
        struct bench b;
        setup(&b);
        uint32_t out[WORDS];
        enum sluice_status status = repeat_with_failure(&b, index);
        assert_true(status == SLUICE_OK || status == SLUICE_ERR_MEMORY);
        gpu_assert_ok(repeat_with_failure(&b, 1000));
        gpu_fixture_read(b.device, b.y, out, WORDS);
        for (uint32_t i = 0; i < WORDS; i++)
            assert_int_equal(out[i], b.words[i] * 3 + 1000);
        finish(&b);
    }
}

int main(void)
{
    gpu_fixture_require_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_is_recorded_twice_only),
        cmocka_unit_test(what_differs_is_not_confused),
        cmocka_unit_test(grids_are_not_confused),
        cmocka_unit_test(what_is_in_flight_is_recorded_anew),
        cmocka_unit_test(parts_are_found_each_for_itself),
        cmocka_unit_test(commands_of_a_destroyed_buffer_are_gone),
        cmocka_unit_test(what_is_kept_is_bounded),
        cmocka_unit_test(measured_commands_are_recorded),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(a_memo_knows_what_was_submitted_for_it),
        cmocka_unit_test(known_parts_go_with_others),
        cmocka_unit_test(hundreds_of_contents_do_not_push_each_other_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
