// The importance of the values of one block as fitting weights.
#ifndef SLUICE_QUANT_IMPORTANCE_H
#define SLUICE_QUANT_IMPORTANCE_H

// out[count] = importance[count] divided by its mean, plus a small floor: sums of squares then stay far from overflow,
// and values of no importance still decode to something near. All ones if `importance` is NULL or all zero.
static inline void importance_normalise(const float *importance, int count, float *out)
{
    double sum = 0;
    for (int i = 0; importance && i < count; i++)
        sum += importance[i];
    for (int i = 0; i < count; i++)
        out[i] = sum > 0 ? (float)(importance[i] * (count / sum)) + 1e-4f : 1.0f;
}

#endif
