// What the tests of rope_store and of attention share: projections with the reference's results, KV segments, and what
// lies in them.
#ifndef SLUICE_TESTS_ATTENTION_CASE_H
#define SLUICE_TESTS_ATTENTION_CASE_H

#include "tests/kernel/mixer_fixture.h"

// Projections of `tokens` tokens whose first has position `first`, and the results of the reference: q and k normalised
// and rotated, v as it is.
struct attention {
    struct attention_shape shape;
    uint32_t tokens, first;
    struct gpu_range qg, k, v, q_norm, k_norm, frequencies, q;
    double *ref_q, *ref_k, *ref_v; // [tokens][heads or kv_heads][head_dim]
};

// `gain` is the mean of the norms' weights, from 0.
struct attention attention_make(struct attention_shape shape, uint32_t tokens, uint32_t first, double gain);
void attention_free(struct attention *a);

// Filled with NaN (in q8: scales that are), so that whatever reads a position that was never stored shows.
struct kv_segment attention_segment(const struct attention_shape *shape, uint32_t first, uint32_t capacity);

struct attention_shape attention_shape_make(uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t rotary_dim,
                                            float rotary_scale, enum kv_type kv);

// The shape of a call whose first token has position *first. For half of the lengths a list says so, and *first is
// less.
struct attention_shape attention_shape_at(const struct attention *a, uint32_t *first);

// Runs op_rope_store into the segment.
void attention_store(const struct attention *a, const struct kv_segment *segment);

// What lies in a segment at (head, position in the segment, dimension): the layout of shaders/kv.glsl.
enum which { WHICH_K, WHICH_V };
float attention_stored(const struct attention_shape *s, const struct kv_segment *g, enum which which, size_t head,
                       size_t position, size_t d);

#endif
