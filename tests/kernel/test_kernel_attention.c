#include "tests/kernel/mixer_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/halffloat.h"
#include "runtime/ops/ops_internal.h"
#include "tests/ref/ref_attention.h"
#include "tests/ref/ref_math.h"
#include "tests/ref/ref_norm.h"

#ifdef MATRIX_CORES // only prompts use them, whose positions are in no list
enum { MATRIX = true };
#else
enum { MATRIX = false };
#endif

// Projections of `tokens` tokens whose first has position `first`, and the results of the reference: q and k normalised
// and rotated, v as it is.
struct attention {
    struct attention_shape shape;
    uint32_t tokens, first;
    struct gpu_range qg, k, v, q_norm, k_norm, frequencies, q;
    double *ref_q, *ref_k, *ref_v; // [tokens][heads or kv_heads][head_dim]
};

static void reference_rows(const struct attention *a, const float *rows, size_t heads, size_t stride, const float *norm,
                           double *out)
{
    size_t dim = a->shape.head_dim;
    for (size_t i = 0; i < a->tokens * heads; i++) {
        double *row = out + i * dim;
        for (size_t d = 0; d < dim; d++)
            row[d] = (double)rows[i * stride + d];
        ref_norm_rms(row, norm, 1e-6, dim, row);
        ref_rope(row, a->shape.rotary_dim, a->first + i / heads, buffer_data(a->frequencies),
                 (double)a->shape.rotary_scale);
    }
}

static struct attention attention_make(struct attention_shape shape, uint32_t tokens, uint32_t first, double gain)
{
    uint64_t seed = tokens + shape.head_dim;
    uint32_t dim = shape.head_dim, q_values = tokens * shape.heads * dim, kv_values = tokens * shape.kv_heads * dim;
    struct attention a = {.shape = shape, .tokens = tokens, .first = first};
    a.qg = buffer_random(&seed, 2 * q_values, -3, 3);
    a.k = buffer_random(&seed, kv_values, -3, 3);
    a.v = buffer_random(&seed, kv_values, -1, 1);
    a.q_norm = buffer_random(&seed, dim, gain - 1.5, gain - 0.5);
    a.k_norm = buffer_random(&seed, dim, gain - 1.5, gain - 0.5);
    a.frequencies = buffer_output(2 * shape.rotary_dim);
    for (uint32_t i = 0; i < shape.rotary_dim / 2; i++)
        buffer_data(a.frequencies)[i] = (float)pow(1e7, -2.0 * i / shape.rotary_dim);
    a.q = buffer_output(4 * q_values);
    a.ref_q = calloc(q_values, sizeof(double));
    a.ref_k = calloc(kv_values, sizeof(double));
    reference_rows(&a, buffer_data(a.qg), shape.heads, 2 * dim, buffer_data(a.q_norm), a.ref_q);
    reference_rows(&a, buffer_data(a.k), shape.kv_heads, dim, buffer_data(a.k_norm), a.ref_k);
    a.ref_v = buffer_doubles(a.v, kv_values);
    return a;
}

static void attention_free(struct attention *a)
{
    free(a->ref_q);
    free(a->ref_k);
    free(a->ref_v);
}

// Filled with NaN (in q8: scales that are), so that whatever reads a position that was never stored shows.
static struct kv_segment segment_make(const struct attention_shape *shape, uint32_t first, uint32_t capacity)
{
    size_t bytes = capacity / KV_BLOCK * shape->kv_heads * kv_block_bytes(shape->kv, shape->head_dim);
    struct kv_segment segment = {
        .k = buffer_output(bytes), .v = buffer_output(bytes), .first = first, .capacity = capacity};
    memset(buffer_data(segment.k), 0xFF, bytes);
    memset(buffer_data(segment.v), 0xFF, bytes);
    return segment;
}

static struct attention_shape shape_make(uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t rotary_dim,
                                         float rotary_scale, enum kv_type kv)
{
    return (struct attention_shape){.heads = heads,
                                    .kv_heads = kv_heads,
                                    .head_dim = head_dim,
                                    .rotary_dim = rotary_dim,
                                    .rotary_scale = rotary_scale,
                                    .kv = kv};
}

