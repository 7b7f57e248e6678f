// Order of measured values. None of them is a NaN.
#ifndef SLUICE_BASE_DOUBLES_H
#define SLUICE_BASE_DOUBLES_H

#include <stddef.h>
#include <stdlib.h>

static inline int doubles_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// values[count] in rising order.
static inline void doubles_sort(double *values, size_t count)
{
    qsort(values, count, sizeof *values, doubles_compare);
}

// Sorts them and returns the one in the middle, of an even number the upper of two. count >= 1.
static inline double doubles_median(double *values, size_t count)
{
    doubles_sort(values, count);
    return values[count / 2];
}

#endif
