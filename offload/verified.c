#include "offload/verified.h"

#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "runtime/base/check.h"
#include "runtime/base/mem.h"

// How old a change must be so that the next one has another time: clocks tick 100 times a second at least; file systems
// that keep whole seconds, or two, show it by zeros.
static const int64_t TICKS_NS = 100000000, SECONDS_NS = 3000000000;

// What a write changes; of a file that cannot be looked at all is 0.
struct state {
    ino_t inode;
    off_t bytes;
    struct timespec modified, changed;
};

struct verified {
    int descriptor;
    struct state state;
    uint64_t version, version_last; // now, and the last one that was not 0
    uint64_t *bits;                 // [count]
    uint64_t count, bits_bytes;
};

static bool read_state(int descriptor, struct state *state)
{
    struct stat info;
    bool ok = fstat(descriptor, &info) == 0;
    *state = (struct state){0};
    if (ok)
        *state = (struct state){info.st_ino, info.st_size, info.st_mtim, info.st_ctim};
    return ok;
}

static bool is_same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool is_same_state(const struct state *a, const struct state *b)
{
    return a->inode == b->inode && a->bytes == b->bytes && is_same_time(&a->modified, &b->modified) &&
           is_same_time(&a->changed, &b->changed);
}

// A clock that was set back makes the age negative: then it takes until it has caught up.
static bool is_settled(const struct state *state)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t seconds = now.tv_sec - state->changed.tv_sec;
    int64_t age_ns = seconds < 60 ? seconds * 1000000000 + now.tv_nsec - state->changed.tv_nsec : INT64_MAX;
    return age_ns > (state->changed.tv_nsec ? TICKS_NS : SECONDS_NS);
}

enum sluice_status verified_create(int descriptor, uint64_t count, struct verified **out)
{
    *out = NULL;
    struct verified *v = mem_alloc(1, sizeof *v);
    if (!v)
        return SLUICE_ERR_MEMORY;
    uint64_t words = (count + 63) / 64;
    v->descriptor = descriptor;
    v->count = count;
    v->bits_bytes = words * sizeof *v->bits;
    v->bits = mem_alloc(words, sizeof *v->bits);
    if (!v->bits) {
        mem_free(v);
        return SLUICE_ERR_MEMORY;
    }
    verified_look(v);
    *out = v;
    return SLUICE_OK;
}

void verified_destroy(struct verified *v)
{
    if (!v)
        return;
    mem_free(v->bits);
    mem_free(v);
}

void verified_look(struct verified *v)
{
    struct state state;
    bool ok = read_state(v->descriptor, &state);
    if (!ok || !is_same_state(&state, &v->state)) {
        memset(v->bits, 0, v->bits_bytes);
        v->state = state;
        v->version = 0;
    }
    if (ok && v->version == 0 && is_settled(&v->state))
        v->version = ++v->version_last;
}

uint64_t verified_version(const struct verified *v)
{
    return v->version;
}

bool verified_has(const struct verified *v, uint64_t record)
{
    CHECK(record < v->count);
    return v->bits[record / 64] >> record % 64 & 1;
}

void verified_add(struct verified *v, uint64_t record, uint64_t version)
{
    CHECK(record < v->count);
    if (version != 0 && version == v->version)
        v->bits[record / 64] |= UINT64_C(1) << record % 64;
}