// The shape of a call whose first token has position *first. For half of the lengths a list says so.
static struct attention_shape shape_at(const struct attention *a, uint32_t *first)
{
    enum { LIST = 5, PLACE = 3 };
    struct attention_shape shape = a->shape;
    if (a->tokens % 2 == 0 || MATRIX)
        return shape;
    uint32_t part = *first / 3; // of the position, that is added to the list's
    shape.positions = buffer_output(LIST * sizeof(uint32_t));
    ((uint32_t *)(void *)buffer_data(shape.positions))[PLACE] = *first - part;
    shape.position_place = PLACE;
    *first = part;
    return shape;
}

static void store(const struct attention *a, const struct kv_segment *segment)
{
    struct gpu_command *cmd = command_open();
    uint32_t first = a->first;
    struct attention_shape shape = shape_at(a, &first);
    op_rope_store(mixer_ops, cmd, &shape, a->qg, a->k, a->v, a->q_norm, a->k_norm, 1e-6f, a->frequencies, a->tokens,
                  first, segment, a->q);
    command_run(cmd);
}

enum which { WHICH_K, WHICH_V };

// What lies in a segment at (head, position in the segment, dimension): the layout of shaders/kv.glsl.
static float stored(const struct attention_shape *s, const struct kv_segment *g, enum which which, size_t head,
                    size_t position, size_t d)
{
    static const size_t sizes[] = {[KV_F16] = 2, [KV_F32] = 4, [KV_Q8] = 1};
    size_t size = sizes[s->kv], per_piece = 16 / size, slot = position % KV_BLOCK, dim = s->head_dim;
    const uint8_t *block = (const uint8_t *)buffer_data(which == WHICH_K ? g->k : g->v);
    block += (head * (g->capacity / KV_BLOCK) + position / KV_BLOCK) * kv_block_bytes(s->kv, s->head_dim);
    const uint8_t *at = block + (slot * dim + d) * size;
    if (which == WHICH_K)
        at = block + (d / per_piece * KV_BLOCK + slot) * 16 + d % per_piece * size;
    uint16_t half;
    float value;
    switch (s->kv) {
    case KV_F16:
        memcpy(&half, at, sizeof half);
        return f32_from_f16(half);
    case KV_F32:
        memcpy(&value, at, sizeof value);
        return value;
    case KV_Q8:
        memcpy(&value, block + KV_BLOCK * dim + (slot * (dim / 32) + d / 32) * 4, sizeof value);
        return value * (float)*(const int8_t *)at;
    }
    return NAN;
}

// --- rope_store -----------------------------------------------------------------------------------------------------

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
                float k = stored(s, g, WHICH_K, h, p, d), v = stored(s, g, WHICH_V, h, p, d);
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
    struct kv_segment segment = segment_make(&shape, segment_first, capacity);
    store(&a, &segment);
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
            expect_rope(shape_make(3, 1, 8, 6, 1.25f, kv), 33, 31, 32, 32);
        expect_rope(shape_make(4, 2, 32, 8, 1, kv), 1, 0, 0, 32);
        expect_rope(shape_make(4, 2, 32, 8, 1, kv), 70, 5, 0, 96);
        expect_rope(shape_make(3, 1, 32, 6, 1.25f, kv), 33, 31, 32, 32); // partly in the segment
        expect_rope(shape_make(2, 2, 96, 96, 1, kv), 40, 64, 32, 64);
        expect_rope(shape_make(16, 2, 256, 64, 1.1386f, kv), 5, 1000, 992, 32);
        expect_rope(shape_make(2, 1, 64, 16, 1, kv), 3, 100, 32, 32); // behind the segment
        expect_rope(shape_make(2, 1, 64, 16, 1, kv), 3, 10, 32, 32);  // before it
    }
}

static void rope_is_exact_far_into_a_document(void **state)
{
    // A driver's own sine is useless for arguments like 262143: the end of a long document would lose its order.
    static const uint32_t first[] = {4095, 65530, 262136, 1048570, 16777184};
    (void)state;
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        expect_rope(shape_make(2, 1, 64, 64, 1, KV_F32), 9, first[i], first[i] / 32 * 32, 64);
}

