#include "runtime/model/parallel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

struct run {
    parallel_function *function;
    void *user;
    size_t count;
    atomic_size_t next;
    atomic_bool failed;
    pthread_mutex_t lock;
    struct error_record error; // of the first failure; under lock
};

static void keep_first_error(struct run *run, enum sluice_status status)
{
    pthread_mutex_lock(&run->lock);
    if (!atomic_exchange(&run->failed, true))
        error_save(&run->error, status);
    pthread_mutex_unlock(&run->lock);
}

static void *work(void *argument)
{
    struct run *run = argument;
    while (!atomic_load(&run->failed)) {
        size_t index = atomic_fetch_add(&run->next, 1);
        if (index >= run->count)
            break;
        enum sluice_status status = run->function(run->user, index);
        if (status < 0)
            keep_first_error(run, status);
    }
    return NULL;
}

enum sluice_status parallel_run(uint32_t threads, size_t count, parallel_function *function, void *user)
{
    struct run run = {.function = function, .user = user, .count = count, .lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t helpers[PARALLEL_THREADS_MAX];
    size_t wanted = threads < PARALLEL_THREADS_MAX ? threads : PARALLEL_THREADS_MAX, started = 0;
    if (wanted > count)
        wanted = count;
    while (started + 1 < wanted && pthread_create(&helpers[started], NULL, work, &run) == 0)
        started++;
    work(&run);
    for (size_t i = 0; i < started; i++)
        pthread_join(helpers[i], NULL);
    pthread_mutex_destroy(&run.lock);
    return atomic_load(&run.failed) ? error_restore(&run.error) : SLUICE_OK;
}

uint32_t parallel_threads_default(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (online < 1)
        return 1;
    return online < PARALLEL_THREADS_MAX ? (uint32_t)online : PARALLEL_THREADS_MAX;
}
