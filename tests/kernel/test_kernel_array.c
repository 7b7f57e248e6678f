// Kernels that read an array of buffers, in parts of commands that are submitted again with other buffers in it
// (gpu_again_array): the experts of a decode, whose slabs are others in every token.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant/tile.h"
#include "runtime/ops/ops_internal.h"

enum { SIDE = 64, SLABS = 6, TILES = 3, SUBMITS_MAX = 128, ROW_BYTES = 4 * SIDE, Y_BYTES = TILES * ROW_BYTES };

// One product with an expert of each of TILES slabs, whose weights are all slab_weight[i]: row i of y is that times
// the sum of row i of x, which is SIDE * (i + 1).
struct bench {
    struct gpu_device *device;
    struct ops ops;
    struct gpu_memo memo;
    struct gpu_buffer *slabs[SLABS], *x, *tiles, *y, *out; // out: [SUBMITS_MAX][TILES][SIDE]
    float slab_weight[SLABS];
    uint32_t expected[SUBMITS_MAX][TILES], submits; // slabs of each submission
};

static void require_ok(enum sluice_status status)
{
    if (status != SLUICE_OK)
        fail_msg("%s", error_message());
}

static struct gpu_buffer *filled(struct bench *b, uint64_t bytes, float value)
{
    struct gpu_buffer *buffer;
    require_ok(gpu_buffer_create(b->device, GPU_MEMORY_UPLOAD, bytes, "test", &buffer));
    for (uint64_t i = 0; i < bytes / 4; i++)
        ((float *)gpu_buffer_map(buffer))[i] = value;
    return buffer;
}

static void slab_make(struct bench *b, uint32_t slab, float weight)
{
    b->slab_weight[slab] = weight;
    b->slabs[slab] = filled(b, quant_tile_bytes(QUANT_F32, SIDE, SIDE), weight);
}

static void setup(struct bench *b, bool no_array_updates)
{
    const struct gpu_device_options options = {.no_array_updates = no_array_updates};
    memset(b, 0, sizeof *b);
    require_ok(gpu_device_create(&options, &b->device));
    const struct gpu_caps *caps = gpu_device_caps(b->device);
    b->ops = (struct ops){.device = b->device, .caps = caps, .tuning = tuning_default(caps)};
    for (uint32_t i = 0; i < SLABS; i++)
        slab_make(b, i, (float)(i + 1));
    b->x = filled(b, Y_BYTES, 0);
    for (uint32_t i = 0; i < TILES * SIDE; i++)
        ((float *)gpu_buffer_map(b->x))[i] = (float)(i / SIDE + 1);
    b->tiles = filled(b, 256, 0);
    for (uint32_t i = 0; i < TILES; i++)
        ((struct moe_tile *)gpu_buffer_map(b->tiles))[i] = (struct moe_tile){.slab = i, .row = i, .row_count = 1};
    require_ok(gpu_buffer_create(b->device, GPU_MEMORY_DEVICE, Y_BYTES, "y", &b->y));
    require_ok(gpu_buffer_create(b->device, GPU_MEMORY_READBACK, SUBMITS_MAX * Y_BYTES, "out", &b->out));
}

static void finish(struct bench *b)
{
    for (uint32_t i = 0; i < SLABS; i++)
        gpu_buffer_destroy(b->slabs[i]);
    gpu_buffer_destroy(b->x);
    gpu_buffer_destroy(b->tiles);
    gpu_buffer_destroy(b->y);
    gpu_buffer_destroy(b->out);
    gpu_device_destroy(b->device);
}

static void record_product(struct bench *b, struct gpu_command *command, const struct gpu_range *ranges)
{
    struct moe_slab slabs[TILES];
    const struct moe_tiles tiles = {.range = gpu_range_all(b->tiles), .counts = {TILES}};
    const struct activations x = {.n = TILES, .cols = SIDE, .f32 = gpu_range_all(b->x)};
    for (uint32_t i = 0; i < TILES; i++)
        slabs[i] = (struct moe_slab){.range = ranges[i],
                                     .slot_bytes = (uint32_t)quant_tile_bytes(QUANT_F32, SIDE, SIDE),
                                     .gate_up_type = QUANT_F32,
                                     .down_type = QUANT_F32,
                                     .hidden = SIDE,
                                     .inter = SIDE};
    op_moe_down(&b->ops, command, slabs, TILES, &tiles, &x, gpu_range_all(b->y));
}

