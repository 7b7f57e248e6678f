// Compute kernels: an embedded SPIR-V module (shaders/) specialised by constants.
#ifndef SLUICE_GPU_KERNEL_H
#define SLUICE_GPU_KERNEL_H

#include "runtime/gpu/device.h"
#include "shaders/shader_table.h" // enum shader_id, struct shader_module: generated from the manifest and SPIR-V reflection

enum { GPU_KERNEL_CONSTANTS_MAX = 12 };

struct gpu_kernel;

// The pipeline of `shader` with specialisation constants 0..count-1 set to `constants`. Made at first use and kept
// until the device is destroyed, so that the same arguments return the same kernel. Errors: SLUICE_ERR_DEVICE (names
// the shader).
enum sluice_status gpu_kernel_get(struct gpu_device *device, enum shader_id shader, const uint32_t *constants,
                                  unsigned count, const struct gpu_kernel **kernel);

#endif
