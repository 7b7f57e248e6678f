// Attention and the merge of its runs against the reference; what stores K and V is in test_kernel_rope.c.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/ops/ops_internal.h"
#include "tests/kernel/attention_case.h"
#include "tests/ref/ref_attention.h"
#include "tests/ref/ref_math.h"

// How a test cuts the positions.
struct cut {
    uint32_t segment_tokens; // capacity of every segment; 0: one for all
    uint32_t split_tokens;   // 0: one run per segment
};

static uint32_t run_count(uint32_t context, const struct cut *cut)
{
    uint32_t splits = 0;
    for (uint32_t begin = 0; begin < context; begin += cut->segment_tokens) {
        uint32_t length = context - begin < cut->segment_tokens ? context - begin : cut->segment_tokens;
        splits += (length + cut->split_tokens - 1) / cut->split_tokens;
    }
    return splits;
}

// From here on the reference's K and V are what the segment holds.
static void read_stored(struct attention *a, const struct kv_segment *g)
{
    const struct attention_shape *s = &a->shape;
    for (uint32_t p = 0; p < g->capacity && g->first + p < a->tokens; p++)
        for (uint32_t h = 0; h < s->kv_heads; h++)
            for (uint32_t d = 0; d < s->head_dim; d++) {
                size_t i = ((g->first + p) * s->kv_heads + h) * s->head_dim + d;
                a->ref_k[i] = (double)attention_stored(s, g, WHICH_K, h, p, d);
                a->ref_v[i] = (double)attention_stored(s, g, WHICH_V, h, p, d);
            }
}

// The last `queries` tokens of `a` attend to all before them: y [queries, heads * head_dim].
static struct gpu_range attend(struct ops *ops, struct attention *a, uint32_t queries, struct cut cut)
{
    const struct attention_shape *s = &a->shape;
    uint32_t context = a->tokens, row = s->heads * s->head_dim, first = context - queries, split = 0;
    cut.segment_tokens = cut.segment_tokens ? cut.segment_tokens : (context + 31) / 32 * 32;
    cut.split_tokens = cut.split_tokens ? cut.split_tokens : cut.segment_tokens;
    uint32_t splits = run_count(context, &cut);
    struct gpu_range o = buffer_output(4 * queries * row * splits);
    struct gpu_range ml = buffer_output(8 * queries * s->heads * splits);
    struct gpu_range qg = buffer_floats(buffer_data(a->qg) + first * 2 * row, queries * 2 * row), q = {0};
    for (uint32_t begin = 0; begin < context; begin += cut.segment_tokens) {
        struct kv_segment segment = attention_segment(s, begin, cut.segment_tokens);
        uint32_t end = context < begin + cut.segment_tokens ? context : begin + cut.segment_tokens;
        attention_store(a, &segment);
        read_stored(a, &segment);
        if (begin == 0)
            q = buffer_floats(buffer_data(a->q) + first * row, queries * row);
        struct gpu_command *cmd = command_open();
        uint32_t position = first;
        struct attention_shape shape = attention_shape_at(a, &position);
        op_attend(ops, cmd, &shape, q, queries, position, &segment, begin, end, cut.split_tokens, split, splits, o, ml);
        command_run(cmd);
        split += (end - begin + cut.split_tokens - 1) / cut.split_tokens;
    }
    struct activations y = {.n = queries, .cols = row, .f32 = buffer_output(4 * queries * row)};
    if (row % 32 == 0)
        add_rounded(&y);
    struct gpu_command *cmd = command_open();
    op_attend_merge(mixer_ops, cmd, s, o, ml, queries, splits, qg, &y);
    command_run(cmd);
    if (row % 32 == 0)
        assert_rounded("merge", &y);
    return y.f32;
}

static double *reference_attend(const struct attention *a, uint32_t queries)
{
    const struct attention_shape *s = &a->shape;
    size_t dim = s->head_dim, group = s->heads / s->kv_heads;
    double *y = calloc(queries * s->heads * dim, sizeof *y);
    for (size_t t = 0; t < queries; t++)
        for (size_t h = 0; h < s->heads; h++) {
            size_t token = a->tokens - queries + t, kv_offset = h / group * dim;
            double *out = y + (t * s->heads + h) * dim;
            ref_attend(a->ref_q + (token * s->heads + h) * dim, a->ref_k + kv_offset, a->ref_v + kv_offset, token + 1,
                       s->kv_heads * dim, dim, out);
            for (size_t d = 0; d < dim; d++)
                out[d] *= ref_sigmoid((double)buffer_data(a->qg)[((token * s->heads + h) * 2 + 1) * dim + d]);
        }
    return y;
}

