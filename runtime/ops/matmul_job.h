// The one way to matmul.comp: what op_matmul.c and op_moe.c have in common.
#ifndef SLUICE_OPS_MATMUL_JOB_H
#define SLUICE_OPS_MATMUL_JOB_H

#include "runtime/ops/ops_internal.h"
#include "shaders/matrix_params.h"

struct matmul_job {
    enum quant_type type;
    bool exact;        // not on matrix cores
    bool pair;         // gate and up tiles in turns, SwiGLU
    uint32_t row_list; // MATMUL_DENSE, MATMUL_GROUPED or MATMUL_INDIRECT
    struct gpu_range weights, y;
    const struct activations *rounded; // its 8-bit form gets y rounded; NULL: not. See matmul_job_rounds
    const struct moe_tiles *tiles;     // grouped
    const struct moe_slab *slabs;      // grouped: where the experts lie; `weights` is the first
    uint32_t slab_count;
    struct gpu_range row_token;  // indirect
    struct gpu_range gate;       // MATMUL_ADD_GATED
    const struct activations *x; // its 8-bit form is used when it is there and `type` is quantised
    struct matmul_push push;     // all but slices, block0 and stage_slices
};

// Whether the kernels for this job can round y to 8 bits themselves: those that read x in 8 bits can, except on matrix
// cores. y's rows are whole blocks of 32 then.
bool matmul_job_rounds(const struct ops *ops, const struct matmul_job *job);

void matmul_job_dispatch(struct ops *ops, struct gpu_command *cmd, const struct matmul_job *job);

#endif
