#include "offload/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "offload/reader_private.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

// A drive that fails is given a few chances (links reset, cables); interruptions are harmless, but a driver that
// returns EAGAIN for ever must not hang us.
enum { RETRIES_MAX_ERROR = 3, RETRIES_MAX_INTERRUPTED = 1000 };

// Starting and ending reads.

struct reader_piece reader_job_piece(const struct reader *r, uint32_t job)
{
    const struct reader_job *j = &r->jobs[job];
    uint64_t left = j->request.bytes - j->done_bytes;
    if (j->cut_short && left > READER_ALIGN_BYTES)
        left = left / 2 / READER_ALIGN_BYTES * READER_ALIGN_BYTES;
    return (struct reader_piece){
        .destination = (uint8_t *)j->request.destination + j->done_bytes,
        .offset = j->request.offset + j->done_bytes,
        .bytes = (uint32_t)left,
    };
}

static void start(struct reader *r, uint32_t job)
{
    const struct reader_faults *f = &r->faults;
    uint64_t number = ++r->read_count;
    uint64_t error_end = (uint64_t)f->error_at + (f->error_count ? f->error_count : 1);
    r->statistics.reads++;
    r->jobs[job].cut_short = f->short_every && number % f->short_every == 0;
    r->jobs[job].injected_error = f->error_at && number >= f->error_at && number < error_end ? f->error : 0;
    r->operations->start(r, job);
}

static void finish(struct reader *r, uint32_t job, enum sluice_status status, int system_error)
{
    struct reader_job *j = &r->jobs[job];
    j->status = status;
    j->system_error = system_error;
    r->finished[r->finished_count++] = job;
    if (status == SLUICE_OK)
        r->statistics.bytes += j->request.bytes;
    if (--r->in_flight == 0)
        r->statistics.busy_ns += clock_ns() - r->busy_since_ns;
}

static void retry(struct reader *r, uint32_t job, int error, uint32_t retries_max)
{
    if (r->draining || r->jobs[job].retries++ >= retries_max) {
        finish(r, job, SLUICE_ERR_IO, error);
        return;
    }
    r->statistics.retries++;
    start(r, job);
    r->operations->flush(r);
}

void reader_result(struct reader *r, uint32_t job, int64_t result)
{
    struct reader_job *j = &r->jobs[job];
    uint64_t left = j->request.bytes - j->done_bytes;
    if (j->injected_error)
        result = -j->injected_error;
    if (result == -EINTR || result == -EAGAIN || result == -ECANCELED) {
        retry(r, job, (int)-result, RETRIES_MAX_INTERRUPTED);
        return;
    }
    if (result < 0) {
        retry(r, job, (int)-result, result == -EIO ? RETRIES_MAX_ERROR : 0);
        return;
    }
    if ((uint64_t)result >= left) {
        finish(r, job, SLUICE_OK, 0);
        return;
    }
    r->statistics.short_reads++;
    // O_DIRECT goes on at a block boundary only; less than one block means the end of the file.
    uint64_t whole = (uint64_t)result / READER_ALIGN_BYTES * READER_ALIGN_BYTES;
    if (whole == 0 || r->draining) {
        finish(r, job, SLUICE_ERR_IO, 0);
        return;
    }
    j->done_bytes += whole;
    start(r, job);
    r->operations->flush(r);
}

// Opening.

static bool is_same_file(int a, int b)
{
    struct stat left, right;
    return fstat(a, &left) == 0 && fstat(b, &right) == 0 && left.st_dev == right.st_dev && left.st_ino == right.st_ino;
}

// Whether O_DIRECT reads of our alignment really work: some file systems accept the flag and fail later. Reading at
// 4096 notices those that need more alignment.
static int direct_read_error(struct reader *r)
{
    if (r->faults.direct_error)
        return r->faults.direct_error;
    _Alignas(READER_ALIGN_BYTES) uint8_t block[READER_ALIGN_BYTES];
    struct stat info;
    off_t offset = fstat(r->descriptor, &info) == 0 && info.st_size >= 2 * READER_ALIGN_BYTES ? READER_ALIGN_BYTES : 0;
    ssize_t got;
    do
        got = pread(r->descriptor, block, sizeof block, offset);
    while (got < 0 && errno == EINTR);
    return got < 0 ? errno : 0;
}

