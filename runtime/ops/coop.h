// Matrix cores: the kernels matmul_coop and attend_coop. They round weights, activations, keys and probabilities to
// f16, so results differ in the last digits from those of the other kernels: whether they are used is decided once per
// device and driver (tuning.h), and then for whole prefills, never by the number of rows.
#ifndef SLUICE_OPS_COOP_H
#define SLUICE_OPS_COOP_H

#include "runtime/ops/matmul_job.h"
#include "shaders/mixer_params.h"

// Whether the job runs on matrix cores now.
bool coop_multiplies(const struct ops *ops, const struct matmul_job *job);

// Records it. The shape was checked by matmul_job_dispatch.
void coop_multiply(struct ops *ops, struct gpu_command *cmd, const struct matmul_job *job);

// Whether attention of this shape runs on matrix cores now, and its dispatch: what op_attend checked and prepared.
bool coop_attends(const struct ops *ops, const struct attention_shape *shape);
void coop_attend(struct ops *ops, struct gpu_command *cmd, const struct attention_shape *shape,
                 const struct attend_push *push, const struct gpu_range ranges[5], uint32_t split_count);

// Products whose results are known: false if the device or its compiler got one wrong, or if something
// else failed, which error_message() then says. Only where gpu_caps.matrix_cores.
bool coop_is_right(struct ops *ops);

// The same of attention, also true where it does not run on them (coop_attends).
bool coop_attention_is_right(struct ops *ops);

#endif
