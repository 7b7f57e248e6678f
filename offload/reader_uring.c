// The reader on io_uring: one SQE per read, with the file and the region registered where the system allows it.
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <liburing.h>

#include "offload/reader_private.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

enum {
    REGISTERED_BYTES_MAX = 1 << 30, // of one registered buffer, a limit of the kernel
    REGISTERED_COUNT = 1000,        // buffers that the region is cut into; kernels before 5.13 take 1,024 at most
};

static const uint64_t WAKE_TAG = UINT64_MAX; // of the poll that reader_wake ends

struct uring {
    struct io_uring ring;
    bool is_set_up, is_file_registered;
    int wake_descriptor;  // an eventfd, for reader_wake; -1 before
    bool wake_armed;      // a poll of it is in the ring
    uint64_t piece_bytes; // the region is registered in pieces of so many bytes; 0: it is not
};

// A completion becomes visible when the thread that submitted enters the kernel the next time, instead of interrupting
// it (COOP_TASKRUN; kernels before 5.19 refuse the flag with EINVAL). SINGLE_ISSUER and DEFER_TASKRUN, which would tie
// the ring to one thread for good, made no difference: 6.9 and 8.9 us of processor time per read of 1.8 MB, 32 at once,
// against 7.5 and 8.0.
static int set_up_ring(struct reader *r, struct uring *u)
{
    struct io_uring_params best = {.flags = IORING_SETUP_COOP_TASKRUN}, plain = {0};
    uint32_t entries = r->options.depth + 1; // and the poll
    if (r->faults.setup_error)
        return -r->faults.setup_error;
    int error = r->faults.old_kernel ? -EINVAL : io_uring_queue_init_params(entries, &u->ring, &best);
    if (error == -EINVAL)
        error = io_uring_queue_init_params(entries, &u->ring, &plain);
    u->is_set_up = error == 0;
    return error;
}

static void register_file(struct reader *r, struct uring *u)
{
    int error = io_uring_register_files(&u->ring, &r->descriptor, 1);
    u->is_file_registered = error == 0;
    if (error)
        log_message(LOG_NOTE, "%s: io_uring did not register the file (%s); reads cost slightly more", r->path,
                    strerror(-error));
}

// Kernels before 6.12 compare every huge page that is registered with all small pages of those before it, so that 10 GB
// take a minute; huge pages that are not registered cost them little more per read.
static bool registers_slowly(const struct reader *r)
{
    enum { MAJOR = 6, MINOR = 12, FEW_BYTES = 1 << 30 };
    struct utsname name;
    unsigned major, minor;
    if (r->options.region_bytes <= FEW_BYTES || uname(&name) != 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
        return false;
    return r->faults.old_kernel || major < MAJOR || (major == MAJOR && minor < MINOR);
}

static int register_region(struct reader *r, struct uring *u, struct iovec *pieces, uint32_t count)
{
    if (r->faults.register_error)
        return -r->faults.register_error;
    int error = io_uring_register_buffers(&u->ring, pieces, count);
    struct rlimit limit;
    if (error != -ENOMEM || getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return error;
    // The soft limit is only a default; what the administrator allows is the hard one.
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_MEMLOCK, &limit) == 0 ? io_uring_register_buffers(&u->ring, pieces, count) : error;
}

// Of one registered buffer; 0: the region cannot be registered. Whole units, and few of them where they are known: a
// page that is not like the others of its buffer makes every read into that buffer a list of small pages.
static uint64_t registered_piece_bytes(const struct reader *r)
{
    const struct reader_options *o = &r->options;
    uint64_t most_bytes = r->faults.registered_bytes_max ? r->faults.registered_bytes_max : REGISTERED_BYTES_MAX;
    if (o->region_unit_bytes == 0)
        return most_bytes / READER_ALIGN_BYTES * READER_ALIGN_BYTES;
    uint64_t fit = most_bytes / o->region_unit_bytes;
    uint64_t few = o->region_bytes / o->region_unit_bytes / REGISTERED_COUNT + 1;
    return (few < fit ? few : fit) * o->region_unit_bytes;
}

static enum sluice_status use_region(struct reader *r, struct uring *u)
{
    const struct reader_options *o = &r->options;
    uint64_t piece_bytes = registered_piece_bytes(r);
    if (!o->region || o->region_bytes == 0 || piece_bytes == 0 || registers_slowly(r))
        return SLUICE_OK;
    uint32_t count = (uint32_t)((o->region_bytes + piece_bytes - 1) / piece_bytes);
    struct iovec *pieces = mem_alloc(count, sizeof *pieces);
    if (!pieces)
        return SLUICE_ERR_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t left = o->region_bytes - i * piece_bytes;
        pieces[i] = (struct iovec){(uint8_t *)o->region + i * piece_bytes, left < piece_bytes ? left : piece_bytes};
    }
    int error = register_region(r, u, pieces, count);
    mem_free(pieces);
    if (error)
        log_message(LOG_NOTE,
                    "%s: %" PRIu64 " MiB of memory for reads were not registered (%s); reads cost more "
                    "processor time; a larger limit of locked memory (ulimit -l) helps",
                    r->path, o->region_bytes >> 20, strerror(-error));
    else
        u->piece_bytes = piece_bytes;
    r->region_registered = error == 0;
    return SLUICE_OK;
}

static enum sluice_status uring_create(struct reader *r)
{
    struct uring *u = mem_alloc(1, sizeof *u);
    if (!u)
        return SLUICE_ERR_MEMORY;
    r->backend = u;
    u->wake_descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (u->wake_descriptor < 0)
        return error_set(SLUICE_ERR_IO, "cannot create an event descriptor: %s", strerror(errno));
    int error = set_up_ring(r, u);
    if (error)
        return error_set(SLUICE_ERR_UNSUPPORTED,
                         "io_uring cannot be used: %s (see the sysctl kernel.io_uring_disabled, "
                         "and the seccomp profile if this is a container)",
                         strerror(-error));
    register_file(r, u);
    return use_region(r, u);
}

