#include "runtime/base/mem.h"
#include "runtime/ops/ops_internal.h"

enum sluice_status ops_create(struct gpu_device *device, struct ops **ops_out)
{
    struct ops *ops = mem_alloc(1, sizeof *ops);
    if (!ops)
        return SLUICE_ERR_MEMORY;
    ops->device = device;
    ops->caps = gpu_device_caps(device);
    enum sluice_status status = matmul_tune(ops);
    if (status < 0) {
        ops_destroy(ops);
        return status;
    }
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
