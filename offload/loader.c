#include "offload/loader.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

enum { ARRIVALS_MAX = 8, STARTS_MAX = 16 }; // taken from the reader and given to it at once

// Places in an array of `capacity` entries.
struct ring {
    uint32_t first, count;
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
    struct loader_request *jobs; // [capacity] requests in the reader, by its tag; destination NULL: free
    uint32_t *free_jobs;         // [capacity], a stack
    uint32_t free_count;
    struct reader_completion *arrived; // [capacity] ring: read, not verified
    struct ring arrivals;
    uint64_t cpu_ns, checksum_cpu_ns; // processor time so far, as of the last checksum

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

static uint32_t ring_push(struct ring *ring, uint32_t capacity)
{
    CHECK(ring->count < capacity);
    return (ring->first + ring->count++) % capacity;
}

static uint32_t ring_pop(struct ring *ring, uint32_t capacity)
{
    CHECK(ring->count > 0);
    uint32_t at = ring->first;
    ring->first = (at + 1) % capacity;
    ring->count--;
    return at;
}

// --- the thread -----------------------------------------------------------------------------------------------------

static void publish(struct loader *l, uint64_t tag, enum sluice_status status)
{
    struct reader_statistics reader = reader_statistics(l->reader);
    pthread_mutex_lock(&l->mutex);
    uint32_t at = ring_push(&l->finished, l->options.capacity);
    l->done[at] = (struct loader_completion){.tag = tag};
    if (status < 0) {
        error_save(&l->failures[at], status);
        l->done[at].failure = &l->failures[at];
    }
    l->statistics.reader = reader;
    l->statistics.cpu_ns = l->cpu_ns;
    l->statistics.checksum_cpu_ns = l->checksum_cpu_ns;
    if (l->wanted > 0 && l->finished.count >= l->wanted)
        pthread_cond_signal(&l->result_came);
    pthread_mutex_unlock(&l->mutex);
}

// Takes up to `max` requests of what the caller has queued.
static uint32_t take_queued(struct loader *l, struct loader_request *requests, uint32_t max)
{
    uint32_t count = 0;
    pthread_mutex_lock(&l->mutex);
    while (count < max && l->queued.count > 0)
        requests[count++] = l->queue[ring_pop(&l->queued, l->options.capacity)];
    pthread_mutex_unlock(&l->mutex);
    return count;
}

static struct reader_request make_read(struct loader *l, const struct loader_request *request)
{
    uint32_t job = l->free_jobs[--l->free_count];
    l->jobs[job] = *request;
    return (struct reader_request){
        .offset = container_expert_offset(l->container, request->layer, request->expert),
        .destination = request->destination,
        .bytes = container_expert_layer(l->container, request->layer)->record_bytes,
        .tag = job,
    };
}

// Gives the reader what the caller has queued, as far as it takes it: many reads with one system call.
static void start_queued(struct loader *l)
{
    struct loader_request requests[STARTS_MAX];
    struct reader_request reads[STARTS_MAX];
    for (uint32_t count = 1, space; count > 0 && (space = reader_space(l->reader)) > 0;) {
        count = take_queued(l, requests, space < STARTS_MAX ? space : STARTS_MAX);
        for (uint32_t i = 0; i < count; i++)
            reads[i] = make_read(l, &requests[i]);
        CHECK(reader_submit(l->reader, reads, count) == SLUICE_OK); // there is space
    }
}

static enum sluice_status check_record(struct loader *l, const struct reader_completion *completion,
                                       const struct loader_request *request)
{
    enum sluice_status status = reader_completion_check(l->reader, completion);
    if (status < 0)
        return error_prefix(status, "layer %u, expert %u", request->layer, request->expert);
    if (l->options.skip_checksums)
        return SLUICE_OK;
    return container_expert_verify(l->container, request->layer, request->expert, request->destination);
}

static void finish_one(struct loader *l)
{
    const struct reader_completion *completion = &l->arrived[ring_pop(&l->arrivals, l->options.capacity)];
    uint32_t job = (uint32_t)completion->tag;
    struct loader_request request = l->jobs[job];
    l->jobs[job].destination = NULL;
    l->free_jobs[l->free_count++] = job;
    uint64_t start_cpu_ns = clock_thread_cpu_ns();
    enum sluice_status status = check_record(l, completion, &request);
    l->cpu_ns = clock_thread_cpu_ns();
    l->checksum_cpu_ns += l->options.skip_checksums ? 0 : l->cpu_ns - start_cpu_ns;
    publish(l, request.tag, status);
}

// What the thread does next.
enum turn { TURN_WORK, TURN_WAIT, TURN_SHRINK, TURN_END };

static enum turn choose_turn(struct loader *l)
{
    enum turn turn = TURN_WORK;
    bool idle = l->free_count == l->options.capacity; // nothing in the reader
    pthread_mutex_lock(&l->mutex);
    while (idle && l->queued.count == 0 && !l->stopping && !l->shrinking)
        pthread_cond_wait(&l->work_came, &l->mutex);
    if (idle && l->stopping)
        turn = TURN_END;
    else if (l->shrinking)
        turn = TURN_SHRINK;
    else if (!idle && (l->queued.count == 0 || reader_space(l->reader) == 0))
        turn = TURN_WAIT;
    l->in_reader = turn == TURN_WAIT;
    pthread_mutex_unlock(&l->mutex);
    return turn;
}

// Takes reads that have ended, waiting for `min` of them at most until the caller queues more.
static enum sluice_status take_arrivals(struct loader *l, uint32_t min)
{
    struct reader_completion completions[ARRIVALS_MAX];
    uint32_t count;
    enum sluice_status status = reader_wait(l->reader, min, ARRIVALS_MAX, completions, &count, min ? UINT64_MAX : 0);
    for (uint32_t i = 0; i < count; i++)
        l->arrived[ring_push(&l->arrivals, l->options.capacity)] = completions[i];
    return status;
}

static enum sluice_status wait_for_arrival(struct loader *l)
{
    enum sluice_status status = take_arrivals(l, 1);
    pthread_mutex_lock(&l->mutex);
    l->in_reader = false;
    pthread_mutex_unlock(&l->mutex);
    return status;
}

static void end_shrinking(struct loader *l)
{
    pthread_mutex_lock(&l->mutex);
    l->shrinking = false;
    pthread_cond_signal(&l->result_came);
    pthread_mutex_unlock(&l->mutex);
}

// The reader itself broke (io_uring fails): what is outstanding, and what comes, fails with its message.
static void fail_everything(struct loader *l, enum sluice_status status)
{
    struct error_record failure;
    error_save(&failure, status);
    for (uint32_t job = 0; job < l->options.capacity; job++)
        if (l->jobs[job].destination)
            publish(l, l->jobs[job].tag, error_restore(&failure));
    for (;;) {
        pthread_mutex_lock(&l->mutex);
        while (l->queued.count == 0 && !l->stopping && !l->shrinking)
            pthread_cond_wait(&l->work_came, &l->mutex);
        if (l->shrinking) { // the region stays registered until the end
            pthread_mutex_unlock(&l->mutex);
            end_shrinking(l);
            continue;
        }
        bool stop = l->queued.count == 0;
        uint64_t tag = stop ? 0 : l->queue[ring_pop(&l->queued, l->options.capacity)].tag;
        pthread_mutex_unlock(&l->mutex);
        if (stop)
            return;
        publish(l, tag, error_restore(&failure));
    }
}

static void *loader_thread(void *user)
{
    struct loader *l = user;
    enum sluice_status status = SLUICE_OK;
    for (enum turn turn; (turn = choose_turn(l)) != TURN_END;) {
        if (turn == TURN_SHRINK) {
            reader_region_shrink(l->reader, l->region_bytes);
            end_shrinking(l);
            continue;
        }
        start_queued(l);
        TRY(turn == TURN_WAIT ? wait_for_arrival(l) : take_arrivals(l, 0));
        while (l->arrivals.count > 0) {
            finish_one(l);
            start_queued(l); // before the next checksum, so that the drive's queue stays full
        }
    }
    return NULL;
fail:
    fail_everything(l, status);
    return NULL;
}

// --- creation -------------------------------------------------------------------------------------------------------

static enum sluice_status allocate(struct loader *l)
{
    uint32_t capacity = l->options.capacity;
    l->jobs = mem_alloc(capacity, sizeof *l->jobs);
    l->free_jobs = mem_alloc(capacity, sizeof *l->free_jobs);
    l->arrived = mem_alloc(capacity, sizeof *l->arrived);
    l->queue = mem_alloc(capacity, sizeof *l->queue);
    l->done = mem_alloc(capacity, sizeof *l->done);
    l->failures = mem_alloc(capacity, sizeof *l->failures);
    if (!l->jobs || !l->free_jobs || !l->arrived || !l->queue || !l->done || !l->failures)
        return SLUICE_ERR_MEMORY;
    for (uint32_t i = 0; i < capacity; i++)
        l->free_jobs[l->free_count++] = capacity - 1 - i;
    return SLUICE_OK;
}

// The program's signals are for its own threads.
static enum sluice_status start_thread(struct loader *l)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&l->thread, NULL, loader_thread, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    l->has_thread = error == 0;
    if (l->has_thread)
        pthread_setname_np(l->thread, "sluice-reads"); // for top and profilers
    return error ? error_set(SLUICE_ERR_IO, "cannot start a thread for reading: %s", strerror(error)) : SLUICE_OK;
}

