// Recordings that are submitted again. Decoding does the same token after token, so a part of a command is looked up by
// its content, byte for byte, before it is recorded: kernels, ranges, push constants and grids, and where it ends. A
// content that comes for the second time is recorded for good and kept; what never recurs, as in a prompt, costs a
// hash.
//
// A kept recording holds its descriptor sets (set_cache.c). It goes with the first of its buffers that is destroyed, or
// when others need its place and it was not used for longest. It is in one submission at a time: if the same content is
// needed meanwhile, there will be two recordings of it.
#include <string.h>

#include <xxhash.h>

#include "runtime/base/mem.h"
#include "runtime/gpu/gpu_internal.h"

// --- lists ----------------------------------------------------------------------------------------------------------

static struct recording **bucket_of(struct replay *replay, uint64_t hash)
{
    return &replay->buckets[hash % REPLAY_BUCKETS];
}

static void take_out(struct replay *replay, struct recording *recording)
{
    *(recording->older ? &recording->older->newer : &replay->oldest) = recording->newer;
    *(recording->newer ? &recording->newer->older : &replay->newest) = recording->older;
}

static void put_newest(struct replay *replay, struct recording *recording)
{
    recording->older = replay->newest;
    recording->newer = NULL;
    *(replay->newest ? &replay->newest->newer : &replay->oldest) = recording;
    replay->newest = recording;
}

// The part that is submitted now. What followed the one before will mostly follow again, which saves a hash.
static void use(struct replay *replay, struct recording *recording)
{
    if (replay->last)
        replay->last->follower = recording;
    replay->last = recording;
}

// --- keeping --------------------------------------------------------------------------------------------------------

// Whether the recording is in no pending submission. Asks the driver only if it was in one when last asked.
static bool is_idle(struct gpu_device *device, const struct recording *recording)
{
    return recording->tick <= device->tick_done ||
           (recording->tick <= device->tick_last && recording->tick <= gpu_tick_done(device));
}

// Whether the part's array is no part of its content, since others can be put in its place.
static bool array_varies(const struct gpu_device *device, struct list_part part)
{
    return device->caps.updates_arrays && list_part_array(part);
}

static uint64_t hash_of(const struct gpu_device *device, struct list_part part)
{
    size_t begin = array_varies(device, part) ? list_part_array_end(part) : 0;
    return XXH3_64bits(part.bytes + begin, part.size - begin);
}

static struct list_part content_of(const struct recording *recording)
{
    return (struct list_part){recording->content, recording->content_bytes};
}

bool replay_prepare(struct recording *recording, struct list_part part)
{
    unsigned dispatches = 0;
    size_t at = 0;
    for (const struct list_op *op = list_part_next(part, &at); op; op = list_part_next(part, &at)) {
        dispatches += op->kind == LIST_DISPATCH;
        recording->to_host = op->kind == LIST_TO_HOST;
    }
    recording->content = mem_alloc(part.size, 1);
    recording->sets = mem_alloc(dispatches, sizeof *recording->sets);
    if (!recording->content || !recording->sets) {
        mem_free(recording->content);
        mem_free(recording->sets);
        recording->content = NULL;
        recording->sets = NULL;
        return false;
    }
    memcpy(recording->content, part.bytes, part.size);
    recording->content_bytes = part.size;
    return true;
}

void replay_hold(struct gpu_device *device, struct recording *recording, struct cached_set *set)
{
    set_cache_hold(device, set);
    recording->sets[recording->set_count++] = set;
}

void replay_keep(struct gpu_device *device, struct recording *recording)
{
    struct replay *replay = &device->replay;
    recording->hash = hash_of(device, content_of(recording));
    recording->serial = ++replay->serials;
    struct recording **bucket = bucket_of(replay, recording->hash);
    recording->bucket_next = *bucket;
    *bucket = recording;
    put_newest(replay, recording);
    use(replay, recording);
    replay->count++;
    replay->bytes += recording->content_bytes;
}

void replay_release(struct gpu_device *device, struct recording *recording)
{
    for (unsigned i = 0; i < recording->set_count; i++)
        set_cache_release(device, recording->sets[i], recording->tick);
    mem_free(recording->content);
    mem_free(recording->sets);
    recording->content = NULL;
    recording->content_bytes = 0;
    recording->serial = 0;
    recording->sets = NULL;
    recording->set_count = 0;
}

// The recording is an ordinary one again.
static void drop(struct gpu_device *device, struct recording *recording)
{
    struct replay *replay = &device->replay;
    struct recording **at = bucket_of(replay, recording->hash);
    while (*at != recording)
        at = &(*at)->bucket_next;
    *at = recording->bucket_next;
    take_out(replay, recording);
    recording->follower = NULL;
    if (replay->last == recording)
        replay->last = NULL;
    replay->count--;
    replay->bytes -= recording->content_bytes;
    replay_release(device, recording);
    recording_put_back(device, recording);
}

