// The reader without io_uring: a pool of threads that call pread.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "offload/reader_private.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

enum { POOL_THREADS_MAX = 32 };

struct pool_work {
    uint32_t job;
    struct reader_piece piece;
};

struct pool_result {
    uint32_t job;
    int64_t result;
};

struct pool {
    int descriptor;
    pthread_t threads[POOL_THREADS_MAX];
    uint32_t thread_count;

    pthread_mutex_t mutex; // protects what follows
    pthread_cond_t work_came, result_came;
    bool stopping, woken;
    uint32_t depth;         // a job is in at most one of the rings, once
    struct pool_work *work; // [depth] ring
    uint32_t work_first, work_count;
    struct pool_result *results; // [depth]
    uint32_t result_count;
    uint32_t wanted; // results that are waited for
};

static int64_t read_piece(int descriptor, const struct reader_piece *piece)
{
    ssize_t got = pread(descriptor, piece->destination, piece->bytes, (off_t)piece->offset);
    return got < 0 ? -errno : got;
}

static void *pool_thread(void *user)
{
    struct pool *pool = user;
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        while (pool->work_count == 0 && !pool->stopping)
            pthread_cond_wait(&pool->work_came, &pool->mutex);
        if (pool->stopping)
            break;
        struct pool_work work = pool->work[pool->work_first];
        pool->work_first = (pool->work_first + 1) % pool->depth;
        pool->work_count--;
        pthread_mutex_unlock(&pool->mutex);
        int64_t result = read_piece(pool->descriptor, &work.piece);
        pthread_mutex_lock(&pool->mutex);
        pool->results[pool->result_count++] = (struct pool_result){work.job, result};
        if (pool->result_count >= pool->wanted)
            pthread_cond_signal(&pool->result_came);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

// The program's signals are for its own threads.
static enum sluice_status start_threads(struct reader *r, struct pool *pool)
{
    sigset_t all, before;
    int error = 0;
    uint32_t wanted = pool->depth < POOL_THREADS_MAX ? pool->depth : POOL_THREADS_MAX;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->thread_count < wanted && error == 0) {
        error = pthread_create(&pool->threads[pool->thread_count], NULL, pool_thread, pool);
        pool->thread_count += error == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pool->thread_count == 0) // fewer than wanted are slower, no more
        return error_set(SLUICE_ERR_IO, "%s: cannot start a thread for reading: %s", r->path, strerror(error));
    return SLUICE_OK;
}

static enum sluice_status pool_create(struct reader *r)
{
    struct pool *pool = mem_alloc(1, sizeof *pool);
    if (!pool)
        return SLUICE_ERR_MEMORY;
    r->backend = pool;
    pool->descriptor = r->descriptor;
    pool->depth = r->options.depth;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work_came, NULL);
    pthread_cond_init(&pool->result_came, &attributes);
    pthread_condattr_destroy(&attributes);
    pool->work = mem_alloc(pool->depth, sizeof *pool->work);
    pool->results = mem_alloc(pool->depth, sizeof *pool->results);
    if (!pool->work || !pool->results)
        return SLUICE_ERR_MEMORY;
    return start_threads(r, pool);
}

static void pool_start(struct reader *r, uint32_t job)
{
    struct pool *pool = r->backend;
    pthread_mutex_lock(&pool->mutex);
    uint32_t last = (pool->work_first + pool->work_count++) % pool->depth;
    pool->work[last] = (struct pool_work){job, reader_job_piece(r, job)};
    pthread_cond_signal(&pool->work_came);
    pthread_mutex_unlock(&pool->mutex);
}

static void pool_flush(struct reader *r)
{
    (void)r;
}

// False if there is none at the deadline. The mutex is held.
static bool wait_for_results(struct pool *pool, uint32_t min, uint64_t deadline_ns)
{
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / 1000000000),
                                .tv_nsec = (long)(deadline_ns % 1000000000)};
    pool->wanted = min;
    while (pool->result_count < min && !pool->woken && deadline_ns != 0) {
        if (deadline_ns == UINT64_MAX)
            pthread_cond_wait(&pool->result_came, &pool->mutex);
        else if (pthread_cond_timedwait(&pool->result_came, &pool->mutex, &deadline) == ETIMEDOUT)
            break;
    }
    pool->woken = false;
    return pool->result_count > 0;
}

static enum sluice_status pool_collect(struct reader *r, uint32_t min, uint64_t deadline_ns)
{
    struct pool *pool = r->backend;
    pthread_mutex_lock(&pool->mutex);
    bool came = wait_for_results(pool, min, deadline_ns);
    while (came && pool->result_count > 0) {
        struct pool_result result = pool->results[--pool->result_count];
        pthread_mutex_unlock(&pool->mutex); // reader_result may start the rest of the read
        reader_result(r, result.job, result.result);
        pthread_mutex_lock(&pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
    return SLUICE_OK;
}

static uint64_t pool_cpu_ns(const struct reader *r)
{
    const struct pool *pool = r->backend;
    uint64_t sum_ns = 0;
    for (uint32_t i = 0; i < pool->thread_count; i++)
        sum_ns += clock_cpu_ns_of(pool->threads[i]);
    return sum_ns;
}

static void pool_wake(struct reader *r)
{
    struct pool *pool = r->backend;
    pthread_mutex_lock(&pool->mutex);
    pool->woken = true;
    pthread_cond_signal(&pool->result_came);
    pthread_mutex_unlock(&pool->mutex);
}

static void pool_destroy(struct reader *r)
{
    struct pool *pool = r->backend;
    if (!pool)
        return;
    pthread_mutex_lock(&pool->mutex);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work_came);
    pthread_mutex_unlock(&pool->mutex);
    for (uint32_t i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->work_came);
    pthread_cond_destroy(&pool->result_came);
    pthread_mutex_destroy(&pool->mutex);
    mem_free(pool->work);
    mem_free(pool->results);
    mem_free(pool);
    r->backend = NULL;
}

const struct reader_operations reader_pread_operations = {
    .kind = READER_PREAD,
    .create = pool_create,
    .start = pool_start,
    .flush = pool_flush,
    .collect = pool_collect,
    .cpu_ns = pool_cpu_ns,
    .wake = pool_wake,
    .destroy = pool_destroy,
};
