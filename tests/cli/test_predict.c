// The arithmetic of `sluice plan`: drive and device give a speed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tools/predict.h"

static const struct sluice_plan plan = {
    .slots_device = 6144,
    .slots_host = 3072,
    .host_cache = true,
    .experts_total = 48 * 512,
    .expert_bytes = 1769472,
    .model = {.layers = 48, .experts = 512, .top_k = 10},
};

static const struct sluice_speed speed = {
    .prompt_tokens = 4096,
    .prefill_seconds = 5,
    .decode_seconds = 0.020,
    .decode_deep_seconds = 0.030,
    .experts_seconds = 0.0096, // 0.2 ms per layer
};

static void require_near(double value, double expected, double share)
{
    if (!(value > expected * (1 - share) && value < expected * (1 + share)))
        fail_msg("%g, expected %g", value, expected);
}

// If this fails, the predicted speed of reading a document is not that of the slower of drive and device.
static void test_prefill(void **state)
{
    (void)state;
    struct predict_input in = {&plan, &speed, .sequential_bytes_s = 7e9, .burst_bytes_s = 6e9};
    struct prediction p = predict(&in);
    require_near(p.prompt_bytes, 43.49e9, 1e-3); // a long prompt uses every expert, once
    require_near(p.read_seconds, 43.49 / 7, 1e-3);
    require_near(p.compute_seconds, 5, 1e-9);
    require_near(p.prefill_seconds, p.read_seconds, 1e-9);
    in.sequential_bytes_s = 20e9;
    require_near(predict(&in).prefill_seconds, 5, 1e-9);
    // Copies are the device's work, too.
    struct sluice_speed slow_bus = speed;
    slow_bus.copy_seconds = 1e-3;
    in.speed = &slow_bus;
    require_near(predict(&in).prefill_seconds, 5 + 24.576, 1e-3);
    // One token uses top_k experts of each layer.
    struct sluice_speed one = speed;
    one.prompt_tokens = 1;
    in.speed = &one;
    require_near(predict(&in).prompt_bytes, 48 * 10 * 1769472.0, 1e-6);
}

// If this fails, the predicted decode ignores the drive, or adds what runs at the same time.
static void test_decode(void **state)
{
    (void)state;
    struct predict_input in = {&plan, &speed, .sequential_bytes_s = 7e9, .burst_bytes_s = 6e9, .hit_device = 1};
    require_near(predict(&in).decode_seconds, 0.020, 1e-9);
    require_near(predict(&in).decode_deep_seconds, 0.030, 1e-9);
    // 2 misses per layer: 0.59 ms of reading, during which 8 experts run of which each takes 0.02 ms.
    in.hit_device = 0.8;
    struct prediction p = predict(&in);
    require_near(p.misses_per_layer, 2, 1e-6);
    require_near(p.token_bytes, 48 * 2 * 1769472.0, 1e-6);
    require_near(p.decode_read_seconds, 0.0283, 1e-3);
    require_near(p.decode_seconds, 0.020 + 0.0283 - 48 * 8 * 0.00002, 1e-3);
    // Main memory takes them over: nothing is read, copies remain.
    in.hit_host = 0.2;
    struct sluice_speed bus = speed;
    bus.copy_seconds = 1e-4;
    in.speed = &bus;
    require_near(predict(&in).decode_seconds, 0.020 + 48 * 2e-4, 1e-6);
}

// If this fails, the worst case that is predicted without --hit-rate is not that of the planned slots.
static void test_hits(void **state)
{
    (void)state;
    double device, host;
    predict_hits(&plan, &device, &host);
    require_near(device, 0.25, 1e-9);
    require_near(host, 0.125, 1e-9);
    struct sluice_plan other = plan;
    other.host_cache = false;
    other.slots_device = other.experts_total;
    predict_hits(&other, &device, &host);
    require_near(device, 1, 1e-9);
    assert_true(host == 0);
}

// If this fails, a model without routed experts has no prediction, or one of NaN.
static void test_dense(void **state)
{
    (void)state;
    const struct sluice_plan dense = {.model = {.layers = 4}};
    const struct predict_input in = {.plan = &dense, .speed = &speed};
    struct prediction p = predict(&in);
    require_near(p.prefill_seconds, 5, 1e-9);
    require_near(p.decode_seconds, 0.020, 1e-9);
    assert_true(p.read_seconds == 0 && p.token_bytes == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefill),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_hits),
        cmocka_unit_test(test_dense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
