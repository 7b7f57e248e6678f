// What loader.c (creation, and the caller's side), loader_read.c (what is done with the reader) and loader_thread.c
// share.
#ifndef SLUICE_OFFLOAD_LOADER_PRIVATE_H
#define SLUICE_OFFLOAD_LOADER_PRIVATE_H

#include <pthread.h>

#include "offload/loader.h"
#include "offload/verified.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"

enum { ARRIVALS_MAX = 16 }; // taken from the reader at once

// Places in an array of `capacity` entries.
struct ring {
    uint32_t first, count;
};

// A request in the reader.
struct job {
    struct loader_request request; // destination NULL: the job is free
    uint64_t version;              // of the file when it was submitted
    bool is_checked;               // it will be compared with its checksum, as far as is known by then
};

struct loader {
    const struct container *container;
    struct loader_options options;
    pthread_t thread;
    bool has_thread;

    // The caller's.
    enum loader_by by;    // who reads what is outstanding
    uint32_t outstanding; // submitted and not collected
    uint64_t wait_ns, wait_cpu_ns;
    struct clock_sample own;       // its calls that read, but for checksums and waiting
    uint64_t own_checksum_cpu_ns;  // on its thread
    uint64_t own_wait_measured_ns; // processor time of waiting for the drive, in the pieces of `own` that are measured
    uint64_t own_wait_cpu_ns;      // and in all of them: an estimate

    // Of whoever has the reader.
    struct reader *reader;
    struct error_record broken; // the reader failed: so does everything from then on
    struct job *jobs;           // [capacity], by the reader's tag
    uint32_t *free_jobs;        // [capacity], a stack
    uint32_t free_count;
    struct reader_completion arrived[ARRIVALS_MAX]; // read, not verified
    uint32_t arrived_count;
    struct verified *verified; // NULL: checksums are computed always, or never
    uint64_t checksum_cpu_ns, checksums;
    uint32_t checked_count; // jobs in the reader that are to be compared

    pthread_mutex_t mutex; // protects what follows
    pthread_cond_t work_came, result_came;
    bool thread_reads; // the thread has the reader: from a request for it until it has nothing left to do
    bool in_reader;    // it waits in reader_wait, or is about to
    bool stopping;
    uint32_t wanted;              // how many finished requests the caller waits for; 0: it does not
    struct loader_request *queue; // [capacity] ring, submitted and not in the reader
    struct ring queued;
    struct loader_completion *done; // [capacity] ring
    struct error_record *failures;  // [capacity] of the entries of done
    struct ring finished;
    struct loader_statistics statistics;
};

static inline uint32_t ring_push(struct ring *ring, uint32_t capacity)
{
    CHECK(ring->count < capacity);
    return (ring->first + ring->count++) % capacity;
}

static inline uint32_t ring_pop(struct ring *ring, uint32_t capacity)
{
    CHECK(ring->count > 0);
    uint32_t at = ring->first;
    ring->first = (at + 1) % capacity;
    ring->count--;
    return at;
}

// loader_read.c, for whoever has the reader.

// Gives the reader what is queued, as far as it takes it.
void loader_start_queued(struct loader *loader);

// How many reads to wait for when `wanted` finished requests are: those are noticed together, unless one of them is to
// be compared with its checksum while the others arrive, or the reader has no space for what is queued. Neither may
// change meanwhile: the caller has the reader, or the mutex is held.
uint32_t loader_count_awaited(const struct loader *loader, uint32_t wanted);

// Takes reads that have ended, waiting for `awaited` of them (0: looks), and hands them out with loader_hand_out.
enum sluice_status loader_take_arrivals(struct loader *loader, uint32_t awaited);

// Verifies and hands out what was taken; `status` is that of taking: after a failure everything fails.
void loader_hand_out(struct loader *loader, enum sluice_status status);

// `user` is the struct loader, whose reader exists. Ends when it is told to stop.
void *loader_thread(void *user);

#endif
