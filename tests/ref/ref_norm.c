#include "tests/ref/ref_norm.h"

#include "tests/ref/ref_math.h"

static double norm_scale(const double *x, double eps, size_t cols)
{
    double squares = 0;
    for (size_t i = 0; i < cols; i++)
        squares += x[i] * x[i];
    return 1 / sqrt(squares / (double)cols + eps);
}

void ref_norm_rms(const double *x, const float *w, double eps, size_t cols, double *y)
{
    double scale = norm_scale(x, eps, cols);
    for (size_t i = 0; i < cols; i++)
        y[i] = x[i] * scale * (1 + (double)w[i]);
}

void ref_norm_gated(const double *x, const float *w, const double *z, double eps, size_t cols, double *y)
{
    double scale = norm_scale(x, eps, cols);
    for (size_t i = 0; i < cols; i++)
        y[i] = x[i] * scale * (double)w[i] * ref_silu(z[i]);
}
