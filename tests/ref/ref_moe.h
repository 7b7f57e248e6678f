// References of routing and of the SwiGLU feed-forward block, for one token, in double precision.
#ifndef SLUICE_TESTS_REF_MOE_H
#define SLUICE_TESTS_REF_MOE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The top_k largest of softmax(logits[experts]) by falling probability, ties to the lower index; ids[top_k] and
// weights[top_k], divided by their sum if `renormalise`.
void ref_moe_route(const double *logits, size_t experts, size_t top_k, bool renormalise, uint32_t *ids,
                   double *weights);

// y[hidden] += factor * down (silu(gate x) * (up x)); gate, up [inter, hidden], down [hidden, inter], row-major.
void ref_swiglu_add(const float *gate, const float *up, const float *down, const double *x, size_t hidden, size_t inter,
                    double factor, double *y);

// y[rows] = W[rows, cols] x
void ref_matvec(const float *w, const double *x, size_t rows, size_t cols, double *y);

#endif
