// What direct reads of a container's expert records reach, without an engine: the roof that its reading is held
// against.
#ifndef SLUICE_TOOLS_DRIVE_RATE_H
#define SLUICE_TOOLS_DRIVE_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "offload/reader.h"

enum { DRIVE_RATE_DEPTH_MAX = 32 }; // reads in flight of a prefill's sweep

struct drive_rate_options {
    enum reader_kind io;
    uint32_t depth; // reads kept in flight, 1..DRIVE_RATE_DEPTH_MAX
    bool random;    // records in random order; else in file order
    bool burst;     // all `depth` reads are complete before the next ones begin, as in decoding
    double first;   // where reading in file order begins, 0..1 of the expert section
    double seconds; // ends after so long, or when twice the section has been read
};

struct drive_rate {
    uint64_t bytes_s; // 0 if the container has no experts
    uint64_t bytes, ns;
    uint32_t depth;
    bool random, burst;
    bool is_direct; // false: this file system has no O_DIRECT, so the page cache was measured
};

// Reads records of the container at `path`, one per read as the engine does it, into memory of `depth` records. Errors:
// those of container_open and of the reader.
enum sluice_status drive_rate_measure(const char *path, const struct drive_rate_options *options,
                                      struct drive_rate *rate);

#endif
