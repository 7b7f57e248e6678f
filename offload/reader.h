// Asynchronous reads from one file into the caller's memory: many requests in flight, completions in any order.
//
// Two implementations: io_uring (registered file and memory where the limits allow) and a pool of threads with pread.
// Both use O_DIRECT where the file system accepts it, else the page cache (with one warning in the log). Short reads
// are continued, EINTR and EAGAIN retried, EIO retried a few times. Nothing is allocated after creation.
//
// Threads: one at a time, except for reader_wake; while something is in flight, the one that submitted it. The pool's
// own threads are not visible.
#ifndef SLUICE_OFFLOAD_READER_H
#define SLUICE_OFFLOAD_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum reader_kind { READER_AUTO, READER_URING, READER_PREAD };

enum {
    READER_ALIGN_BYTES = 4096, // of every offset, address and size
    READER_REQUEST_BYTES_MAX = 1 << 30,
    READER_DEPTH_MAX = 1024,
};

// Fault injection for tests; all zero: none. A "read" is one operation given to the system, retries included.
struct reader_faults {
    uint32_t short_every;          // every n-th read ends after about half of its bytes
    uint32_t error_at;             // read number n (1 is the first)...
    uint32_t error_count;          // ...and the following count - 1 (0 counts as 1) ...
    int error;                     // ...fail with this errno (positive)
    uint64_t delay_ns;             // a completion is held back until so long after its submission: a drive's latency
    int setup_error;               // io_uring cannot be set up, errno
    bool old_kernel;               // io_uring knows no setup flags, and registers slowly
    int register_error;            // the memory cannot be registered, errno
    int ring_error;                // io_uring fails when it is waited for, errno
    uint64_t registered_bytes_max; // of one registered buffer, instead of the kernel limit of 1 GiB; 0: that
    int direct_error;              // O_DIRECT reads fail, errno
};

struct reader_options {
    enum reader_kind kind; // AUTO: io_uring, else the pool with a note in the log
    uint32_t depth;        // requests in flight, 1..READER_DEPTH_MAX
    bool buffered;         // use the page cache even where O_DIRECT works
    bool same_file;        // refuse unless the path leads to the file open at same_file_descriptor
    int same_file_descriptor;
    void *region;          // memory that most destinations lie in, to be registered; NULL: none. Stays the caller's,
    uint64_t region_bytes; // must outlive the reader; both multiples of 4096
    uint64_t region_unit_bytes; // size of one slot in the region, so that no registered piece splits a slot; 0: unknown
    const struct reader_faults *faults; // NULL: none; must outlive the reader
};

struct reader_request {
    uint64_t offset;   // in the file
    void *destination; // must stay valid until the completion has been collected
    uint64_t bytes;    // 4096..READER_REQUEST_BYTES_MAX
    uint64_t tag;      // the caller's
};

struct reader_completion {
    uint64_t tag;
    uint64_t offset, bytes;    // of the request
    enum sluice_status status; // OK: all bytes are there
    int system_error;          // errno of the failure; 0 if the file ended too early
};

struct reader_statistics {
    uint64_t bytes;           // delivered
    uint64_t requests, reads; // reads counts the operations, retries and continuations included
    uint64_t retries;         // after EINTR, EAGAIN, EIO
    uint64_t short_reads;
    uint64_t busy_ns; // with at least one request in flight; a completion counts as in flight until it is noticed
    uint64_t wait_ns; // spent inside reader_wait
};

struct reader;

// *r is NULL after a failure. SLUICE_ERR_UNSUPPORTED: kind is READER_URING and the system does not allow io_uring.
// SLUICE_ERR_IO: cannot open, or not the same file. SLUICE_ERR_ARGUMENT: depth or alignment.
enum sluice_status reader_create(const char *path, const struct reader_options *options, struct reader **r);

// Waits for what is in flight (the system may still be writing to the destinations). NULL is allowed.
void reader_destroy(struct reader *r);

enum reader_kind reader_kind(const struct reader *r); // URING or PREAD
bool reader_is_direct(const struct reader *r);        // O_DIRECT is in use
bool reader_is_region_registered(const struct reader *r);

// How many requests can be submitted now: depth less those submitted and not yet collected.
uint32_t reader_space(const struct reader *r);

// Takes all requests or, if count > reader_space(r), none and returns SLUICE_PENDING. Misaligned requests are our own
// bug (checked). Never blocks on the drive.
enum sluice_status reader_submit(struct reader *r, const struct reader_request *requests, uint32_t count);

// Collects between `min` and `max` completions (max >= 1; min is lowered to max and to what is outstanding) into `out`.
// Waits at most timeout_ns (UINT64_MAX: for ever; 0: looks, without a system call); SLUICE_PENDING if fewer than min
// came in time, *count of them are valid all the same. A failed request is not a failure of this call.
enum sluice_status reader_wait(struct reader *r, uint32_t min, uint32_t max, struct reader_completion *out,
                               uint32_t *count, uint64_t timeout_ns);

// From any thread: the reader_wait under way, if it waits for one request, or else the next one, returns early with
// what there is (SLUICE_PENDING). A wait for several may go on: the system is asked for all of them at once.
void reader_wake(struct reader *r);

// From now on the region is only its first `bytes` (a multiple of 4096): what lay behind is not registered any more, so
// that its memory can be given back. Nothing is in flight.
void reader_region_shrink(struct reader *r, uint64_t bytes);

// Returns completion->status; for a failure sets the message: file, offset, size, reason, what to do.
enum sluice_status reader_completion_check(const struct reader *r, const struct reader_completion *completion);

struct reader_statistics reader_statistics(const struct reader *r);

// Processor time of the pool's threads; 0 with io_uring. From any thread.
uint64_t reader_cpu_ns(const struct reader *r);

#endif
