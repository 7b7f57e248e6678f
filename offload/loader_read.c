// What the loader does with its reader, on the thread that has it: gives it what is queued, checks what arrives, and
// hands it out.
#include "offload/loader_private.h"
#include "runtime/base/clock.h"

enum { STARTS_MAX = 16 }; // given to the reader at once

// Hands records out to the caller; `status` is theirs.
static void publish(struct loader *l, const uint64_t *tags, uint32_t count, enum sluice_status status)
{
    struct reader_statistics reader = reader_statistics(l->reader);
    pthread_mutex_lock(&l->mutex);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = ring_push(&l->finished, l->options.capacity);
        l->done[at] = (struct loader_completion){.tag = tags[i]};
        if (status < 0) {
            error_save(&l->failures[at], status);
            l->done[at].failure = &l->failures[at];
        }
    }
    l->statistics.reader = reader;
    l->statistics.checksum_cpu_ns = l->checksum_cpu_ns;
    l->statistics.checksums = l->checksums;
    bool enough = l->wanted > 0 && l->finished.count >= l->wanted;
    pthread_mutex_unlock(&l->mutex); // first: the caller would wake up only to wait for it
    if (enough)
        pthread_cond_signal(&l->result_came);
}

// --- requests -------------------------------------------------------------------------------------------------------

// Takes up to `max` requests of what is queued.
static uint32_t take_queued(struct loader *l, struct loader_request *requests, uint32_t max)
{
    uint32_t count = 0;
    pthread_mutex_lock(&l->mutex);
    while (count < max && l->queued.count > 0)
        requests[count++] = l->queue[ring_pop(&l->queued, l->options.capacity)];
    pthread_mutex_unlock(&l->mutex);
    return count;
}

static uint64_t record_number(const struct loader *l, const struct loader_request *request)
{
    return container_expert_layer(l->container, request->layer)->expert_first + request->expert;
}

static bool needs_checksum(const struct loader *l, const struct loader_request *request)
{
    if (l->verified)
        return !verified_has(l->verified, record_number(l, request));
    return l->options.verify != LOADER_VERIFY_NEVER;
}

static struct reader_request make_read(struct loader *l, const struct loader_request *request)
{
    uint32_t job = l->free_jobs[--l->free_count];
    bool is_checked = needs_checksum(l, request);
    l->jobs[job] = (struct job){*request, l->verified ? verified_version(l->verified) : 0, is_checked};
    l->checked_count += is_checked;
    return (struct reader_request){
        .offset = container_expert_offset(l->container, request->layer, request->expert),
        .destination = request->destination,
        .bytes = container_expert_layer(l->container, request->layer)->record_bytes,
        .tag = job,
    };
}

static void refuse_queued(struct loader *l)
{
    for (struct loader_request request; take_queued(l, &request, 1);)
        publish(l, &request.tag, 1, error_restore(&l->broken));
}

void loader_start_queued(struct loader *l)
{
    struct loader_request requests[STARTS_MAX];
    struct reader_request reads[STARTS_MAX];
    if (l->broken.status < 0) {
        refuse_queued(l);
        return;
    }
    for (uint32_t count = 1, space; count > 0 && (space = reader_space(l->reader)) > 0;) {
        count = take_queued(l, requests, space < STARTS_MAX ? space : STARTS_MAX);
        for (uint32_t i = 0; i < count; i++)
            reads[i] = make_read(l, &requests[i]);
        CHECK(reader_submit(l->reader, reads, count) == SLUICE_OK); // there is space
    }
}

// --- arrivals -------------------------------------------------------------------------------------------------------

uint32_t loader_count_awaited(const struct loader *l, uint32_t wanted)
{
    bool together = l->checked_count == 0 && l->queued.count == 0 && wanted > l->finished.count;
    return together ? wanted - l->finished.count : 1;
}

enum sluice_status loader_take_arrivals(struct loader *l, uint32_t awaited)
{
    return reader_wait(l->reader, awaited, ARRIVALS_MAX, l->arrived, &l->arrived_count, awaited ? UINT64_MAX : 0);
}

static enum sluice_status compare_checksum(struct loader *l, const struct job *job)
{
    const struct loader_request *request = &job->request;
    uint64_t start_cpu_ns = clock_thread_cpu_ns();
    enum sluice_status status =
        container_expert_verify(l->container, request->layer, request->expert, request->destination);
    if (status == SLUICE_OK && l->verified)
        verified_add(l->verified, record_number(l, request), job->version);
    l->checksum_cpu_ns += clock_thread_cpu_ns() - start_cpu_ns;
    l->checksums++;
    return status;
}

static struct job end_job(struct loader *l, uint32_t number)
{
    struct job job = l->jobs[number];
    l->jobs[number].request.destination = NULL;
    l->checked_count -= job.is_checked;
    l->free_jobs[l->free_count++] = number;
    return job;
}

// The reader itself broke (io_uring fails): what is outstanding, and what comes, fails with its message.
static void fail_everything(struct loader *l, enum sluice_status status)
{
    error_save(&l->broken, status);
    for (uint32_t number = 0; number < l->options.capacity; number++)
        if (l->jobs[number].request.destination) {
            struct job job = end_job(l, number);
            publish(l, &job.request.tag, 1, error_restore(&l->broken));
        }
    refuse_queued(l);
}

// Together what need not be checked, at once what waits behind a checksum.
void loader_hand_out(struct loader *l, enum sluice_status taken)
{
    uint64_t good[ARRIVALS_MAX]; // tags of records that are ready
    uint32_t good_count = 0;
    if (l->verified && l->arrived_count)
        verified_look(l->verified);
    for (uint32_t i = 0; i < l->arrived_count; i++) {
        struct job job = end_job(l, (uint32_t)l->arrived[i].tag);
        enum sluice_status status = reader_completion_check(l->reader, &l->arrived[i]);
        if (status < 0) {
            status = error_prefix(status, "layer %u, expert %u", job.request.layer, job.request.expert);
            publish(l, &job.request.tag, 1, status);
            continue;
        }
        if (!needs_checksum(l, &job.request)) {
            good[good_count++] = job.request.tag;
            continue;
        }
        if (good_count)
            publish(l, good, good_count, SLUICE_OK);
        good_count = 0;
        publish(l, &job.request.tag, 1, compare_checksum(l, &job));
        loader_start_queued(l); // before the next checksum, so that the drive's queue stays full
    }
    if (good_count)
        publish(l, good, good_count, SLUICE_OK);
    l->arrived_count = 0;
    if (taken < 0)
        fail_everything(l, taken);
    else
        loader_start_queued(l);
}
