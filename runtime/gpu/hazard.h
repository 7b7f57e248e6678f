// Where a command needs barriers. Keeps the ranges that were touched since the last barrier; an operation conflicts
// when it writes what one of them touched or touches what one of them wrote. No Vulkan here.
#ifndef SLUICE_GPU_HAZARD_H
#define SLUICE_GPU_HAZARD_H

#include <stdbool.h>
#include <stdint.h>

enum { HAZARD_ACCESSES_MAX = 128 };

struct hazard_access {
    const void *buffer;  // identity only; different buffers never overlap
    uint64_t begin, end; // bytes, end exclusive
    bool written;        // written, or read and written
};

// All zero is the state right behind a barrier.
struct hazard_tracker {
    unsigned count;
    struct hazard_access accesses[HAZARD_ACCESSES_MAX];
};

// Adds the accesses of one operation (at most HAZARD_ACCESSES_MAX), which do not conflict with each other. True: a
// barrier must be recorded in front of it, and the tracker starts over from this operation. A full tracker asks for a
// barrier too.
bool hazard_add(struct hazard_tracker *tracker, const struct hazard_access *accesses, unsigned count);

#endif