// The index of the registered piece that holds all of the read's memory, or -1.
static int registered_index(const struct reader *r, const struct uring *u, const struct reader_piece *piece)
{
    uintptr_t region = (uintptr_t)r->options.region, destination = (uintptr_t)piece->destination;
    if (u->piece_bytes == 0 || destination < region)
        return -1;
    uint64_t from = destination - region, to = from + piece->bytes;
    if (to > r->options.region_bytes || from / u->piece_bytes != (to - 1) / u->piece_bytes)
        return -1;
    return (int)(from / u->piece_bytes);
}

static void uring_start(struct reader *r, uint32_t job)
{
    struct uring *u = r->backend;
    struct reader_piece piece = reader_job_piece(r, job);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    CHECK(sqe); // the ring has an entry for each job, and a job has one read at a time
    int descriptor = u->is_file_registered ? 0 : r->descriptor;
    int index = registered_index(r, u, &piece);
    if (index >= 0)
        io_uring_prep_read_fixed(sqe, descriptor, piece.destination, piece.bytes, piece.offset, index);
    else
        io_uring_prep_read(sqe, descriptor, piece.destination, piece.bytes, piece.offset);
    if (u->is_file_registered)
        io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data64(sqe, job);
}

static void uring_flush(struct reader *r)
{
    struct uring *u = r->backend;
    // A failure (EAGAIN, EBUSY, EINTR) leaves the entries in the ring; uring_collect submits them again.
    (void)io_uring_submit(&u->ring);
}

static void uring_wake(struct reader *r)
{
    struct uring *u = r->backend;
    // It can only fail when the counter is full: then the waiter is woken anyway.
    (void)eventfd_write(u->wake_descriptor, 1);
}

static void arm_wake(struct uring *u)
{
    struct io_uring_sqe *sqe = u->wake_armed ? NULL : io_uring_get_sqe(&u->ring);
    if (!sqe)
        return;
    io_uring_prep_poll_add(sqe, u->wake_descriptor, POLLIN);
    io_uring_sqe_set_data64(sqe, WAKE_TAG);
    u->wake_armed = true;
}

static void end_wake(struct uring *u)
{
    eventfd_t count;
    u->wake_armed = false;
    (void)eventfd_read(u->wake_descriptor, &count);
}

// Submits what is left, and waits for `min` completions.
static enum sluice_status wait_for_ring(struct reader *r, uint32_t min, uint64_t deadline_ns)
{
    struct uring *u = r->backend;
    struct io_uring_cqe *cqe;
    uint64_t now_ns = clock_ns(), left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    struct __kernel_timespec timeout = {.tv_sec = (long long)(left_ns / 1000000000),
                                        .tv_nsec = (long long)(left_ns % 1000000000)};
    arm_wake(u);
    int result =
        io_uring_submit_and_wait_timeout(&u->ring, &cqe, min, deadline_ns == UINT64_MAX ? NULL : &timeout, NULL);
    result = r->faults.ring_error ? -r->faults.ring_error : result;
    if (result == -EAGAIN || result == -EBUSY) { // short of kernel memory: give it a moment
        const struct timespec moment = {.tv_nsec = 100000};
        nanosleep(&moment, NULL);
    } else if (result < 0 && result != -ETIME && result != -EINTR) {
        return error_set(SLUICE_ERR_IO, "%s: io_uring failed: %s", r->path, strerror(-result));
    }
    return SLUICE_OK;
}

static enum sluice_status uring_collect(struct reader *r, uint32_t min, uint64_t deadline_ns)
{
    struct uring *u = r->backend;
    struct io_uring_cqe *cqe;
    enum sluice_status status = SLUICE_OK;
    if (deadline_ns == 0)
        uring_flush(r); // no system call, unless something was left
    else
        TRY(wait_for_ring(r, min, deadline_ns));
    while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        uint64_t tag = io_uring_cqe_get_data64(cqe);
        int64_t bytes = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe); // first, since the rest of the read may need room
        if (tag == WAKE_TAG)
            end_wake(u);
        else
            reader_result(r, (uint32_t)tag, bytes);
    }
fail:
    return status;
}

// Registered pages stay in memory whoever else gives them up, so all are let go and the rest registered again. Kernels
// before 5.13 wait for everything in the ring while they do that: the poll of the wake-up is ended first.
static void uring_shrink_region(struct reader *r)
{
    struct uring *u = r->backend;
    if (!r->region_registered)
        return;
    while (u->wake_armed) {
        uring_wake(r);
        if (uring_collect(r, 1, UINT64_MAX) < 0)
            break;
    }
    (void)io_uring_unregister_buffers(&u->ring);
    u->piece_bytes = 0;
    r->region_registered = false;
    (void)use_region(r, u); // a failure costs processor time only
}

static void uring_destroy(struct reader *r)
{
    struct uring *u = r->backend;
    if (!u)
        return;
    if (u->is_set_up)
        io_uring_queue_exit(&u->ring);
    if (u->wake_descriptor >= 0)
        close(u->wake_descriptor);
    mem_free(u);
    r->backend = NULL;
}

const struct reader_operations reader_uring_operations = {
    .kind = READER_URING,
    .create = uring_create,
    .start = uring_start,
    .flush = uring_flush,
    .collect = uring_collect,
    .wake = uring_wake,
    .shrink_region = uring_shrink_region,
    .destroy = uring_destroy,
};
