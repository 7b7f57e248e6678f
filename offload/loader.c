#include "offload/loader.h"

#include <signal.h>
#include <string.h>

#include "offload/loader_private.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

// --- creation -------------------------------------------------------------------------------------------------------

static enum sluice_status allocate(struct loader *l)
{
    uint32_t capacity = l->options.capacity;
    l->jobs = mem_alloc(capacity, sizeof *l->jobs);
    l->free_jobs = mem_alloc(capacity, sizeof *l->free_jobs);
    l->queue = mem_alloc(capacity, sizeof *l->queue);
    l->done = mem_alloc(capacity, sizeof *l->done);
    l->failures = mem_alloc(capacity, sizeof *l->failures);
    if (!l->jobs || !l->free_jobs || !l->queue || !l->done || !l->failures)
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
    if (options->verify == LOADER_VERIFY_ONCE)
        TRY(verified_create(container_descriptor(container), container_expert_count(container), &l->verified));
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
    pthread_join(l->thread, NULL);
}

void loader_destroy(struct loader *l)
{
    if (!l)
        return;
    if (l->has_thread)
        stop_thread(l);
    reader_destroy(l->reader);
    verified_destroy(l->verified);
    pthread_cond_destroy(&l->result_came);
    pthread_cond_destroy(&l->work_came);
    pthread_mutex_destroy(&l->mutex);
    mem_free(l->jobs);
    mem_free(l->free_jobs);
    mem_free(l->queue);
    mem_free(l->done);
    mem_free(l->failures);
    mem_free(l);
}

// --- the caller reads -----------------------------------------------------------------------------------------------

enum { MEASURED_IN = 7 }; // seven, because calls repeat with every layer

// Waits until the thread has given the reader back: it has handed out everything.
static void take_reader(struct loader *l)
{
    pthread_mutex_lock(&l->mutex);
    while (l->thread_reads)
        pthread_cond_wait(&l->result_came, &l->mutex);
    pthread_mutex_unlock(&l->mutex);
}

static void start_own(struct loader *l)
{
    clock_sample_begin(&l->own, MEASURED_IN, 0);
    loader_start_queued(l);
    clock_sample_end(&l->own, 0);
}

// Waits inside a piece of l->own, and measures that if the piece is measured.
static enum sluice_status await_arrivals(struct loader *l, uint32_t awaited)
{
    uint32_t weight = l->own.weight;
    uint64_t begin_cpu_ns = weight ? clock_thread_cpu_ns() : 0;
    enum sluice_status status = loader_take_arrivals(l, awaited);
    uint64_t cpu_ns = weight ? clock_thread_cpu_ns() - begin_cpu_ns : 0;
    l->own_wait_measured_ns += cpu_ns;
    l->own_wait_cpu_ns += weight * cpu_ns;
    return status;
}

// Takes what has arrived, and waits until there are `min`, of what is outstanding.
static void read_until(struct loader *l, uint32_t min)
{
    if (l->finished.count == l->outstanding)
        return;
    uint64_t checksums_before_ns = l->checksum_cpu_ns; // those are known exactly
    clock_sample_begin(&l->own, MEASURED_IN, l->checksum_cpu_ns + l->own_wait_measured_ns);
    do {
        uint32_t awaited = l->finished.count < min ? loader_count_awaited(l, min) : 0;
        loader_hand_out(l, awaited ? await_arrivals(l, awaited) : loader_take_arrivals(l, 0));
    } while (l->finished.count < min);
    clock_sample_end(&l->own, l->checksum_cpu_ns + l->own_wait_measured_ns);
    l->own_checksum_cpu_ns += l->checksum_cpu_ns - checksums_before_ns;
}

// --- the thread reads -----------------------------------------------------------------------------------------------

static void wait_for_thread(struct loader *l, uint32_t min)
{
    pthread_mutex_lock(&l->mutex);
    if (l->finished.count < min) {
        uint64_t begin_cpu_ns = clock_thread_cpu_ns();
        l->wanted = min;
        while (l->finished.count < min)
            pthread_cond_wait(&l->result_came, &l->mutex);
        l->wanted = 0;
        l->wait_cpu_ns += clock_thread_cpu_ns() - begin_cpu_ns;
    }
    pthread_mutex_unlock(&l->mutex);
}

// --- either ---------------------------------------------------------------------------------------------------------

uint32_t loader_space(const struct loader *l)
{
    return l->options.capacity - l->outstanding;
}

void loader_submit(struct loader *l, const struct loader_request *requests, uint32_t count, enum loader_by by)
{
    CHECK(count <= loader_space(l));
    if (l->outstanding == 0 && by == LOADER_BY_CALLER)
        take_reader(l);
    l->by = l->outstanding == 0 ? by : l->by;
    l->outstanding += count;
    pthread_mutex_lock(&l->mutex);
    for (uint32_t i = 0; i < count; i++)
        l->queue[ring_push(&l->queued, l->options.capacity)] = requests[i];
    l->thread_reads = l->by == LOADER_BY_THREAD;
    bool wake = l->in_reader;
    l->in_reader = false; // once is enough
    pthread_mutex_unlock(&l->mutex);
    if (l->by == LOADER_BY_CALLER) {
        start_own(l);
        return;
    }
    pthread_cond_signal(&l->work_came);
    if (wake)
        reader_wake(l->reader);
}

uint32_t loader_collect(struct loader *l, uint32_t min, uint32_t max, struct loader_completion *out)
{
    uint32_t count = 0;
    uint64_t begin_ns = clock_ns();
    min = min < max ? min : max;
    min = min < l->outstanding ? min : l->outstanding;
    if (l->by == LOADER_BY_CALLER)
        read_until(l, min);
    else
        wait_for_thread(l, min);
    pthread_mutex_lock(&l->mutex);
    while (count < max && l->finished.count > 0)
        out[count++] = l->done[ring_pop(&l->finished, l->options.capacity)];
    pthread_mutex_unlock(&l->mutex);
    l->outstanding -= count;
    l->wait_ns += min > 0 ? clock_ns() - begin_ns : 0;
    return count;
}

void loader_region_shrink(struct loader *l, uint64_t bytes)
{
    CHECK(l->outstanding == 0);
    take_reader(l);
    if (l->broken.status == SLUICE_OK) // else it stays registered until the end
        reader_region_shrink(l->reader, bytes);
}

struct loader_statistics loader_statistics(struct loader *l)
{
    pthread_mutex_lock(&l->mutex);
    struct loader_statistics statistics = l->statistics;
    pthread_mutex_unlock(&l->mutex);
    statistics.wait_ns = l->wait_ns;
    statistics.wait_cpu_ns = l->wait_cpu_ns + l->own_wait_cpu_ns;
    statistics.caller_cpu_ns = l->own.cpu_ns + l->own_checksum_cpu_ns;
    statistics.cpu_ns = clock_cpu_ns_of(l->thread) + reader_cpu_ns(l->reader) + statistics.caller_cpu_ns;
    return statistics;
}
