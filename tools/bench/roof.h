// What a device can do at most, as far as simple kernels get it out: the roof that the real kernels are compared with.
#ifndef SLUICE_BENCH_ROOF_H
#define SLUICE_BENCH_ROOF_H

#include "tools/bench/stopwatch.h"

// Rates are per second of stopwatch_basis, the best of a few sizes of workgroup and grid.
struct roof {
    double read_bytes_s;      // 16-byte loads from a buffer larger than the caches
    double dot_ops_s;         // 8-bit multiply-adds with a 32-bit sum, two operations each
    double fma_ops_s;         // f32 multiply-adds, two operations each
    const char *dot_way;      // the fastest way to that: "dot product instruction" and the like
    double round_trip_s;      // on the wall: submit one small dispatch and wait for it; median
    double record_s;          // on the wall: record one dispatch
    double dispatch_s;        // one more small dispatch in a command, independent of the others
    double dependent_s;       // one more that needs a barrier
    double host_read_bytes_s; // what one thread of the host reads from memory, per second of its processor time
};

// Takes a few seconds. gpu_times_enable is on. Errors: SLUICE_ERR_DEVICE, SLUICE_ERR_DEVICE_MEMORY, SLUICE_ERR_MEMORY.
enum sluice_status roof_probe(struct gpu_device *device, struct roof *roof);

#endif