static enum sluice_status open_file(struct reader *r)
{
    int error = 0;
    if (!r->options.buffered) {
        r->descriptor = open(r->path, O_RDONLY | O_CLOEXEC | O_DIRECT);
        error = r->descriptor < 0 ? errno : direct_read_error(r);
        r->direct = error == 0;
    }
    if (!r->direct) {
        if (r->descriptor >= 0)
            close(r->descriptor);
        r->descriptor = open(r->path, O_RDONLY | O_CLOEXEC);
    }
    if (r->descriptor < 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot open: %s", r->path, strerror(errno));
    if (error)
        log_message(LOG_WARNING,
                    "%s: this file system does not read past the page cache (O_DIRECT: %s); expect less "
                    "speed and more memory in use; a local ext4 or xfs is better",
                    r->path, strerror(error));
    if (r->options.same_file && !is_same_file(r->descriptor, r->options.same_file_descriptor))
        return error_set(SLUICE_ERR_IO, "%s: the file was replaced by another one while it was being opened; try again",
                         r->path);
    return SLUICE_OK;
}

// AUTO: io_uring if it is allowed, else the pool.
static enum sluice_status create_backend(struct reader *r)
{
    enum reader_kind kind = r->options.kind;
    r->operations = kind == READER_PREAD ? &reader_pread_operations : &reader_uring_operations;
    enum sluice_status status = r->operations->create(r);
    if (status != SLUICE_ERR_UNSUPPORTED || kind != READER_AUTO)
        return status;
    log_message(LOG_NOTE, "%s; reading with threads instead", error_message());
    r->operations->destroy(r);
    r->operations = &reader_pread_operations;
    return r->operations->create(r);
}

static enum sluice_status check_options(const char *path, const struct reader_options *o)
{
    if (o->depth == 0 || o->depth > READER_DEPTH_MAX)
        return error_set(SLUICE_ERR_ARGUMENT, "%s: a reader keeps 1 to %d reads in flight, not %" PRIu32, path,
                         READER_DEPTH_MAX, o->depth);
    if ((uintptr_t)o->region % READER_ALIGN_BYTES != 0 || o->region_bytes % READER_ALIGN_BYTES != 0)
        return error_set(SLUICE_ERR_ARGUMENT, "%s: the memory region is not aligned to %d bytes", path,
                         READER_ALIGN_BYTES);
    return SLUICE_OK;
}

static enum sluice_status allocate(struct reader *r, const char *path)
{
    uint32_t depth = r->options.depth;
    r->path = mem_strndup(path, strlen(path));
    r->jobs = mem_alloc(depth, sizeof *r->jobs);
    r->free_jobs = mem_alloc(depth, sizeof *r->free_jobs);
    r->finished = mem_alloc(depth, sizeof *r->finished);
    if (!r->path || !r->jobs || !r->free_jobs || !r->finished)
        return SLUICE_ERR_MEMORY;
    for (uint32_t i = 0; i < depth; i++)
        r->free_jobs[r->free_count++] = depth - 1 - i;
    return SLUICE_OK;
}

enum sluice_status reader_create(const char *path, const struct reader_options *options, struct reader **out)
{
    enum sluice_status status;
    *out = NULL;
    TRY(check_options(path, options));
    struct reader *r = mem_alloc(1, sizeof *r);
    if (!r)
        return SLUICE_ERR_MEMORY;
    r->descriptor = -1;
    r->options = *options;
    if (options->faults)
        r->faults = *options->faults;
    status = allocate(r, path);
    if (status == SLUICE_OK)
        status = open_file(r);
    if (status == SLUICE_OK)
        status = create_backend(r);
    if (status == SLUICE_OK)
        *out = r;
    else
        reader_destroy(r);
fail:
    return status;
}

void reader_destroy(struct reader *r)
{
    if (!r)
        return;
    r->draining = true;
    while (r->in_flight > 0)
        if (r->operations->collect(r, 1, UINT64_MAX) < 0)
            break;
    if (r->operations)
        r->operations->destroy(r);
    if (r->descriptor >= 0)
        close(r->descriptor);
    mem_free(r->jobs);
    mem_free(r->free_jobs);
    mem_free(r->finished);
    mem_free(r->path);
    mem_free(r);
}

enum reader_kind reader_kind(const struct reader *r)
{
    return r->operations->kind;
}

bool reader_is_direct(const struct reader *r)
{
    return r->direct;
}

bool reader_is_region_registered(const struct reader *r)
{
    return r->region_registered;
}

// Requests and completions.

uint32_t reader_space(const struct reader *r)
{
    return r->free_count;
}

static void check_request(const struct reader_request *request)
{
    CHECK(request->offset % READER_ALIGN_BYTES == 0 && request->offset <= INT64_MAX);
    CHECK(request->bytes % READER_ALIGN_BYTES == 0 && request->bytes > 0);
    CHECK(request->bytes <= READER_REQUEST_BYTES_MAX);
    CHECK((uintptr_t)request->destination % READER_ALIGN_BYTES == 0);
}

enum sluice_status reader_submit(struct reader *r, const struct reader_request *requests, uint32_t count)
{
    if (count > r->free_count)
        return SLUICE_PENDING;
    if (count == 0)
        return SLUICE_OK;
    uint64_t now_ns = clock_ns();
    if (r->in_flight == 0)
        r->busy_since_ns = now_ns;
    r->in_flight += count;
    r->statistics.requests += count;
    for (uint32_t i = 0; i < count; i++) {
        check_request(&requests[i]);
        uint32_t job = r->free_jobs[--r->free_count];
        r->jobs[job] = (struct reader_job){.request = requests[i], .ready_ns = now_ns + r->faults.delay_ns};
        start(r, job);
    }
    r->operations->flush(r);
    return SLUICE_OK;
}

// Hands out what is finished and not held back; returns when the next held back one is due (UINT64_MAX: none).
static uint64_t take_finished(struct reader *r, uint32_t max, struct reader_completion *out, uint32_t *count)
{
    uint64_t now_ns = r->faults.delay_ns ? clock_ns() : UINT64_MAX, due_ns = UINT64_MAX;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->finished_count; i++) {
        uint32_t job = r->finished[i];
        const struct reader_job *j = &r->jobs[job];
        if (*count == max || j->ready_ns > now_ns) {
            due_ns = j->ready_ns < due_ns ? j->ready_ns : due_ns;
            r->finished[kept++] = job;
            continue;
        }
        out[(*count)++] = (struct reader_completion){
            .tag = j->request.tag,
            .offset = j->request.offset,
            .bytes = j->request.bytes,
            .status = j->status,
            .system_error = j->system_error,
        };
        r->free_jobs[r->free_count++] = job;
    }
    r->finished_count = kept;
    return due_ns;
}

