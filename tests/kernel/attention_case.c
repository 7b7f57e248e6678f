#include "tests/kernel/attention_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/halffloat.h"
#include "tests/ref/ref_attention.h"
#include "tests/ref/ref_norm.h"

#ifdef MATRIX_CORES // only prompts use them, whose positions are in no list
enum { MATRIX = true };
#else
enum { MATRIX = false };
#endif

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

struct attention attention_make(struct attention_shape shape, uint32_t tokens, uint32_t first, double gain)
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

void attention_free(struct attention *a)
{
    free(a->ref_q);
    free(a->ref_k);
    free(a->ref_v);
}

struct kv_segment attention_segment(const struct attention_shape *shape, uint32_t first, uint32_t capacity)
{
    size_t bytes = capacity / KV_BLOCK * shape->kv_heads * kv_block_bytes(shape->kv, shape->head_dim);
    struct kv_segment segment = {
        .k = buffer_output(bytes), .v = buffer_output(bytes), .first = first, .capacity = capacity};
    memset(buffer_data(segment.k), 0xFF, bytes);
    memset(buffer_data(segment.v), 0xFF, bytes);
    return segment;
}

struct attention_shape attention_shape_make(uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t rotary_dim,
                                            float rotary_scale, enum kv_type kv)
{
    return (struct attention_shape){.heads = heads,
                                    .kv_heads = kv_heads,
                                    .head_dim = head_dim,
                                    .rotary_dim = rotary_dim,
                                    .rotary_scale = rotary_scale,
                                    .kv = kv};
}

struct attention_shape attention_shape_at(const struct attention *a, uint32_t *first)
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

void attention_store(const struct attention *a, const struct kv_segment *segment)
{
    struct gpu_command *cmd = command_open();
    uint32_t first = a->first;
    struct attention_shape shape = attention_shape_at(a, &first);
    op_rope_store(mixer_ops, cmd, &shape, a->qg, a->k, a->v, a->q_norm, a->k_norm, 1e-6f, a->frequencies, a->tokens,
                  first, segment, a->q);
    command_run(cmd);
}

float attention_stored(const struct attention_shape *s, const struct kv_segment *g, enum which which, size_t head,
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
