// What the files of runtime/ops share. Not for other folders.
#ifndef SLUICE_OPS_OPS_INTERNAL_H
#define SLUICE_OPS_OPS_INTERNAL_H

#include "runtime/base/check.h"
#include "runtime/base/integer.h"
#include "runtime/ops/ops.h"
#include "runtime/ops/tuning.h"

struct ops {
    struct gpu_device *device;   // not owned
    const struct gpu_caps *caps; // of `device`, or said_caps
    struct gpu_caps said_caps;   // what a test says they are
    struct tuning tuning;
    bool prefill;         // what is recorded now belongs to a prefill
    char matrix_path[80]; // the name of the matrix cores
};

// One dispatch: the kernel, what it is bound to, and its grid in workgroups.
struct ops_dispatch {
    enum shader_id shader;
    uint32_t constants[GPU_KERNEL_CONSTANTS_MAX]; // specialisation constants 0..constant_count-1
    unsigned constant_count;
    const struct gpu_range *ranges; // binding i is ranges[i]
    unsigned range_count;
    const void *push;
    size_t push_bytes;
    uint32_t groups_x, groups_y, groups_z; // zero in any of them records nothing
};

// Gets the kernel and records the dispatch. A kernel that cannot be made is kept as the failure of `cmd`.
void ops_dispatch(struct ops *ops, struct gpu_command *cmd, const struct ops_dispatch *dispatch);

// Whether the kernels that own a head of `head_dim` values (shaders/round_head.glsl) fill y's 8-bit form themselves.
// Where it is present and they do not, op_quantize_q8 has to follow.
bool ops_head_rounds(uint32_t head_dim, const struct activations *y);

#endif
