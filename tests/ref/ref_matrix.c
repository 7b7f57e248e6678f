#include "tests/ref/ref_matrix.h"

#include <math.h>
#include <stdlib.h>

#include "quant/tile.h"

struct ref_sum ref_row_dot(enum quant_type type, const void *tiles, size_t rows, size_t cols, size_t row,
                           const double *x)
{
    float *w = malloc(cols * sizeof *w);
    struct ref_sum sum = {0};
    quant_tile_decode_row(type, tiles, rows, cols, row, w);
    for (size_t i = 0; i < cols; i++) {
        double term = (double)w[i] * x[i];
        sum.value += term;
        sum.magnitude += fabs(term);
    }
    free(w);
    return sum;
}

// |silu'| <= 1.1 and |silu(g)| <= |g|.
struct ref_sum ref_swiglu(struct ref_sum gate, struct ref_sum up)
{
    double silu = gate.value / (1 + exp(-gate.value));
    return (struct ref_sum){.value = silu * up.value,
                            .magnitude = 1.1 * gate.magnitude * fabs(up.value) + fabs(silu) * up.magnitude};
}

void ref_quantize_q8(const float *x, size_t cols, int8_t *q, double *scales)
{
    for (size_t block = 0; block < cols / 32; block++) {
        const float *values = x + 32 * block;
        double largest = 0, sum = 0;
        for (size_t i = 0; i < 32; i++)
            largest = fmax(largest, fabs((double)values[i]));
        double d = largest / 127;
        for (size_t i = 0; i < 32; i++) {
            q[32 * block + i] = (int8_t)(d > 0 ? nearbyint((double)values[i] / d) : 0);
            sum += q[32 * block + i];
        }
        scales[2 * block] = d;
        scales[2 * block + 1] = d * sum;
    }
}