// Matrix cores round queries and probabilities to f16, too.
#ifdef MATRIX_CORES
static const double tolerance_f16 = 2e-3, tolerance_stored_f16 = 2e-3,
                    tolerance_variants = 5e-3; // the other kind of device has none
#else
static const double tolerance_f16 = 1e-3, tolerance_stored_f16 = 1e-5, tolerance_variants = 1e-6;
#endif

// Compares with the reference on the stored numbers, and on those before they were rounded.
static void expect_attend(struct attention_shape shape, uint32_t context, uint32_t queries, struct cut cut, double gain)
{
    const double rounding[] = {[KV_F16] = tolerance_f16, [KV_F32] = 1e-5, [KV_Q8] = 1.5e-2};
    struct attention a = attention_make(shape, context, 0, gain);
    uint32_t count = queries * shape.heads * shape.head_dim;
    double *unrounded = reference_attend(&a, queries);
    struct gpu_range y = attend(mixer_ops, &a, queries, cut);
    double *want = reference_attend(&a, queries);
    double exact = shape.kv == KV_F16 ? tolerance_stored_f16 : 1e-5;
    assert_near("attention", buffer_data(y), want, count, exact * gain * gain, 0);
    assert_near("attention, storage included", buffer_data(y), unrounded, count, rounding[shape.kv] * gain * gain, 0);
    free(unrounded);
    free(want);
    attention_free(&a);
    mixer_test_teardown(NULL);
}

static void attend_agrees_with_reference(void **state)
{
    // The model's exact recall of the document is this sum.
    static const uint32_t dims[] = {8, 32, 64, 96, 128, 256};
    static const uint32_t contexts[][2] = {{5, 5}, {31, 31}, {33, 33}, {200, 4}, {300, 40}};
    (void)state;
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (size_t j = 0; j < sizeof contexts / sizeof *contexts; j++)
            for (enum kv_type kv = KV_F16; kv <= KV_Q8; kv++)
                if (kv == KV_F32 || dims[i] % 64 == 0 || (kv == KV_Q8 && dims[i] == 96)) // they take long to compile
                    expect_attend(attention_shape_make(4, 2, dims[i], 8, 1, kv), contexts[j][0], contexts[j][1],
                                  (struct cut){0}, 1);
}

static void attend_with_any_number_of_heads(void **state)
{
    // Rows of a workgroup are pairs of token and head: no ratio may mix them up.
    static const uint32_t heads[][2] = {{1, 1}, {2, 2}, {3, 1}, {6, 2}, {5, 1}, {16, 2}, {12, 1}, {16, 1}};
    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        struct attention_shape shape = attention_shape_make(heads[i][0], heads[i][1], 32, 8, 1, KV_F32);
        expect_attend(shape, 70, 70, (struct cut){0}, 1);
        expect_attend(shape, 70, 1, (struct cut){0}, 1);
        expect_attend(shape, 65, 1, (struct cut){0}, 1);
        expect_attend(shape, 1, 1, (struct cut){0}, 1);
    }
}

static void attend_far_into_a_document(void **state)
{
    // Long documents are read with wider workgroups.
    (void)state;
    expect_attend(attention_shape_make(4, 2, 8, 8, 1, KV_F16), 4200, 40, (struct cut){0}, 1);
    expect_attend(attention_shape_make(2, 1, 32, 8, 1, KV_Q8), 4200, 40, (struct cut){0}, 1);
}

static void attend_in_more_runs_than_are_merged_at_once(void **state)
{
    // The end of a long document would be missing, or count twice.
    static const uint32_t contexts[] = {2 * 32, 64 * 32, 64 * 32 + 1, 67 * 32, 128 * 32 + 7};
    (void)state;
    for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++)
        expect_attend(attention_shape_make(4, 2, 8, 8, 1, KV_F16), contexts[i], 1, (struct cut){0, 32}, 1);
}

