// What the tests of the norms, of routing, of DeltaNet and of attention share: one device per program, and buffers of
// host-visible memory with canaries around them that live until the end of a test.
#ifndef SLUICE_TESTS_MIXER_FIXTURE_H
#define SLUICE_TESTS_MIXER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/ops/ops.h"

// The device and its operations; made by mixer_group_setup.
extern struct ops *mixer_ops;

// The same device with the kernel variants of the other kind of device: a GPU's on a software driver and vice versa.
struct ops *mixer_ops_other(void);

// For cmocka_run_group_tests and as per-test teardown. Without a Vulkan device the program ends with 77 (skipped). The
// teardown checks every canary and frees the test's buffers.
int mixer_group_setup(void **state);
int mixer_group_teardown(void **state);
int mixer_test_teardown(void **state);

// Deterministic random numbers.
double random_uniform(uint64_t *state, double low, double high);

// A buffer of `count` random floats in [low, high), of given floats, or of NaN (an output).
struct gpu_range buffer_random(uint64_t *state, size_t count, double low, double high);
struct gpu_range buffer_floats(const float *values, size_t count);
struct gpu_range buffer_output(size_t bytes);

// The buffer's contents, on the host.
float *buffer_data(struct gpu_range range);
// The same as doubles; free it.
double *buffer_doubles(struct gpu_range range, size_t count);

// Begins a command; submits it and waits for it.
struct gpu_command *command_open(void);
void command_run(struct gpu_command *cmd);

// Fails with `what` and the place unless |got - want| <= absolute + relative * |want| for all values.
void assert_near(const char *what, const float *got, const double *want, size_t count, double absolute,
                 double relative);
void assert_same_floats(const char *what, const float *a, const float *b, size_t count);

// Room for x's 8-bit form. Fails unless that form is what op_quantize_q8 makes of x's f32 form, bit for bit.
void add_rounded(struct activations *x);
void assert_rounded(const char *what, const struct activations *x);

#define mixer_unit_test(function) cmocka_unit_test_teardown(function, mixer_test_teardown)

#endif
