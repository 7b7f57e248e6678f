// Timing of operations on a device.
//
// A device's own time is what timestamps say. A software device works in this process, on processors that other
// programs use too: there the processor time of all threads counts, and rates are per processor second.
#ifndef SLUICE_BENCH_STOPWATCH_H
#define SLUICE_BENCH_STOPWATCH_H

#include "runtime/gpu/command.h"

// Records one run of what is timed.
typedef void stopwatch_record(void *user, struct gpu_command *cmd);

struct stopwatch {
    struct gpu_device *device;
    double seconds_max; // to spend on one measurement, about; at least two runs are made
};

// Seconds per run, of the fastest submission: GPU time (or processor time), and on the wall. The first run is not
// counted. Short runs are repeated within a submission. Errors: those of gpu_command_submit.
struct stopwatch_time {
    double seconds, wall_seconds;
    double first_seconds; // wall time of the first run, in which kernels are compiled
};
enum sluice_status stopwatch_measure(const struct stopwatch *watch, stopwatch_record *record, void *user,
                                     struct stopwatch_time *time);

// "GPU time", "processor time" or, on a device without timestamps, "time on the wall".
const char *stopwatch_basis(const struct gpu_device *device);

#endif
