// What the files of runtime/ops share. Not for other folders.
#ifndef SLUICE_OPS_OPS_INTERNAL_H
#define SLUICE_OPS_OPS_INTERNAL_H

#include "runtime/base/check.h"
#include "runtime/ops/ops.h"

enum { MATMUL_COLUMN_CHOICES = 4, MATMUL_SLICES_MAX = 8 };

// How matmul.comp is specialised on this device. Results do not depend on it.
struct matmul_tuning {
    uint32_t lanes, rows_per_lane; // their product is a multiple of 32
    // Rising counts of columns, 0 ends a list: [x in f32, in 8 bits][one matrix, a pair].
    uint32_t columns[2][2][MATMUL_COLUMN_CHOICES];
    uint32_t slice_columns_max; // up to so many columns at once the slices of a row go to different lanes
    bool integer_dot, unrolled;
    bool read_ahead; // touch the next weights
};

struct ops {
    struct gpu_device *device;   // not owned
    const struct gpu_caps *caps; // of `device`
    struct matmul_tuning matmul;
};

// Sets ops->matmul; everything else in `ops` is there. On a software driver it measures, for some tens of milliseconds.
enum sluice_status matmul_tune(struct ops *ops);

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

static inline uint32_t ops_divide_up(uint32_t count, uint32_t size)
{
    return count / size + (count % size != 0);
}

static inline uint32_t ops_min(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

#endif
