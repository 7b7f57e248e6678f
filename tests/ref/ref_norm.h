// References of the norms and of the gated sum: one row at a time, in double precision. Weights are what checkpoints
// hold. Outputs may be the inputs.
#ifndef SLUICE_TESTS_REF_NORM_H
#define SLUICE_TESTS_REF_NORM_H

#include <stddef.h>

// y = x / sqrt(mean(x^2) + eps) * (1 + w)
void ref_norm_rms(const double *x, const float *w, double eps, size_t cols, double *y);

// y = x / sqrt(mean(x^2) + eps) * w * silu(z): the norm behind DeltaNet, with a plain gain
void ref_norm_gated(const double *x, const float *w, const double *z, double eps, size_t cols, double *y);

#endif
