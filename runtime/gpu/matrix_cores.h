// Matrix cores: cooperative matrices (VK_KHR_cooperative_matrix) as drivers report them. Declared here by number,
// because Vulkan headers before 1.3.255 do not know the extension.
#ifndef SLUICE_GPU_MATRIX_CORES_H
#define SLUICE_GPU_MATRIX_CORES_H

#include <vulkan/vulkan.h>

#include "runtime/gpu/device.h"

#define COOPERATIVE_MATRIX_EXTENSION_NAME "VK_KHR_cooperative_matrix"

enum {
    COOPERATIVE_MATRIX_FEATURES_TYPE = 1000506000, // VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR
    COOPERATIVE_MATRIX_PROPERTIES_TYPE = 1000506001, // VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR
    // VkComponentTypeKHR and VkScopeKHR
    COMPONENT_FLOAT16 = 0,
    COMPONENT_FLOAT32 = 1,
    SCOPE_SUBGROUP = 3,
};

// VkPhysicalDeviceCooperativeMatrixFeaturesKHR
struct cooperative_matrix_features {
    VkStructureType sType;
    void *pNext;
    VkBool32 cooperativeMatrix, cooperativeMatrixRobustBufferAccess;
};

// VkCooperativeMatrixPropertiesKHR: one product that the device can do.
struct cooperative_matrix_properties {
    VkStructureType sType;
    void *pNext;
    uint32_t MSize, NSize, KSize;
    uint32_t AType, BType, CType, ResultType;
    VkBool32 saturatingAccumulation;
    uint32_t scope;
};

// The best shape in a driver's list that kernels can use: f16 times f16, accumulated in f32, by a subgroup, and cutting
// the 32 rows of a weight tile and blocks of 32 columns evenly. All 0 if there is none.
struct gpu_matrix_shape matrix_shape_choose(const struct cooperative_matrix_properties *list, uint32_t count);

// Asks the driver for its list and chooses. Errors (none to speak of) read as "no matrix cores".
struct gpu_matrix_shape matrix_shape_query(VkInstance instance, VkPhysicalDevice physical);

#endif
