// What loader.c (creation, and the caller's side) and loader_thread.c share.
#ifndef SLUICE_OFFLOAD_LOADER_PRIVATE_H
#define SLUICE_OFFLOAD_LOADER_PRIVATE_H

#include <pthread.h>

#include "offload/loader.h"
#include "offload/verified.h"
#include "runtime/base/check.h"

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
    struct reader *reader; // the thread's alone, except for reader_wake
    pthread_t thread;
    bool has_thread;
    uint32_t outstanding; // the caller's: submitted and not collected
    uint64_t wait_ns, wait_cpu_ns;

    // The thread's.
    struct job *jobs;    // [capacity], by the reader's tag
    uint32_t *free_jobs; // [capacity], a stack
    uint32_t free_count;
    struct reader_completion arrived[ARRIVALS_MAX]; // read, not verified
    uint32_t arrived_count;
    struct verified *verified; // NULL: checksums are computed always, or never
    uint64_t checksum_cpu_ns, checksums;
    uint32_t checked_count; // jobs in the reader that are to be compared
    uint32_t awaited;       // reads to wait for together

    pthread_mutex_t mutex; // protects what follows
    pthread_cond_t work_came, result_came;
    uint32_t wanted; // how many finished requests the caller waits for; 0: it does not
    bool stopping;
    bool shrinking; // the region, to region_bytes
    uint64_t region_bytes;
    bool in_reader;               // the thread waits in reader_wait, or is about to
    struct loader_request *queue; // [capacity] ring
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

// `user` is the struct loader, whose reader exists. Ends when it is told to stop.
void *loader_thread(void *user);

#endif
