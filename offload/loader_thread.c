// The loader's thread: has the reader from a request for it until it has nothing left to do.
#include "offload/loader_private.h"

// What the thread does next.
enum turn { TURN_START, TURN_WAIT, TURN_END };

// `awaited` is for how many reads to wait.
static enum turn choose_turn(struct loader *l, uint32_t *awaited)
{
    enum turn turn = TURN_START;
    pthread_mutex_lock(&l->mutex);
    bool idle = !l->thread_reads || l->free_count == l->options.capacity; // nothing in the reader
    if (l->thread_reads && idle && l->queued.count == 0) {
        l->thread_reads = false;
        pthread_cond_signal(&l->result_came); // somebody may wait to take the reader
    }
    while (!l->thread_reads && !l->stopping)
        pthread_cond_wait(&l->work_came, &l->mutex);
    if (idle && l->stopping)
        turn = TURN_END;
    else if (!idle && (l->queued.count == 0 || reader_space(l->reader) == 0))
        turn = TURN_WAIT;
    l->in_reader = turn == TURN_WAIT;
    *awaited = loader_count_awaited(l, l->wanted);
    pthread_mutex_unlock(&l->mutex);
    return turn;
}

// Waits for reads at most until the caller queues more.
static void wait_for_arrivals(struct loader *l, uint32_t awaited)
{
    enum sluice_status status = loader_take_arrivals(l, awaited);
    pthread_mutex_lock(&l->mutex);
    l->in_reader = false;
    pthread_mutex_unlock(&l->mutex);
    loader_hand_out(l, status);
}

void *loader_thread(void *user)
{
    struct loader *l = user;
    uint32_t awaited;
    for (enum turn turn; (turn = choose_turn(l, &awaited)) != TURN_END;) {
        if (turn == TURN_START)
            loader_start_queued(l);
        else
            wait_for_arrivals(l, awaited);
    }
    return NULL;
}
