// References of gated attention: one head of one token at a time, in double precision.
#ifndef SLUICE_TESTS_REF_ATTENTION_H
#define SLUICE_TESTS_REF_ATTENTION_H

#include <stddef.h>

// Rotates the pairs (i, i + rotary_dim / 2) of x[rotary_dim] in place by position * frequencies[i]. The angle is
// rounded to f32 as Transformers does; cos and sin are multiplied by `scale`.
void ref_rope(double *x, size_t rotary_dim, size_t position, const float *frequencies, double scale);

// out[head_dim] = sum over p < count of softmax(q . k[p] / sqrt(head_dim)) v[p]; k[p] and v[p] are `stride` apart.
void ref_attend(const double *q, const double *k, const double *v, size_t count, size_t stride, size_t head_dim,
                double *out);

#endif
