#include "tests/ref/ref_moe.h"

#include <stdlib.h>

#include "tests/ref/ref_math.h"

static bool already_taken(const uint32_t *ids, size_t count, uint32_t id)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

// The largest logit that is not among the first `count` ids; the lowest index of equal ones.
static uint32_t next_largest(const double *logits, size_t experts, const uint32_t *ids, size_t count)
{
    uint32_t best = UINT32_MAX;
    for (uint32_t e = 0; e < experts; e++)
        if (!already_taken(ids, count, e) && (best == UINT32_MAX || logits[e] > logits[best]))
            best = e;
    return best;
}

void ref_moe_route(const double *logits, size_t experts, size_t top_k, bool renormalise, uint32_t *ids, double *weights)
{
    double all = 0, chosen = 0;
    for (size_t k = 0; k < top_k; k++)
        ids[k] = next_largest(logits, experts, ids, k);
    for (size_t e = 0; e < experts; e++)
        all += exp(logits[e] - logits[ids[0]]);
    for (size_t k = 0; k < top_k; k++)
        chosen += exp(logits[ids[k]] - logits[ids[0]]);
    for (size_t k = 0; k < top_k; k++)
        weights[k] = exp(logits[ids[k]] - logits[ids[0]]) / (renormalise ? chosen : all);
}

void ref_matvec(const float *w, const double *x, size_t rows, size_t cols, double *y)
{
    for (size_t r = 0; r < rows; r++) {
        double sum = 0;
        for (size_t c = 0; c < cols; c++)
            sum += (double)w[r * cols + c] * x[c];
        y[r] = sum;
    }
}

void ref_swiglu_add(const float *gate, const float *up, const float *down, const double *x, size_t hidden, size_t inter,
                    double factor, double *y)
{
    double *g = calloc(inter, sizeof *g), *u = calloc(inter, sizeof *u), *out = calloc(hidden, sizeof *out);
    ref_matvec(gate, x, inter, hidden, g);
    ref_matvec(up, x, inter, hidden, u);
    for (size_t i = 0; i < inter; i++)
        g[i] = ref_silu(g[i]) * u[i];
    ref_matvec(down, g, hidden, inter, out);
    for (size_t i = 0; i < hidden; i++)
        y[i] += factor * out[i];
    free(g);
    free(u);
    free(out);
}
