// Writing items: data, then in batches a sync and the journal's entries.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "offload/container_part.h"
#include "offload/container_writer_private.h"
#include "offload/file_range.h"
#include "runtime/base/check.h"
#include "runtime/base/mem.h"

enum { DIRECT_BYTES_MIN = 64 << 10, DIRECT_PIECE_BYTES = 4 << 20 };

struct container_span container_writer_span(const struct container_writer *w, uint32_t item)
{
    const struct container_directory *d = &w->directory;
    CHECK(item < w->item_count);
    if (item < d->header.tensor_count) {
        struct container_disk_tensor *tensor = &d->tensors[item];
        return (struct container_span){tensor->offset, tensor->bytes, container_padded_bytes(tensor->bytes),
                                       tensor->xxh3};
    }
    uint64_t dense = item - d->header.tensor_count, expert = dense;
    const struct container_disk_layer *layer = d->layers;
    for (; expert >= layer->expert_count; layer++)
        expert -= layer->expert_count;
    return (struct container_span){layer->offset + expert * layer->record_bytes, layer->record_bytes,
                                   layer->record_bytes, d->expert_xxh3[dense]};
}

// item_count if there is no such expert.
static uint32_t expert_item(const struct container_writer *w, uint32_t layer, uint32_t expert)
{
    const struct container_directory *d = &w->directory;
    uint64_t first = d->header.tensor_count;
    for (uint32_t i = 0; i < d->header.layer_count; i++) {
        if (d->layers[i].layer == layer)
            return expert < d->layers[i].expert_count ? (uint32_t)(first + expert) : w->item_count;
        first += d->layers[i].expert_count;
    }
    return w->item_count;
}

const char *container_writer_item_text(const struct container_writer *w, uint32_t item,
                                       char out[CONTAINER_ITEM_TEXT_BYTES])
{
    const struct container_directory *d = &w->directory;
    uint64_t expert = item - d->header.tensor_count;
    const struct container_disk_layer *layer = d->layers;
    if (item < d->header.tensor_count) {
        snprintf(out, CONTAINER_ITEM_TEXT_BYTES, "tensor '%s'", container_directory_name(d, d->tensors[item].name));
        return out;
    }
    for (; expert >= layer->expert_count; layer++)
        expert -= layer->expert_count;
    snprintf(out, CONTAINER_ITEM_TEXT_BYTES, "layer %" PRIu32 " expert %" PRIu64, layer->layer, expert);
    return out;
}

int64_t container_writer_pwrite(void *user, int descriptor, const void *data, size_t bytes, uint64_t offset)
{
    struct container_writer *w = user;
    uint64_t number = atomic_fetch_add(&w->write_count, 1) + 1;
    if (w->faults.write_error_at && number >= w->faults.write_error_at &&
        (w->faults.write_error_count == 0 || number - w->faults.write_error_at < w->faults.write_error_count)) {
        errno = w->faults.write_error;
        return -1;
    }
    if (w->faults.interrupt_every && number % w->faults.interrupt_every == 0) {
        errno = EINTR;
        return -1;
    }
    if (w->faults.write_bytes_max && bytes > w->faults.write_bytes_max)
        bytes = w->faults.write_bytes_max;
    return pwrite(descriptor, data, bytes, (off_t)offset);
}

