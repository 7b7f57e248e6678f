#include "runtime/gpu/matrix_cores.h"

enum { TILE_ROWS = 32, COLUMN_BLOCK = 32, STEP_COLS = 64, SIDE_MIN = 4, LIST_MAX = 64 };

static bool divides(uint32_t side, uint32_t whole)
{
    return side >= SIDE_MIN && whole % side == 0;
}

static bool usable(const struct cooperative_matrix_properties *p)
{
    return p->scope == SCOPE_SUBGROUP && p->AType == COMPONENT_FLOAT16 && p->BType == COMPONENT_FLOAT16 &&
           p->CType == COMPONENT_FLOAT32 && p->ResultType == COMPONENT_FLOAT32 && !p->saturatingAccumulation &&
           divides(p->MSize, TILE_ROWS) && divides(p->NSize, COLUMN_BLOCK) && divides(p->KSize, STEP_COLS);
}

// The largest product: fewest instructions. Of equal ones the first, which is the driver's own preference.
struct gpu_matrix_shape matrix_shape_choose(const struct cooperative_matrix_properties *list, uint32_t count)
{
    struct gpu_matrix_shape best = {0};
    for (uint32_t i = 0; i < count; i++)
        if (usable(&list[i]) && list[i].MSize * list[i].NSize * list[i].KSize > best.m * best.n * best.k)
            best = (struct gpu_matrix_shape){list[i].MSize, list[i].NSize, list[i].KSize};
    return best;
}

struct gpu_matrix_shape matrix_shape_query(VkInstance instance, VkPhysicalDevice physical)
{
    typedef VkResult(VKAPI_PTR * query_function)(VkPhysicalDevice, uint32_t *, struct cooperative_matrix_properties *);
    query_function query =
        (query_function)vkGetInstanceProcAddr(instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    struct cooperative_matrix_properties list[LIST_MAX];
    uint32_t count = LIST_MAX;
    for (uint32_t i = 0; i < LIST_MAX; i++)
        list[i] = (struct cooperative_matrix_properties){.sType = (VkStructureType)COOPERATIVE_MATRIX_PROPERTIES_TYPE};
    if (!query || query(physical, &count, list) < 0) // VK_INCOMPLETE is good enough
        return (struct gpu_matrix_shape){0};
    return matrix_shape_choose(list, count);
}
