// The norm and rotation of queries and keys, and what lies in the KV cache afterwards, against the reference.
#include <math.h>

#include "quant/halffloat.h"
#include "tests/kernel/attention_case.h"

// How far the stored value of row[d] may be from it: half a step of the format, besides `exact` of the row itself.
static double storage_error(const struct attention_shape *s, const double *row, uint32_t d, double exact)
{
    double largest = 0, error = exact * (1 + fabs(row[d]));
    for (uint32_t i = d / 32 * 32; s->kv == KV_Q8 && i < d / 32 * 32 + 32; i++)
        largest = fmax(largest, fabs(row[i]));
    if (s->kv == KV_F16)
        error += 1e-7 + 5e-4 * fabs(row[d]);
    return error + largest / 127 * 0.5001;
}

// Compares what lies in the segment with the reference, and that nothing else was written.
static void expect_stored(const struct attention *a, const struct kv_segment *g)
{
    const struct attention_shape *s = &a->shape;
    for (uint32_t p = 0; p < g->capacity; p++)
        for (uint32_t h = 0; h < s->kv_heads; h++)
            for (uint32_t d = 0; d < s->head_dim; d++) {
                float k = attention_stored(s, g, WHICH_K, h, p, d), v = attention_stored(s, g, WHICH_V, h, p, d);
                uint32_t token = g->first + p - a->first; // wraps for positions before
                if (token < a->tokens) {
                    const double *k_row = a->ref_k + (token * s->kv_heads + h) * s->head_dim;
                    const double *v_row = a->ref_v + (token * s->kv_heads + h) * s->head_dim;
                    assert_near("k", &k, k_row + d, 1, storage_error(s, k_row, d, 2e-6), 0);
                    assert_near("v", &v, v_row + d, 1, storage_error(s, v_row, d, 0), 0);
                } else {
                    assert_true(isnan(k) && isnan(v));
                }
            }
}

static void expect_rope(struct attention_shape shape, uint32_t tokens, uint32_t first, uint32_t segment_first,
                        uint32_t capacity)
{
    struct attention a = attention_make(shape, tokens, first, 1);
    struct kv_segment segment = attention_segment(&shape, segment_first, capacity);
    attention_store(&a, &segment);
    assert_near("q", buffer_data(a.q), a.ref_q, tokens * shape.heads * shape.head_dim, 2e-6, 2e-6);
    expect_stored(&a, &segment);
    attention_free(&a);
    mixer_test_teardown(NULL);
}

static void rope_store_agrees_with_reference(void **state)
{
    // A wrongly rotated or misplaced key loses the order of the words.
    (void)state;
    for (enum kv_type kv = KV_F16; kv <= KV_Q8; kv++) {
        if (kv != KV_Q8) // partly in the segment
            expect_rope(attention_shape_make(3, 1, 8, 6, 1.25f, kv), 33, 31, 32, 32);
        expect_rope(attention_shape_make(4, 2, 32, 8, 1, kv), 1, 0, 0, 32);
        expect_rope(attention_shape_make(4, 2, 32, 8, 1, kv), 70, 5, 0, 96);
        expect_rope(attention_shape_make(3, 1, 32, 6, 1.25f, kv), 33, 31, 32, 32); // partly in the segment
        expect_rope(attention_shape_make(2, 2, 96, 96, 1, kv), 40, 64, 32, 64);
        expect_rope(attention_shape_make(16, 2, 256, 64, 1.1386f, kv), 5, 1000, 992, 32);
        expect_rope(attention_shape_make(2, 1, 64, 16, 1, kv), 3, 100, 32, 32); // behind the segment
        expect_rope(attention_shape_make(2, 1, 64, 16, 1, kv), 3, 10, 32, 32);  // before it
    }
}

static void rope_is_exact_far_into_a_document(void **state)
{
    // A driver's own sine is useless for arguments like 262143: the end of a long document would lose its order.
    static const uint32_t first[] = {4095, 65530, 262136, 1048570, 16777184};
    (void)state;
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        expect_rope(attention_shape_make(2, 1, 64, 64, 1, KV_F32), 9, first[i], first[i] / 32 * 32, 64);
}

static void f16_storage_rounds_to_nearest_even(void **state)
{
    // K and V in 16 bits must not depend on how a driver happens to round.
    (void)state;
    struct attention_shape wide = attention_shape_make(1, 1, 64, 16, 1, KV_F32),
                           half = attention_shape_make(1, 1, 64, 16, 1, KV_F16);
    struct attention a = attention_make(wide, 64, 0, 1);
    for (uint32_t i = 0; i < 64 * 64; i++) // all exponents, exact ties, what becomes subnormal or infinite
        buffer_data(a.v)[i] = ldexpf(1 + (float)(i % 64) / 2048, (int)(i / 64) - 32) * (i % 3 ? 1.0f : -1.0f);
    struct kv_segment exact = attention_segment(&wide, 0, 64), rounded = attention_segment(&half, 0, 64);
    attention_store(&a, &exact);
    a.shape = half;
    attention_store(&a, &rounded);
    for (uint32_t p = 0; p < 64; p++)
        for (uint32_t d = 0; d < 64; d++)
            for (enum which which = WHICH_K; which <= WHICH_V; which++) {
                float want = f32_from_f16(f16_from_f32(attention_stored(&wide, &exact, which, 0, p, d)));
                float got = attention_stored(&half, &rounded, which, 0, p, d);
                assert_memory_equal(&got, &want, sizeof got);
            }
    attention_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        mixer_unit_test(rope_store_agrees_with_reference),
        mixer_unit_test(rope_is_exact_far_into_a_document),
        mixer_unit_test(f16_storage_rounds_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, mixer_group_setup, mixer_group_teardown);
}