// Large items go past the page cache: writing 45 GB through it is several times slower where the kernel's writeback
// gets little processor time, and pushes everything else out. Whatever goes wrong here is left to the ordinary write
// that follows, with its messages and retries. Returns how many bytes are done.
static uint64_t write_direct(struct container_writer *w, const uint8_t *data, uint64_t bytes, uint64_t offset)
{
    uint64_t done = 0;
    bool aligned = (uintptr_t)data % CONTAINER_ALIGN_BYTES == 0;
    uint8_t *memory = NULL, *copy = NULL;
    if (w->direct_descriptor < 0 || atomic_load(&w->direct_refused) || bytes < DIRECT_BYTES_MIN ||
        offset % CONTAINER_ALIGN_BYTES != 0)
        return 0;
    if (!aligned) {
        memory = mem_alloc(DIRECT_PIECE_BYTES + CONTAINER_ALIGN_BYTES, 1);
        if (!memory)
            return 0;
        copy = memory + (CONTAINER_ALIGN_BYTES - (uintptr_t)memory % CONTAINER_ALIGN_BYTES);
    }
    while (bytes - done >= CONTAINER_ALIGN_BYTES) {
        uint64_t left = (bytes - done) / CONTAINER_ALIGN_BYTES * CONTAINER_ALIGN_BYTES;
        size_t piece = left < DIRECT_PIECE_BYTES ? (size_t)left : DIRECT_PIECE_BYTES;
        if (!aligned)
            memcpy(copy, data + done, piece);
        int64_t put =
            container_writer_pwrite(w, w->direct_descriptor, aligned ? data + done : copy, piece, offset + done);
        if (put < 0 && errno == EINVAL)
            atomic_store(&w->direct_refused, true);
        if (put != (int64_t)piece)
            break;
        done += piece;
    }
    mem_free(memory);
    return done;
}

static enum sluice_status write_range(struct container_writer *w, const void *data, uint64_t bytes, uint64_t offset)
{
    int error = 0;
    uint64_t done = write_direct(w, data, bytes, offset);
    enum sluice_status status = file_range_write(w->descriptor, w->part_path, (const uint8_t *)data + done,
                                                 bytes - done, offset + done, container_writer_pwrite, w, &error);
    if (error != ENOSPC && error != EDQUOT && error != EFBIG)
        return status;
    pthread_mutex_lock(&w->mutex);
    uint64_t missing_bytes = w->progress.bytes_total - w->progress.bytes_done;
    pthread_mutex_unlock(&w->mutex);
    return container_part_full(w->descriptor, w->part_path, missing_bytes);
}

// Data and the zeros that pad it.
enum sluice_status container_writer_put_padded(struct container_writer *w, const void *data, uint64_t bytes,
                                               uint64_t offset)
{
    static const uint8_t zeros[CONTAINER_ALIGN_BYTES];
    enum sluice_status status;
    TRY(write_range(w, data, bytes, offset));
    TRY(write_range(w, zeros, container_padded_bytes(bytes) - bytes, offset + bytes));
fail:
    return status;
}

static int sync_data(struct container_writer *w)
{
    if (++w->sync_count != w->faults.sync_error_at)
        return fdatasync(w->descriptor);
    errno = EIO;
    return -1;
}

// Data first, then the journal's word that it is there.
enum sluice_status container_writer_flush(struct container_writer *w)
{
    if (w->broken.status < 0)
        return error_restore(&w->broken);
    if (w->pending_count == 0)
        return SLUICE_OK;
    if (sync_data(w) != 0) {
        enum sluice_status status =
            error_set(SLUICE_ERR_IO,
                      "%s: cannot write to the disk: %s; run the same command again, it goes on from the "
                      "last point that is safe",
                      w->part_path, strerror(errno));
        error_save(&w->broken, status);
        return status;
    }
    // 45 GB of output need not push the input out of the page cache.
    (void)posix_fadvise(w->descriptor, 0, 0, POSIX_FADV_DONTNEED);
    enum sluice_status status = container_journal_append(&w->journal, w->pending, w->pending_count);
    if (status < 0)
        return status;
    w->pending_count = 0;
    w->pending_bytes = 0;
    return SLUICE_OK;
}

// The item's state goes from `from` to `to`; false if it was not `from`.
static bool change_state(struct container_writer *w, uint32_t item, enum item_state from, enum item_state to)
{
    pthread_mutex_lock(&w->mutex);
    bool was = w->states[item] == from;
    if (was)
        w->states[item] = (uint8_t)to;
    pthread_mutex_unlock(&w->mutex);
    return was;
}