// Submits the product with these slabs, and a copy of the result to a place of its own in `out`. Returns whether the
// product was known.
static bool product(struct bench *b, const uint32_t *slabs)
{
    struct gpu_command *command;
    struct gpu_range ranges[TILES];
    for (uint32_t i = 0; i < TILES; i++)
        ranges[i] = gpu_range_all(b->slabs[slabs[i]]);
    require_ok(gpu_command_begin(b->device, &command));
    bool known = gpu_again_array(command, &b->memo, 1, ranges, TILES);
    if (!known)
        record_product(b, command, ranges);
    gpu_part(command);
    gpu_copy(command, gpu_range_all(b->y), gpu_range_make(b->out, (uint64_t)b->submits * Y_BYTES, Y_BYTES));
    require_ok(gpu_command_submit(command, NULL));
    assert_true(b->submits < SUBMITS_MAX);
    memcpy(b->expected[b->submits++], slabs, sizeof b->expected[0]);
    return known;
}

static void wait_all(struct bench *b)
{
    require_ok(gpu_wait(b->device, gpu_tick_last(b->device)));
}

static void expect_results(struct bench *b)
{
    wait_all(b);
    const float *out = gpu_buffer_map(b->out);
    for (uint32_t s = 0; s < b->submits; s++)
        for (uint32_t i = 0; i < TILES * SIDE; i++) {
            uint32_t row = i / SIDE;
            float want = b->slab_weight[b->expected[s][row]] * SIDE * (float)(row + 1);
            if (out[s * TILES * SIDE + i] != want)
                fail_msg("submission %u, row %u: %g in place of %g", s, row, (double)out[s * TILES * SIDE + i],
                         (double)want);
        }
    b->submits = 0;
}

static void choose(uint32_t turn, uint32_t *slabs)
{
    for (uint32_t i = 0; i < TILES; i++)
        slabs[i] = (turn * 7 + i * (turn % 2 ? 1 : 5)) % SLABS;
}

static void check_turns(bool no_array_updates, uint32_t *known, struct gpu_usage *usage)
{
    enum { TURNS = 60 };
    struct bench b;
    uint32_t slabs[TILES];
    setup(&b, no_array_updates);
    *known = 0;
    for (uint32_t turn = 0; turn < TURNS; turn++) {
        choose(turn, slabs);
        *known += product(&b, slabs);
        wait_all(&b);
    }
    *usage = gpu_device_usage(b.device);
    expect_results(&b);
    finish(&b);
}

// Tokens would be computed with the experts of earlier ones.
static void each_submission_reads_its_own_buffers(void **state)
{
    (void)state;
    uint32_t known;
    struct gpu_usage usage;
    check_turns(true, &known, &usage);
    check_turns(false, &known, &usage);
}

// Every layer of every token would be recorded anew on drivers whose bindings are too small for all slabs at once.
static void other_buffers_need_no_recording(void **state)
{
    (void)state;
    struct bench b;
    struct gpu_usage usage;
    uint32_t known;
    setup(&b, false);
    bool updates = gpu_device_caps(b.device)->updates_arrays;
    finish(&b);
    if (!updates)
        skip();
    check_turns(false, &known, &usage);
    assert_true(known >= 55);                            // but for the first two, and for audits
    assert_in_range(usage.recorded, 2 + 60, 2 + 60 + 2); // the copies go to other places each time
    assert_in_range(usage.sets_filled, 1, 4);
}

// What is in flight would read buffers that were put into its array for the submission behind it.
static void what_is_in_flight_keeps_its_buffers(void **state)
{
    (void)state;
    struct bench b;
    uint32_t slabs[TILES];
    setup(&b, false);
    for (uint32_t round = 0; round < 8; round++) {
        for (uint32_t turn = 0; turn < 12; turn++) {
            choose(turn + round, slabs);
            product(&b, slabs);
        }
        expect_results(&b);
    }
    finish(&b);
}

// After slots were given back kernels would read memory that is gone: the allocator gives a new buffer the address of
// the one that was destroyed, so that an array looks the same.
static void buffers_that_are_gone_are_not_read(void **state)
{
    (void)state;
    struct bench b;
    const uint32_t slabs[TILES] = {1, 2, 3};
    setup(&b, false);
    for (uint32_t round = 0; round < 7; round++) { // so few that nothing is audited
        for (uint32_t turn = 0; turn < 5; turn++) {
            bool known = product(&b, slabs);
            assert_true(!known || turn > 0);
            assert_true(known || turn < 2);
            wait_all(&b);
        }
        expect_results(&b);
        gpu_buffer_destroy(b.slabs[2]);
        slab_make(&b, 2, 100.0f + (float)round);
    }
    finish(&b);
}

int main(void)
{
    unsigned count = 0;
    if (gpu_device_list(NULL, NULL, &count) != SLUICE_OK || count == 0) {
        fprintf(stderr, "skipped: no Vulkan device: %s\n", error_message());
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_submission_reads_its_own_buffers),
        cmocka_unit_test(other_buffers_need_no_recording),
        cmocka_unit_test(what_is_in_flight_keeps_its_buffers),
        cmocka_unit_test(buffers_that_are_gone_are_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
