// Brings expert records from the drive into memory, verified, in one of two ways:
//
//   BY_THREAD   submit --> [queue] --> thread: reader (io_uring or pool) --> checksum --> [finished] --> collect
//   BY_CALLER   submit: reader ----------------- collect: waits for the reader --> checksum ----------------^
//
// By a thread of the loader's own reads are submitted, collected and checked while the caller records commands or waits
// for the device, so that the drive never waits for the caller: for many reads. By the caller nobody has to be woken,
// twice per batch: for a few that are waited for at once. There is one reader, which changes hands when nothing is
// outstanding.
//
// Records are requested from the drive in the order of submission, as many at once as the reader's depth allows. Reads
// that the caller waits for together are waited for together, unless there are checksums to compute meanwhile.
//
// Threads: one caller at a time; while something is outstanding, the one that submitted it. The loader's thread takes
// no signals. Nothing is allocated after creation.
#ifndef SLUICE_OFFLOAD_LOADER_H
#define SLUICE_OFFLOAD_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "offload/container.h"
#include "offload/reader.h"

// Which records are compared with their checksum: each once, and again after the file was changed (verified.h); every
// one that is read; none.
enum loader_verify { LOADER_VERIFY_ONCE, LOADER_VERIFY_ALWAYS, LOADER_VERIFY_NEVER };

enum loader_by { LOADER_BY_THREAD, LOADER_BY_CALLER };

struct loader_options {
    struct reader_options reader; // how to read; same_file and same_file_descriptor are set from the container
    uint32_t capacity;            // requests that are submitted and not yet collected, at most; >= 1
    enum loader_verify verify;
};

struct loader_request {
    uint32_t layer, expert; // has experts, exists (checked)
    void *destination;      // record_bytes of the layer; valid until collected
    uint64_t tag;           // the caller's
};

struct loader_completion {
    uint64_t tag;
    // NULL: the record is there, and verified as loader_options.verify says. Else SLUICE_ERR_IO or SLUICE_ERR_CHECKSUM,
    // naming layer and expert; valid until the next loader_submit.
    const struct error_record *failure;
};

struct loader_statistics {
    struct reader_statistics reader; // wait_ns is that of whoever read
    uint64_t wait_ns;                // spent by the caller inside loader_collect, until enough had come
    // The caller's processor time of waiting for the thread or the drive: going to sleep and waking up; where it reads
    // itself also noticing that reads have ended, and estimated from one call in seven (the clock is a system call).
    uint64_t wait_cpu_ns;
    // Processor time of reading: of the loader's thread, the reader's, and of the caller where it reads itself (without
    // its waiting; an estimate, too); system calls and checksums.
    uint64_t cpu_ns;
    uint64_t caller_cpu_ns;   // of that, on the caller's thread
    uint64_t checksum_cpu_ns; // of cpu_ns, checksums
    uint64_t checksums;       // records whose checksum was computed
};

struct loader;

// The container must outlive the loader. Errors as reader_create; SLUICE_ERR_MEMORY; SLUICE_ERR_IO (no thread).
enum sluice_status loader_create(const struct container *container, const struct loader_options *options,
                                 struct loader **loader);

// Waits for what is in flight; drops the rest. NULL is allowed.
void loader_destroy(struct loader *loader);

// How many requests can be submitted now.
uint32_t loader_space(const struct loader *loader);

// Submits all requests; more than the capacity leaves is our own bug (checked). Never waits for the drive. What is
// submitted while something is outstanding is read by whoever reads that.
void loader_submit(struct loader *loader, const struct loader_request *requests, uint32_t count, enum loader_by by);

// Takes up to `max` finished requests into `out`, waiting until there are `min` of them; `min` is lowered to what is
// outstanding. Returns how many. Signals that the caller's thread handles meanwhile do not end the waiting.
uint32_t loader_collect(struct loader *loader, uint32_t min, uint32_t max, struct loader_completion *out);

// See reader_region_shrink. Nothing is outstanding.
void loader_region_shrink(struct loader *loader, uint64_t bytes);

struct loader_statistics loader_statistics(struct loader *loader);

#endif
