// The known-answer test: matrix products, and on matrix cores attention too, whose sums are whole numbers below 2^24,
// so that every order of adding gives the same f32 and one wrong bit is a wrong driver.
#ifndef SLUICE_OPS_SELF_TEST_H
#define SLUICE_OPS_SELF_TEST_H

#include "runtime/ops/ops_internal.h"

// Computes with the plain paths of ops->tuning, then with one of `paths` (mask of enum tuning_path) after the other
// switched on as in ops->tuning. *failed = mask of those whose results were wrong. Errors: SLUICE_ERR_DEVICE (the plain
// paths are wrong: the device cannot be used; or it failed), SLUICE_ERR_MEMORY, SLUICE_ERR_DEVICE_MEMORY.
enum sluice_status self_test_run(struct ops *ops, uint32_t paths, const struct ops_hooks *hooks, uint32_t *failed);

#endif
