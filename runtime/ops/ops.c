#include "runtime/base/mem.h"
#include "runtime/ops/ops_internal.h"

// A software driver runs 8 lanes at a time and pays about as much for reading one value of x as for dozens of
// multiplications, so there each lane takes several rows; it also compiles slowly, so loops stay rolled and variants
// few. GPUs read x through the scalar or constant path and want all their lanes on different rows. With 8 columns in
// f32 AMD's compiler runs out of scalar registers.
static struct matmul_tuning matmul_tuning_choose(const struct gpu_caps *caps)
{
    if (caps->is_software)
        return (struct matmul_tuning){.lanes = 8, .rows_per_lane = 4, .columns = {{{1, 4}, {1, 2}}, {{1, 4}, {1, 2}}}};
    uint32_t lanes = caps->subgroup_size > 32 ? 64 : 32;
    bool slices_fit = lanes * MATMUL_SLICES_MAX <= caps->max_invocations;
    return (struct matmul_tuning){.lanes = lanes,
                                  .rows_per_lane = 1,
                                  .columns = {{{1, 2, 4}, {1, 2, 4}}, {{1, 2, 4, 8}, {1, 2, 4, 8}}},
                                  .slice_columns_max = slices_fit ? 4 : 0,
                                  .integer_dot = true,
                                  .unrolled = true};
}

enum sluice_status ops_create(struct gpu_device *device, struct ops **ops_out)
{
    struct ops *ops = mem_alloc(1, sizeof *ops);
    if (!ops)
        return SLUICE_ERR_MEMORY;
    ops->device = device;
    ops->caps = gpu_device_caps(device);
    ops->matmul = matmul_tuning_choose(ops->caps);
    *ops_out = ops;
    return SLUICE_OK;
}

void ops_destroy(struct ops *ops)
{
    mem_free(ops);
}

void ops_dispatch(struct ops *ops, struct gpu_command *cmd, const struct ops_dispatch *dispatch)
{
    const struct gpu_kernel *kernel;
    enum sluice_status status =
        gpu_kernel_get(ops->device, dispatch->shader, dispatch->constants, dispatch->constant_count, &kernel);
    if (status < 0) {
        gpu_command_fail(cmd, status);
        return;
    }
    gpu_dispatch(cmd, kernel, dispatch->ranges, dispatch->range_count, dispatch->push, dispatch->push_bytes,
                 dispatch->groups_x, dispatch->groups_y, dispatch->groups_z);
}
