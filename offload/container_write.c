#include "offload/container_write.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "offload/container_part.h"
#include "offload/container_plan.h"
#include "offload/container_writer_private.h"
#include "offload/file_range.h"
#include "offload/xxh3.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/output_path.h"
#include "runtime/base/part_file.h"

enum { BATCH_BYTES_DEFAULT = 256 << 20, COMPARE_BUFFER_BYTES = 1 << 20 };

// What must be equal for a resume: the caller's fingerprint and the whole plan, documents included.
static void plan_identity(const struct container_directory *directory, uint8_t out[16])
{
    struct {
        uint8_t fingerprint[16], directory_xxh3[CONTAINER_HASH_BYTES];
        uint64_t version;
    } identity = {.version = CONTAINER_VERSION};
    memcpy(identity.fingerprint, directory->header.fingerprint, sizeof identity.fingerprint);
    container_hash(directory->bytes, directory->header.directory_bytes, identity.directory_xxh3);
    container_hash(&identity, sizeof identity, out);
}

struct resumption {
    struct container_writer *w;
    uint8_t *buffer; // COMPARE_BUFFER_BYTES
    uint32_t resumed_count, changed_count;
};

static enum sluice_status hash_part(const struct resumption *r, const struct container_span *span,
                                    uint8_t out[CONTAINER_HASH_BYTES])
{
    XXH3_state_t state;
    XXH128_canonical_t canonical;
    XXH3_128bits_reset(&state);
    for (uint64_t done = 0; done < span->padded_bytes;) {
        uint64_t left = span->padded_bytes - done;
        size_t bytes = left < COMPARE_BUFFER_BYTES ? (size_t)left : COMPARE_BUFFER_BYTES;
        enum sluice_status status =
            file_range_read(r->w->descriptor, r->w->part_path, r->buffer, bytes, span->offset + done);
        if (status < 0)
            return status;
        XXH3_128bits_update(&state, r->buffer, bytes);
        done += bytes;
    }
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
    memcpy(out, canonical.digest, CONTAINER_HASH_BYTES);
    return SLUICE_OK;
}

// An item that the journal lists counts only if its bytes are still those.
static enum sluice_status resume_item(void *user, const struct container_journal_entry *entry)
{
    struct resumption *r = user;
    struct container_writer *w = r->w;
    uint8_t hash[CONTAINER_HASH_BYTES];
    if (entry->item >= w->item_count || w->states[entry->item] == ITEM_WRITTEN)
        return SLUICE_OK;
    struct container_span span = container_writer_span(w, (uint32_t)entry->item);
    enum sluice_status status = hash_part(r, &span, hash);
    if (status < 0)
        return status;
    if (memcmp(hash, entry->xxh3, sizeof hash) != 0) {
        r->changed_count++;
        return SLUICE_OK;
    }
    memcpy(span.xxh3, hash, sizeof hash);
    w->states[entry->item] = ITEM_WRITTEN;
    w->progress.bytes_done += span.padded_bytes;
    r->resumed_count++;
    return SLUICE_OK;
}

