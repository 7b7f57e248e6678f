// Scalar functions of the references, in double precision.
#ifndef SLUICE_TESTS_REF_MATH_H
#define SLUICE_TESTS_REF_MATH_H

#include <math.h>

static inline double ref_sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static inline double ref_silu(double x)
{
    return x * ref_sigmoid(x);
}

static inline double ref_softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

#endif