static void runs_of_a_context_follow_from_the_device(void **state)
{
    // They round the sums: an answer would change with what a calibration measured, or memory for the runs be too
    // small.
    (void)state;
    struct ops *other = mixer_ops_other(), *software = mixer_ops->caps->is_software ? mixer_ops : other;
    struct ops *card = software == other ? mixer_ops : other;
    for (uint32_t context = 1, before = 0; context < 1 << 20; context += 1 + context / 9) {
        uint32_t tokens = op_attend_split_tokens(software, context), runs = u32_divide_up(context, tokens);
        assert_int_equal(op_attend_split_tokens(card, context), ATTEND_SPLIT_TOKENS);
        assert_true(tokens % KV_BLOCK == 0 && tokens >= ATTEND_SPLIT_TOKENS && tokens >= before);
        assert_true(runs <= 33 && (runs >= 16 || tokens == ATTEND_SPLIT_TOKENS));
        before = tokens;
    }
}

static void attend_with_large_scores(void **state)
{
    // Sharp heads have scores in the hundreds: the maximum must be subtracted before the exponential.
    (void)state;
    expect_attend(attention_shape_make(4, 2, 64, 16, 1, KV_F32), 150, 20, (struct cut){0}, 4);
    expect_attend(attention_shape_make(4, 2, 64, 16, 1, KV_F32), 150, 20, (struct cut){64, 32}, 4);
}

static void attend_in_segments_and_runs(void **state)
{
    // How memory is cut into pieces must not show in the answer, also where a run has nothing visible for a row.
    static const struct cut cuts[] = {{0, 32}, {0, 64}, {0, 96}, {32, 32}, {64, 32}, {96, 64}, {128, 0}};
    (void)state;
    struct attention_shape shape = attention_shape_make(4, 2, 64, 16, 1, KV_F32);
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        struct attention a = attention_make(shape, 230, 0, 1);
        struct gpu_range whole = attend(mixer_ops, &a, 100, (struct cut){0}),
                         parts = attend(mixer_ops, &a, 100, cuts[i]);
        double *want = buffer_doubles(whole, 100 * 256);
        assert_near("cut", buffer_data(parts), want, 100 * 256, 1e-6, 0);
        free(want);
        attention_free(&a);
        mixer_test_teardown(NULL);
    }
}

static void attend_is_the_same_alone_and_in_a_batch(void **state)
{
    // A token's result must not depend on which other tokens were computed with it.
    (void)state;
    struct attention_shape shape = attention_shape_make(4, 2, 64, 16, 1, KV_F16);
    struct attention a = attention_make(shape, 130, 0, 1);
    struct gpu_range alone = attend(mixer_ops, &a, 1, (struct cut){0, 64}),
                     batch = attend(mixer_ops, &a, 67, (struct cut){0, 64});
    assert_same_floats("last token", buffer_data(alone), buffer_data(batch) + 66 * 256, 256);
    attention_free(&a);
}

static void attend_variants_agree(void **state)
{
    // The variant that graphics cards run is tested on every device.
    (void)state;
    struct attention_shape shape = attention_shape_make(16, 2, 64, 16, 1, KV_F16);
    struct attention a = attention_make(shape, 150, 0, 2);
    struct gpu_range one = attend(mixer_ops, &a, 20, (struct cut){0, 96});
    struct gpu_range other = attend(mixer_ops_other(), &a, 20, (struct cut){0, 96});
    double *want = buffer_doubles(one, 20 * 1024);
    assert_near("variant", buffer_data(other), want, 20 * 1024, tolerance_variants, 0);
    free(want);
    attention_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        mixer_unit_test(attend_agrees_with_reference),
        mixer_unit_test(attend_with_any_number_of_heads),
        mixer_unit_test(attend_far_into_a_document),
        mixer_unit_test(attend_in_more_runs_than_are_merged_at_once),
        mixer_unit_test(runs_of_a_context_follow_from_the_device),
        mixer_unit_test(attend_with_large_scores),
        mixer_unit_test(attend_in_segments_and_runs),
        mixer_unit_test(attend_variants_agree),
        mixer_unit_test(attend_is_the_same_alone_and_in_a_batch),
    };
    return cmocka_run_group_tests(tests, mixer_group_setup, mixer_group_teardown);
}