// Killed between two of these steps it leaves an empty file, or a journal that is ours and lists nothing.
static enum sluice_status start_over(struct container_writer *w, const struct container_journal_start *start)
{
    enum sluice_status status;
    w->fresh = true;
    if (ftruncate(w->descriptor, 0) != 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot empty: %s", w->part_path, strerror(errno));
    TRY(container_part_check_room(w->descriptor, w->part_path, w->directory.header.file_bytes));
    TRY(container_journal_reset(&w->journal, start));
    TRY(container_part_reserve(w->descriptor, w->part_path, w->directory.header.file_bytes));
fail:
    return status;
}

// Takes over what the journal lists.
static enum sluice_status go_on(struct container_writer *w)
{
    struct resumption r = {.w = w};
    uint64_t file_bytes = w->directory.header.file_bytes;
    enum sluice_status status = SLUICE_ERR_MEMORY;
    r.buffer = mem_alloc(COMPARE_BUFFER_BYTES, 1);
    if (!r.buffer)
        goto fail;
    if (ftruncate(w->descriptor, (off_t)file_bytes) != 0)
        TRY(error_set(SLUICE_ERR_IO, "%s: cannot set the size: %s", w->part_path, strerror(errno)));
    TRY(container_part_reserve(w->descriptor, w->part_path, file_bytes));
    TRY(container_journal_load(&w->journal, resume_item, &r));
    TRY(container_journal_cut(&w->journal));
    w->progress.bytes_resumed = w->progress.bytes_done;
    log_message(LOG_NOTE, "%s: going on; %" PRIu32 " of %" PRIu32 " items are there, %" PRIu32 " had changed", w->path,
                r.resumed_count, w->item_count, r.changed_count);
fail:
    mem_free(r.buffer);
    return status;
}

static enum sluice_status count_item(void *user, const struct container_journal_entry *entry)
{
    (void)entry;
    ++*(uint32_t *)user;
    return SLUICE_OK;
}

// Somebody may want it: says whose it is. `theirs` NULL: unknown.
static enum sluice_status refuse(struct container_writer *w, const struct container_journal_start *theirs,
                                 const struct container_journal_start *ours)
{
    static const char advice[] = "pass --restart to throw it away, or write to another file";
    uint32_t count = 0;
    enum sluice_status status;
    if (!theirs) {
        if (lseek(w->journal.descriptor, 0, SEEK_END) == 0)
            unlink(w->journal.path); // opening it made it
        return error_set(SLUICE_ERR_ARGUMENT,
                         "%s: is there already, and what wrote it is unknown (its list of what has arrived, %s, is "
                         "missing or damaged); %s",
                         w->part_path, w->journal.path, advice);
    }
    TRY(container_journal_load(&w->journal, count_item, &count));
    const char *difference = strcmp(theirs->text, ours->text) == 0
                                 ? "the same, but its input or other options have changed since"
                                 : ours->text;
    // What to do comes first: two long descriptions may not fit.
    return error_set(SLUICE_ERR_ARGUMENT,
                     "%s: belongs to another conversion, with %" PRIu32 " of %" PRIu32
                     " items done; run that one's command to go on with it, %s. It is: %s. This one is: %s",
                     w->part_path, count, theirs->item_count, advice, theirs->text, difference);
fail:
    return status;
}

// Goes on with what is there, if it belongs to the same plan; else begins, if nothing is there or it may go.
static enum sluice_status resume(struct container_writer *w, const struct container_writer_options *options)
{
    struct container_journal_start ours = {.item_count = w->item_count}, there;
    bool known;
    enum sluice_status status;
    plan_identity(&w->directory, ours.identity);
    snprintf(ours.text, sizeof ours.text, "%s", options->text ? options->text : "");
    off_t part_bytes = lseek(w->descriptor, 0, SEEK_END);
    TRY(container_journal_read_start(&w->journal, &there, &known));
    if (part_bytes == 0 || options->restart)
        return start_over(w, &ours);
    if (known && memcmp(there.identity, ours.identity, sizeof ours.identity) == 0)
        return go_on(w);
    return refuse(w, known ? &there : NULL, &ours);
fail:
    return status;
}

static char *path_with(const char *path, const char *suffix)
{
    size_t bytes = strlen(path) + strlen(suffix) + 1;
    char *text = mem_alloc(bytes, 1);
    if (text)
        snprintf(text, bytes, "%s%s", path, suffix);
    return text;
}

static enum sluice_status allocate(struct container_writer *w, const char *path)
{
    const struct container_disk_header *header = &w->directory.header;
    w->item_count = (uint32_t)(header->tensor_count + header->expert_count);
    w->progress.bytes_total = header->file_bytes - header->tensors_offset;
    w->path = path_with(path, "");
    w->part_path = path_with(path, ".part");
    w->states = mem_alloc(w->item_count, sizeof *w->states);
    w->pending = mem_alloc(w->item_count, sizeof *w->pending);
    return w->path && w->part_path && w->states && w->pending ? SLUICE_OK : SLUICE_ERR_MEMORY;
}

static enum sluice_status open_files(struct container_writer *w)
{
    enum sluice_status status;
    TRY(part_file_open(w->part_path, &w->descriptor));
    w->direct_descriptor = container_part_open_direct(w->part_path);
    char *journal_path = path_with(w->part_path, ".journal");
    if (!journal_path)
        return SLUICE_ERR_MEMORY;
    TRY(container_journal_open(&w->journal, journal_path));
    w->journal.write = container_writer_pwrite;
    w->journal.write_user = w;
fail:
    return status;
}

static enum sluice_status put_documents(struct container_writer *w, const struct container_plan *plan)
{
    for (uint32_t i = 0; i < plan->document_count; i++) {
        enum sluice_status status = container_writer_put_padded(w, plan->documents[i].text, plan->documents[i].bytes,
                                                                w->directory.documents[i].offset);
        if (status < 0)
            return status;
    }
    return SLUICE_OK;
}

enum sluice_status container_writer_open(const char *path, const struct container_plan *plan,
                                         const struct container_writer_options *options, struct container_writer **out)
{
    enum sluice_status status;
    *out = NULL;
    struct container_writer *w = mem_alloc(1, sizeof *w);
    if (!w)
        return SLUICE_ERR_MEMORY;
    pthread_mutex_init(&w->mutex, NULL);
    w->descriptor = w->direct_descriptor = w->journal.descriptor = -1;
    w->batch_bytes = options->batch_bytes ? options->batch_bytes : BATCH_BYTES_DEFAULT;
    if (options->faults)
        w->faults = *options->faults;
    TRY(output_path_check(path));
    TRY(container_plan_directory(plan, options->fingerprint, &w->directory));
    TRY(allocate(w, path));
    TRY(open_files(w));
    TRY(resume(w, options));
    TRY(put_documents(w, plan));
    *out = w;
    return SLUICE_OK;
fail:
    container_writer_close(w);
    return status;
}

// Nothing worth a resume was written: leave the folder as it was.
static void remove_files(struct container_writer *w)
{
    unlink(w->part_path);
    unlink(w->journal.path);
}

void container_writer_close(struct container_writer *w)
{
    if (!w)
        return;
    struct error_record error; // of what made the caller give up
    error_save(&error, SLUICE_OK);
    if (w->journal.descriptor >= 0 && !w->finished) {
        // A failure here costs the repetition of one batch; the next run finds out.
        (void)container_writer_flush(w);
        if (w->fresh && w->progress.bytes_done == 0)
            remove_files(w);
    }
    container_journal_close(&w->journal);
    if (w->direct_descriptor >= 0)
        close(w->direct_descriptor);
    if (w->descriptor >= 0)
        close(w->descriptor); // releases the lock
    container_directory_free(&w->directory);
    pthread_mutex_destroy(&w->mutex);
    mem_free(w->states);
    mem_free(w->pending);
    mem_free(w->path);
    mem_free(w->part_path);
    mem_free(w);
    (void)error_restore(&error);
}

static enum sluice_status check_complete(struct container_writer *w)
{
    char text[CONTAINER_ITEM_TEXT_BYTES];
    for (uint32_t item = 0; item < w->item_count; item++)
        if (w->states[item] != ITEM_WRITTEN)
            return error_set(SLUICE_ERR_ARGUMENT, "%s: cannot be finished: %s was never written", w->path,
                             container_writer_item_text(w, item, text));
    return SLUICE_OK;
}

// All checksums are known now.
static enum sluice_status put_directory(struct container_writer *w)
{
    struct container_disk_header *header = &w->directory.header;
    enum sluice_status status;
    container_hash_padded(w->directory.bytes, header->directory_bytes, header->directory_xxh3);
    container_hash(header, offsetof(struct container_disk_header, header_xxh3), header->header_xxh3);
    TRY(container_writer_put_padded(w, w->directory.bytes, header->directory_bytes, header->directory_offset));
    TRY(container_writer_put_padded(w, header, sizeof *header, 0));
fail:
    return status;
}

enum sluice_status container_writer_finish(struct container_writer *w)
{
    enum sluice_status status;
    pthread_mutex_lock(&w->mutex);
    status = check_complete(w);
    if (status == SLUICE_OK)
        status = container_writer_flush(w);
    pthread_mutex_unlock(&w->mutex);
    TRY(status);
    TRY(put_directory(w));
    TRY(container_header_check(&w->directory.header, w->part_path, w->directory.header.file_bytes));
    TRY(container_part_publish(w->descriptor, w->part_path, w->path));
    w->finished = true;
    unlink(w->journal.path); // if this is lost, the next writer finds a journal without its file and ignores it
fail:
    return status;
}