// Until then at most: in slices, so that reader_wake is noticed.
static void sleep_until(uint64_t time_ns)
{
    enum { SLICE_NS = 1000000 };
    uint64_t slice_ns = clock_ns() + SLICE_NS;
    time_ns = time_ns < slice_ns ? time_ns : slice_ns;
    struct timespec time = {.tv_sec = (time_t)(time_ns / 1000000000), .tv_nsec = (long)(time_ns % 1000000000)};
    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL); // woken early: the caller looks again
}

static enum sluice_status wait_until(struct reader *r, uint32_t min, uint32_t max, struct reader_completion *out,
                                     uint32_t *count, uint64_t deadline_ns)
{
    enum sluice_status status;
    for (;;) {
        uint64_t due_ns = take_finished(r, max, out, count);
        if (*count >= min)
            return SLUICE_OK;
        if (atomic_exchange(&r->woken, false) || clock_ns() >= deadline_ns)
            return SLUICE_PENDING;
        uint64_t until_ns = due_ns < deadline_ns ? due_ns : deadline_ns;
        uint32_t missing = min - *count;
        if (r->in_flight > 0)
            TRY(r->operations->collect(r, missing < r->in_flight ? missing : r->in_flight, until_ns));
        else
            sleep_until(until_ns);
    }
fail:
    return status;
}

enum sluice_status reader_wait(struct reader *r, uint32_t min, uint32_t max, struct reader_completion *out,
                               uint32_t *count, uint64_t timeout_ns)
{
    CHECK(max > 0);
    uint64_t begin_ns = clock_ns();
    uint64_t deadline_ns = timeout_ns > UINT64_MAX - begin_ns ? UINT64_MAX : begin_ns + timeout_ns;
    uint32_t outstanding = r->in_flight + r->finished_count;
    min = min < max ? min : max;
    min = min < outstanding ? min : outstanding;
    *count = 0;
    enum sluice_status status = SLUICE_OK;
    if (r->in_flight > 0)
        TRY(r->operations->collect(r, 1, 0));
    status = wait_until(r, min, max, out, count, deadline_ns);
fail:
    r->statistics.wait_ns += clock_ns() - begin_ns;
    return status;
}

void reader_wake(struct reader *r)
{
    atomic_store(&r->woken, true);
    r->operations->wake(r);
}

void reader_region_shrink(struct reader *r, uint64_t bytes)
{
    CHECK(r->in_flight == 0 && bytes <= r->options.region_bytes && bytes % READER_ALIGN_BYTES == 0);
    r->options.region_bytes = bytes;
    if (r->operations->shrink_region)
        r->operations->shrink_region(r);
}

enum sluice_status reader_completion_check(const struct reader *r, const struct reader_completion *completion)
{
    if (completion->status >= 0)
        return completion->status;
    if (completion->system_error == 0)
        return error_set(completion->status,
                         "%s: the file ended inside a read of %" PRIu64 " bytes at offset %" PRIu64
                         ": it was cut while in use; copy or convert it again",
                         r->path, completion->bytes, completion->offset);
    return error_set(completion->status, "%s: cannot read %" PRIu64 " bytes at offset %" PRIu64 ": %s%s", r->path,
                     completion->bytes, completion->offset, strerror(completion->system_error),
                     completion->system_error == EIO ? "; the drive may be failing: see the system log" : "");
}

struct reader_statistics reader_statistics(const struct reader *r)
{
    return r->statistics;
}

uint64_t reader_cpu_ns(const struct reader *r)
{
    return r->operations->cpu_ns ? r->operations->cpu_ns(r) : 0;
}
