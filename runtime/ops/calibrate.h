// Start-up calibration: measures the knobs of the tuning one after the other and keeps the fastest choice of each.
#ifndef SLUICE_OPS_CALIBRATE_H
#define SLUICE_OPS_CALIBRATE_H

#include "runtime/ops/ops_internal.h"

// Changes ops->tuning; none of `banned` (mask of enum tuning_path) is used. Takes less than a second of processor
// time, beyond compiling the last kernel: what could not be measured by then stays. *measured is how many knobs were,
// *complete whether all. Times are GPU time; on a software driver, which works in this process, processor time, because
// that hardly depends on what else the machine does. Errors: those of gpu_buffer_create and gpu_command_submit.
enum sluice_status calibrate(struct ops *ops, uint32_t banned, uint32_t *measured, bool *complete);

#endif
