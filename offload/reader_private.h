// What reader.c (requests, retries, statistics, the same for all) and the implementations share.
//
//   submit -> [backlog of the implementation] -> system -> reader_result: done, or started again for the rest
//                                                              '-> finished list -> wait
#ifndef SLUICE_OFFLOAD_READER_PRIVATE_H
#define SLUICE_OFFLOAD_READER_PRIVATE_H

#include <stdatomic.h>

#include "offload/reader.h"

struct reader;

// A request in flight or finished.
struct reader_job {
    struct reader_request request;
    uint64_t done_bytes; // delivered so far; the next read starts there
    uint64_t ready_ns;   // not handed out earlier (delay_ns)
    uint32_t retries;
    enum sluice_status status;
    int system_error;
    // Fault injection into the current read: it is to end early, or to fail with an errno.
    bool cut_short;
    int injected_error;
};

// One read for the system to do.
struct reader_piece {
    void *destination;
    uint64_t offset;
    uint32_t bytes;
};

struct reader_operations {
    enum reader_kind kind;
    // Sets up reader->backend, with the options in reader->options; UNSUPPORTED if the system does not allow it.
    enum sluice_status (*create)(struct reader *r);
    // Queues the next piece of the job. Never fails: what the system does not take now waits for `collect`.
    void (*start)(struct reader *r, uint32_t job);
    // Gives what was queued to the system.
    void (*flush)(struct reader *r);
    // Calls reader_result for each read that ended. Waits for the first `min` (>= 1) of those in flight at most until
    // deadline_ns of clock_ns (0: not at all, which is no system call). Something is in flight.
    enum sluice_status (*collect)(struct reader *r, uint32_t min, uint64_t deadline_ns);
    // From any thread: ends a `collect` that waits for one read, or that is about to.
    void (*wake)(struct reader *r);
    // options.region_bytes became smaller. Nothing is in flight. NULL: it registers nothing.
    void (*shrink_region)(struct reader *r);
    // Processor time of the implementation's own threads. NULL: it has none.
    uint64_t (*cpu_ns)(const struct reader *r);
    // Nothing is in flight. Must accept a backend that is NULL or half-built.
    void (*destroy)(struct reader *r);
};

extern const struct reader_operations reader_uring_operations, reader_pread_operations;

struct reader {
    const struct reader_operations *operations;
    void *backend;
    struct reader_options options;
    struct reader_faults faults;
    char *path;
    int descriptor;
    bool direct, region_registered;

    struct reader_job *jobs; // [depth]
    uint32_t *free_jobs;     // [depth], a stack
    uint32_t free_count;
    uint32_t *finished; // [depth], in order of completion
    uint32_t finished_count;
    uint32_t in_flight; // submitted, not finished
    uint64_t busy_since_ns;
    uint64_t read_count; // numbers the reads for fault injection
    atomic_bool woken;   // by reader_wake, and not noticed yet
    bool draining;       // being destroyed: start nothing again
    struct reader_statistics statistics;
};

// What the job's next read is.
struct reader_piece reader_job_piece(const struct reader *r, uint32_t job);

// A read of the job ended with `result` bytes or -errno.
void reader_result(struct reader *r, uint32_t job, int64_t result);

#endif
