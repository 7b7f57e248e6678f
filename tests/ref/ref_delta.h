// References of gated DeltaNet: one token at a time, as the definition reads, in double precision.
#ifndef SLUICE_TESTS_REF_DELTA_H
#define SLUICE_TESTS_REF_DELTA_H

#include <stddef.h>

struct ref_delta_shape {
    size_t key_heads, value_heads, key_dim, value_dim, conv_taps;
};

// 2 * key_heads * key_dim + value_heads * value_dim
size_t ref_delta_channels(const struct ref_delta_shape *shape);

// Sorts one row of the projection in_proj_qkvz, which is grouped by key head (q, k, v of its value heads, z of its
// value heads), into channels (q heads | k heads | v heads) and z [value_heads * value_dim].
void ref_delta_split(const struct ref_delta_shape *shape, const double *qkvz, double *channels, double *z);

// Causal depthwise convolution and silu of one token: weight [channels][taps], newest tap last;
// state [taps - 1][channels] holds the raw channels of the tokens before, oldest first, and is moved on by one.
void ref_conv_step(const struct ref_delta_shape *shape, const double *channels, const float *weight, double *state,
                   double *out);

// One token of the gated delta rule. conv [channels]; ba: per key head b of its value heads, then a of its value heads;
// a_log, dt_bias [value_heads]; state [value_heads][key_dim][value_dim], updated; o [value_heads * value_dim].
void ref_delta_step(const struct ref_delta_shape *shape, const double *conv, const double *ba, const float *a_log,
                    const float *dt_bias, double *state, double *o);

#endif
