#include "tests/ref/ref_attention.h"

#include <math.h>
#include <stdlib.h>

void ref_rope(double *x, size_t rotary_dim, size_t position, const float *frequencies, double scale)
{
    size_t half = rotary_dim / 2;
    for (size_t i = 0; i < half; i++) {
        double angle = (double)((float)position * frequencies[i]);
        double c = cos(angle) * scale, s = sin(angle) * scale;
        double low = x[i], high = x[i + half];
        x[i] = low * c - high * s;
        x[i + half] = high * c + low * s;
    }
}

void ref_attend(const double *q, const double *k, const double *v, size_t count, size_t stride, size_t head_dim,
                double *out)
{
    double *scores = calloc(count, sizeof *scores), largest = -INFINITY, sum = 0;
    for (size_t p = 0; p < count; p++) {
        for (size_t d = 0; d < head_dim; d++)
            scores[p] += q[d] * k[p * stride + d] / sqrt((double)head_dim);
        largest = fmax(largest, scores[p]);
    }
    for (size_t d = 0; d < head_dim; d++)
        out[d] = 0;
    for (size_t p = 0; p < count; p++) {
        double weight = exp(scores[p] - largest);
        sum += weight;
        for (size_t d = 0; d < head_dim; d++)
            out[d] += weight * v[p * stride + d];
    }
    for (size_t d = 0; d < head_dim; d++)
        out[d] /= sum;
    free(scores);
}
