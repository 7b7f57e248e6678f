// How much main memory this process may still take: what the system has, and what the control groups allow. Reads the
// system: /proc/meminfo, /proc/self/cgroup, /proc/self/statm, and the memory controllers below /sys/fs/cgroup (version
// 2 and version 1).
#ifndef SLUICE_BASE_MEMORY_AVAILABLE_H
#define SLUICE_BASE_MEMORY_AVAILABLE_H

#include <stdint.h>

#include "runtime/base/status.h"

// Taken at one moment; both change all the time. UINT64_MAX: not known, or no limit.
struct memory_available {
    uint64_t bytes;        // the smaller of the two
    uint64_t system_bytes; // MemAvailable: free, or reclaimable without swapping
    // The smallest of what the process' control group and those above it leave: limit less usage, whose page cache does
    // not count because the kernel gives it up first.
    uint64_t cgroup_bytes;
};

// Nothing is an error: what cannot be read or understood counts as no limit. `root` stands before all paths; tests give
// a folder with files of that layout, everybody else "".
struct memory_available memory_available(const char *root);

// Resident memory of this process now; 0 if unknown.
uint64_t memory_resident_bytes(void);

// The most it ever had; 0 if unknown.
uint64_t memory_resident_bytes_max(void);

#endif