static enum sluice_status item_arrived(struct container_writer *w, uint32_t item, const struct container_span *span,
                                       const uint8_t xxh3[CONTAINER_HASH_BYTES])
{
    enum sluice_status status = SLUICE_OK;
    pthread_mutex_lock(&w->mutex);
    struct container_journal_entry *entry = &w->pending[w->pending_count++];
    entry->item = item;
    memcpy(entry->xxh3, xxh3, sizeof entry->xxh3);
    memcpy(span->xxh3, xxh3, CONTAINER_HASH_BYTES);
    w->pending_bytes += span->padded_bytes;
    w->states[item] = ITEM_WRITTEN;
    w->progress.bytes_done += span->padded_bytes;
    if (w->pending_bytes >= w->batch_bytes)
        status = container_writer_flush(w);
    if (status < 0) { // the caller hears of the failure, so this item does not count
        w->pending_count--;
        w->pending_bytes -= span->padded_bytes;
        w->states[item] = ITEM_MISSING;
        w->progress.bytes_done -= span->padded_bytes;
    }
    pthread_mutex_unlock(&w->mutex);
    return status;
}

static enum sluice_status put_item(struct container_writer *w, uint32_t item, const void *data, uint64_t bytes)
{
    struct container_span span = container_writer_span(w, item);
    uint8_t xxh3[CONTAINER_HASH_BYTES];
    char text[CONTAINER_ITEM_TEXT_BYTES];
    if (bytes > span.bytes || container_padded_bytes(bytes) != span.padded_bytes ||
        (item < w->directory.header.tensor_count && bytes != span.bytes))
        return error_set(SLUICE_ERR_ARGUMENT, "%s: %s has %" PRIu64 " bytes in the plan, but %" PRIu64 " were given",
                         w->path, container_writer_item_text(w, item, text), span.bytes, bytes);
    if (!change_state(w, item, ITEM_MISSING, ITEM_IN_WORK))
        return error_set(SLUICE_ERR_ARGUMENT, "%s: %s is written twice", w->path,
                         container_writer_item_text(w, item, text));
    container_hash_padded(data, bytes, xxh3);
    enum sluice_status status = container_writer_put_padded(w, data, bytes, span.offset);
    if (status < 0) {
        CHECK(change_state(w, item, ITEM_IN_WORK, ITEM_MISSING));
        return status;
    }
    return item_arrived(w, item, &span, xxh3);
}

enum sluice_status container_writer_put_tensor(struct container_writer *w, uint32_t index, const void *data,
                                               uint64_t bytes)
{
    if (index >= w->directory.header.tensor_count)
        return error_set(SLUICE_ERR_ARGUMENT, "%s: the plan has no tensor %" PRIu32, w->path, index);
    return put_item(w, index, data, bytes);
}

enum sluice_status container_writer_put_expert(struct container_writer *w, uint32_t layer, uint32_t expert,
                                               const void *data, uint64_t bytes)
{
    uint32_t item = expert_item(w, layer, expert);
    if (item == w->item_count)
        return error_set(SLUICE_ERR_ARGUMENT, "%s: the plan has no layer %" PRIu32 " expert %" PRIu32, w->path, layer,
                         expert);
    return put_item(w, item, data, bytes);
}

static bool is_written(struct container_writer *w, uint32_t item)
{
    pthread_mutex_lock(&w->mutex);
    bool written = w->states[item] == ITEM_WRITTEN;
    pthread_mutex_unlock(&w->mutex);
    return written;
}

bool container_writer_has_tensor(struct container_writer *w, uint32_t index)
{
    return index < w->directory.header.tensor_count && is_written(w, index);
}

bool container_writer_has_expert(struct container_writer *w, uint32_t layer, uint32_t expert)
{
    uint32_t item = expert_item(w, layer, expert);
    return item < w->item_count && is_written(w, item);
}

struct container_writer_progress container_writer_progress(struct container_writer *w)
{
    pthread_mutex_lock(&w->mutex);
    struct container_writer_progress progress = w->progress;
    pthread_mutex_unlock(&w->mutex);
    return progress;
}