enum sluice_status loader_create(const struct container *container, const struct loader_options *options,
                                 struct loader **out)
{
    enum sluice_status status;
    *out = NULL;
    CHECK(options->capacity > 0);
    struct loader *l = mem_alloc(1, sizeof *l);
    if (!l)
        return SLUICE_ERR_MEMORY;
    l->container = container;
    l->options = *options;
    l->options.reader.same_file = true;
    l->options.reader.same_file_descriptor = container_descriptor(container);
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->work_came, NULL);
    pthread_cond_init(&l->result_came, NULL);
    TRY(allocate(l));
    TRY(reader_create(container_path(container), &l->options.reader, &l->reader));
    TRY(start_thread(l));
    *out = l;
    return SLUICE_OK;
fail:
    loader_destroy(l);
    return status;
}

static void stop_thread(struct loader *l)
{
    pthread_mutex_lock(&l->mutex);
    l->stopping = true;
    l->queued.count = 0;
    pthread_cond_signal(&l->work_came);
    pthread_mutex_unlock(&l->mutex);
    reader_wake(l->reader);
    pthread_join(l->thread, NULL);
}

void loader_destroy(struct loader *l)
{
    if (!l)
        return;
    if (l->has_thread)
        stop_thread(l);
    reader_destroy(l->reader);
    pthread_cond_destroy(&l->result_came);
    pthread_cond_destroy(&l->work_came);
    pthread_mutex_destroy(&l->mutex);
    mem_free(l->jobs);
    mem_free(l->free_jobs);
    mem_free(l->arrived);
    mem_free(l->queue);
    mem_free(l->done);
    mem_free(l->failures);
    mem_free(l);
}

