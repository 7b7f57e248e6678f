// Monotonic time in nanoseconds.
#ifndef SLUICE_BASE_CLOCK_H
#define SLUICE_BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_ns(void);

#endif