// --- finding --------------------------------------------------------------------------------------------------------

static bool was_seen(struct replay *replay, uint64_t hash)
{
    uint64_t *row = replay->seen[(hash >> 32) % REPLAY_SEEN];
    for (unsigned i = 0; i < REPLAY_SEEN_WAYS; i++)
        if (row[i] == hash)
            return true;
    memmove(row + 1, row, (REPLAY_SEEN_WAYS - 1) * sizeof *row);
    row[0] = hash;
    return false;
}

// Drops what was not used for longest. False: it is in use, or the content is so large that it would drive out others.
static bool make_room(struct gpu_device *device, size_t bytes)
{
    struct replay *replay = &device->replay;
    if (bytes > REPLAY_BYTES_MAX / 8)
        return false;
    while (replay->count >= REPLAY_KEPT_MAX || replay->bytes + bytes > REPLAY_BYTES_MAX) {
        if (!is_idle(device, replay->oldest))
            return false;
        drop(device, replay->oldest);
    }
    return true;
}

static bool fits(struct gpu_device *device, const struct recording *recording, struct list_part part)
{
    if (recording->content_bytes != part.size)
        return false;
    bool same = array_varies(device, part) ? list_parts_match(content_of(recording), part)
                                           : memcmp(recording->content, part.bytes, part.size) == 0;
    return same && is_idle(device, recording);
}

struct recording *replay_find(struct gpu_device *device, struct list_part part, bool *keep)
{
    struct replay *replay = &device->replay;
    struct recording *found = replay->last ? replay->last->follower : NULL;
    if (!found || !fits(device, found, part)) {
        uint64_t hash = hash_of(device, part);
        for (found = *bucket_of(replay, hash); found; found = found->bucket_next)
            if (found->hash == hash && fits(device, found, part))
                break;
        *keep = !found && was_seen(replay, hash) && make_room(device, part.size);
    }
    if (found)
        replay_use(device, found, part);
    return found;
}

// The part's array in place of the one that the recording was submitted with last.
static void put_array(struct gpu_device *device, struct recording *recording, struct list_part part)
{
    const struct gpu_range *array = list_part_array(part), *old = list_part_array(content_of(recording));
    size_t bytes = SHADER_ARRAY_BUFFERS * sizeof *array;
    if (!array || memcmp(array, old, bytes) == 0)
        return;
    for (unsigned i = 0; i < recording->set_count; i++)
        set_cache_put_array(device, recording->sets[i], array);
    memcpy(recording->content + ((const uint8_t *)old - recording->content), array, bytes);
}

void replay_use(struct gpu_device *device, struct recording *recording, struct list_part part)
{
    put_array(device, recording, part);
    use(&device->replay, recording);
    take_out(&device->replay, recording);
    put_newest(&device->replay, recording);
}

// --- memos ----------------------------------------------------------------------------------------------------------

struct recording *replay_recall(struct gpu_device *device, const struct gpu_memo *memo, uint64_t key,
                                const struct gpu_range *array)
{
    struct recording *recording = memo->recording;
    bool is_it = recording && recording->serial == memo->serial && memo->key == key;
    if (!is_it || !is_idle(device, recording))
        return NULL;
    if (!array || device->caps.updates_arrays)
        return recording;
    return memcmp(array, replay_array(recording), SHADER_ARRAY_BUFFERS * sizeof *array) == 0 ? recording : NULL;
}

const struct gpu_range *replay_array(const struct recording *recording)
{
    return list_part_array(content_of(recording));
}

// The content but for its end, which depends on what follows in the command.
static struct list_part body_of(struct list_part content)
{
    size_t at = 0;
    bool to_host = false;
    for (const struct list_op *op = list_part_next(content, &at); op; op = list_part_next(content, &at))
        to_host = op->kind == LIST_TO_HOST;
    return (struct list_part){content.bytes, content.size - (to_host ? sizeof(struct list_op) : 0)};
}

void replay_remember(struct gpu_memo *memo, const struct command_part *part, struct list_part content,
                     struct recording *recording)
{
    const struct recording *audited = part->audited;
    if (audited && audited->content_bytes > 0)
        CHECK(list_parts_match(body_of(content_of(audited)), body_of(content)));
    memo->recording = recording->serial ? recording : NULL;
    memo->serial = recording->serial;
}

// --- buffers that go ------------------------------------------------------------------------------------------------

void replay_forget(struct gpu_device *device, const struct gpu_buffer *buffer)
{
    for (struct recording *recording = device->replay.oldest, *newer; recording; recording = newer) {
        newer = recording->newer;
        if (!list_part_names(content_of(recording), buffer))
            continue;
        CHECK(tick_is_past(device, recording->tick)); // the buffer's owner has waited
        drop(device, recording);
    }
}

void replay_finish(struct gpu_device *device)
{
    while (device->replay.oldest)
        drop(device, device->replay.oldest);
}