static void f16_storage_rounds_to_nearest_even(void **state)
{
    // K and V in 16 bits must not depend on how a driver happens to round.
    (void)state;
    struct attention_shape wide = shape_make(1, 1, 64, 16, 1, KV_F32), half = shape_make(1, 1, 64, 16, 1, KV_F16);
    struct attention a = attention_make(wide, 64, 0, 1);
    for (uint32_t i = 0; i < 64 * 64; i++) // all exponents, exact ties, what becomes subnormal or infinite
        buffer_data(a.v)[i] = ldexpf(1 + (float)(i % 64) / 2048, (int)(i / 64) - 32) * (i % 3 ? 1.0f : -1.0f);
    struct kv_segment exact = segment_make(&wide, 0, 64), rounded = segment_make(&half, 0, 64);
    store(&a, &exact);
    a.shape = half;
    store(&a, &rounded);
    for (uint32_t p = 0; p < 64; p++)
        for (uint32_t d = 0; d < 64; d++)
            for (enum which which = WHICH_K; which <= WHICH_V; which++) {
                float want = f32_from_f16(f16_from_f32(stored(&wide, &exact, which, 0, p, d)));
                float got = stored(&half, &rounded, which, 0, p, d);
                assert_memory_equal(&got, &want, sizeof got);
            }
    attention_free(&a);
}

// --- attend ---------------------------------------------------------------------------------------------------------

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
                a->ref_k[i] = (double)stored(s, g, WHICH_K, h, p, d);
                a->ref_v[i] = (double)stored(s, g, WHICH_V, h, p, d);
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
        struct kv_segment segment = segment_make(s, begin, cut.segment_tokens);
        uint32_t end = context < begin + cut.segment_tokens ? context : begin + cut.segment_tokens;
        store(a, &segment);
        read_stored(a, &segment);
        if (begin == 0)
            q = buffer_floats(buffer_data(a->q) + first * row, queries * row);
        struct gpu_command *cmd = command_open();
        uint32_t position = first;
        struct attention_shape shape = shape_at(a, &position);
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
                    expect_attend(shape_make(4, 2, dims[i], 8, 1, kv), contexts[j][0], contexts[j][1], (struct cut){0},
                                  1);
}

static void attend_with_any_number_of_heads(void **state)
{
    // Rows of a workgroup are pairs of token and head: no ratio may mix them up.
    static const uint32_t heads[][2] = {{1, 1}, {2, 2}, {3, 1}, {6, 2}, {5, 1}, {16, 2}, {12, 1}, {16, 1}};
    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        struct attention_shape shape = shape_make(heads[i][0], heads[i][1], 32, 8, 1, KV_F32);
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
    expect_attend(shape_make(4, 2, 8, 8, 1, KV_F16), 4200, 40, (struct cut){0}, 1);
    expect_attend(shape_make(2, 1, 32, 8, 1, KV_Q8), 4200, 40, (struct cut){0}, 1);
}

static void attend_in_more_runs_than_are_merged_at_once(void **state)
{
    // The end of a long document would be missing, or count twice.
    static const uint32_t contexts[] = {2 * 32, 64 * 32, 64 * 32 + 1, 67 * 32, 128 * 32 + 7};
    (void)state;
    for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++)
        expect_attend(shape_make(4, 2, 8, 8, 1, KV_F16), contexts[i], 1, (struct cut){0, 32}, 1);
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
    expect_attend(shape_make(4, 2, 64, 16, 1, KV_F32), 150, 20, (struct cut){0}, 4);
    expect_attend(shape_make(4, 2, 64, 16, 1, KV_F32), 150, 20, (struct cut){64, 32}, 4);
}

static void attend_in_segments_and_runs(void **state)
{
    // How memory is cut into pieces must not show in the answer, also where a run has nothing visible for a row.
    static const struct cut cuts[] = {{0, 32}, {0, 64}, {0, 96}, {32, 32}, {64, 32}, {96, 64}, {128, 0}};
    (void)state;
    struct attention_shape shape = shape_make(4, 2, 64, 16, 1, KV_F32);
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
    struct attention_shape shape = shape_make(4, 2, 64, 16, 1, KV_F16);
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
    struct attention_shape shape = shape_make(16, 2, 64, 16, 1, KV_F16);
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
        mixer_unit_test(rope_store_agrees_with_reference),
        mixer_unit_test(rope_is_exact_far_into_a_document),
        mixer_unit_test(f16_storage_rounds_to_nearest_even),
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
