// Which shape of matrix product is used, on lists that drivers report and on ones that they might.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/gpu/matrix_cores.h"

enum { F16 = COMPONENT_FLOAT16, F32 = COMPONENT_FLOAT32, S8 = 3, U8 = 7, S32 = 5, BF16 = 1000141000, WORKGROUP = 2 };

#define SHAPE(m, n, k, in, out)                                                                        \
    {                                                                                                  \
        .MSize = m, .NSize = n, .KSize = k, .AType = in, .BType = in, .CType = out, .ResultType = out, \
        .scope = SCOPE_SUBGROUP                                                                        \
    }

static void expect(const struct cooperative_matrix_properties *list, uint32_t count, uint32_t m, uint32_t n, uint32_t k)
{
    struct gpu_matrix_shape shape = matrix_shape_choose(list, count);
    assert_int_equal(shape.m, m);
    assert_int_equal(shape.n, n);
    assert_int_equal(shape.k, k);
}

static void shapes_of_real_drivers_are_found(void **state)
{
    // A card whose shape is overlooked computes prompts at a fraction of its speed.
    static const struct cooperative_matrix_properties rdna3[] = {
        SHAPE(16, 16, 16, F16, F16), SHAPE(16, 16, 16, F16, F32), SHAPE(16, 16, 16, S8, S32)};
    static const struct cooperative_matrix_properties a770[] = {SHAPE(8, 8, 16, BF16, F32), SHAPE(8, 8, 16, F16, F32),
                                                                SHAPE(8, 8, 32, S8, S32), SHAPE(8, 8, 32, U8, S32)};
    static const struct cooperative_matrix_properties b580[] = {SHAPE(8, 16, 16, F16, F16), SHAPE(8, 16, 16, BF16, F32),
                                                                SHAPE(8, 16, 16, F16, F32)};
    static const struct cooperative_matrix_properties nvidia[] = {SHAPE(16, 8, 8, F16, F32), SHAPE(16, 8, 16, F16, F32),
                                                                  SHAPE(16, 16, 16, F16, F16),
                                                                  SHAPE(16, 16, 16, F16, F32)};
    static const struct cooperative_matrix_properties software[] = {SHAPE(8, 8, 8, F16, F16), SHAPE(8, 8, 8, F16, F32)};
    (void)state;
    expect(rdna3, 3, 16, 16, 16);
    expect(a770, 4, 8, 8, 16);
    expect(b580, 3, 8, 16, 16);
    expect(nvidia, 4, 16, 16, 16);
    expect(software, 2, 8, 8, 8);
}

static void unusable_shapes_are_left_alone(void **state)
{
    // Sums in 16 bits overflow; other scopes, types and sides are not what the kernels are written for.
    static const struct cooperative_matrix_properties lists[][1] = {
        {SHAPE(16, 16, 16, F16, F16)}, {SHAPE(16, 16, 16, S8, S32)},  {SHAPE(16, 16, 16, BF16, F32)},
        {SHAPE(24, 16, 16, F16, F32)}, {SHAPE(16, 48, 16, F16, F32)}, {SHAPE(16, 16, 24, F16, F32)},
        {SHAPE(64, 16, 16, F16, F32)}, {SHAPE(16, 64, 16, F16, F32)}, {SHAPE(2, 16, 16, F16, F32)},
        {SHAPE(0, 0, 0, F16, F32)},
    };
    (void)state;
    expect(NULL, 0, 0, 0, 0);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        expect(lists[i], 1, 0, 0, 0);
    struct cooperative_matrix_properties odd = SHAPE(16, 16, 16, F16, F32);
    odd.scope = WORKGROUP;
    expect(&odd, 1, 0, 0, 0);
    odd = (struct cooperative_matrix_properties)SHAPE(16, 16, 16, F16, F32);
    odd.saturatingAccumulation = VK_TRUE;
    expect(&odd, 1, 0, 0, 0);
    odd = (struct cooperative_matrix_properties)SHAPE(16, 16, 16, F16, F32);
    odd.ResultType = F16;
    expect(&odd, 1, 0, 0, 0);
}

static void the_largest_usable_shape_wins_whatever_the_order(void **state)
{
    // Drivers list shapes in any order, and a small one means more instructions.
    static const struct cooperative_matrix_properties list[] = {SHAPE(32, 8, 16, F16, F32), SHAPE(16, 16, 32, F16, F32),
                                                                SHAPE(8, 32, 16, F16, F32),
                                                                SHAPE(64, 64, 16, F16, F32)};
    (void)state;
    expect(list, 4, 16, 16, 32);
    expect(list, 1, 32, 8, 16);
    expect(list + 2, 2, 8, 32, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_of_real_drivers_are_found),
        cmocka_unit_test(unusable_shapes_are_left_alone),
        cmocka_unit_test(the_largest_usable_shape_wins_whatever_the_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