// --- the caller -----------------------------------------------------------------------------------------------------

uint32_t loader_space(const struct loader *l)
{
    return l->options.capacity - l->outstanding;
}

void loader_submit(struct loader *l, const struct loader_request *requests, uint32_t count)
{
    CHECK(count <= loader_space(l));
    l->outstanding += count;
    pthread_mutex_lock(&l->mutex);
    for (uint32_t i = 0; i < count; i++)
        l->queue[ring_push(&l->queued, l->options.capacity)] = requests[i];
    bool wake = l->in_reader;
    l->in_reader = false; // once is enough
    pthread_cond_signal(&l->work_came);
    pthread_mutex_unlock(&l->mutex);
    if (wake)
        reader_wake(l->reader);
}

uint32_t loader_collect(struct loader *l, uint32_t min, uint32_t max, struct loader_completion *out)
{
    uint32_t count = 0;
    min = min < max ? min : max;
    min = min < l->outstanding ? min : l->outstanding;
    pthread_mutex_lock(&l->mutex);
    if (l->finished.count < min) {
        uint64_t begin_ns = clock_ns(), begin_cpu_ns = clock_thread_cpu_ns();
        l->wanted = min;
        while (l->finished.count < min)
            pthread_cond_wait(&l->result_came, &l->mutex);
        l->wanted = 0;
        l->wait_ns += clock_ns() - begin_ns;
        l->wait_cpu_ns += clock_thread_cpu_ns() - begin_cpu_ns;
    }
    while (count < max && l->finished.count > 0)
        out[count++] = l->done[ring_pop(&l->finished, l->options.capacity)];
    pthread_mutex_unlock(&l->mutex);
    l->outstanding -= count;
    return count;
}

void loader_region_shrink(struct loader *l, uint64_t bytes)
{
    CHECK(l->outstanding == 0);
    pthread_mutex_lock(&l->mutex);
    l->region_bytes = bytes;
    l->shrinking = true;
    pthread_cond_signal(&l->work_came);
    while (l->shrinking)
        pthread_cond_wait(&l->result_came, &l->mutex);
    pthread_mutex_unlock(&l->mutex);
}

struct loader_statistics loader_statistics(struct loader *l)
{
    pthread_mutex_lock(&l->mutex);
    struct loader_statistics statistics = l->statistics;
    pthread_mutex_unlock(&l->mutex);
    statistics.wait_ns = l->wait_ns;
    statistics.wait_cpu_ns = l->wait_cpu_ns;
    return statistics;
}
