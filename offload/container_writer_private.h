// The open writer, shared by container_write.c (opening, resuming, finishing) and container_put.c (writing items).
#ifndef SLUICE_OFFLOAD_CONTAINER_WRITER_PRIVATE_H
#define SLUICE_OFFLOAD_CONTAINER_WRITER_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "offload/container_directory.h"
#include "offload/container_journal.h"
#include "offload/container_write.h"

enum item_state { ITEM_MISSING, ITEM_IN_WORK, ITEM_WRITTEN };

// Items are numbered: tensors first, then the experts of all layers.
struct container_writer {
    char *path, *part_path;
    int descriptor;             // of PATH.part, locked; -1 before
    int direct_descriptor;      // of the same file past the page cache; -1: not to be had
    atomic_bool direct_refused; // it wants another alignment than ours
    struct container_directory directory;
    struct container_journal journal;
    uint32_t item_count;
    bool fresh; // the files began empty in this run
    bool finished;
    struct container_writer_faults faults;
    _Atomic uint64_t write_count;

    pthread_mutex_t mutex;                   // protects what follows, and the directory's checksums
    uint8_t *states;                         // [item_count] enum item_state
    struct container_journal_entry *pending; // [item_count]: written, but neither synced nor in the journal
    uint32_t pending_count;
    uint64_t pending_bytes, batch_bytes;
    uint32_t sync_count;
    struct container_writer_progress progress;
    struct error_record broken; // a failed sync: nobody knows what reached the disk, so nothing more is accepted
};

// Where an item lies.
struct container_span {
    uint64_t offset, bytes, padded_bytes;
    uint8_t *xxh3;
};

enum { CONTAINER_ITEM_TEXT_BYTES = 64 + CONTAINER_NAME_BYTES_MAX };

struct container_span container_writer_span(const struct container_writer *w, uint32_t item);

// "tensor 'x'" or "layer 3 expert 17", for messages. Returns `out`.
const char *container_writer_item_text(const struct container_writer *w, uint32_t item,
                                       char out[CONTAINER_ITEM_TEXT_BYTES]);

// pwrite with the writer's fault injection; `user` is the writer.
file_range_pwrite container_writer_pwrite;

// Data and the zeros that pad it to 4 KiB. Takes the mutex in case of a full disk.
enum sluice_status container_writer_put_padded(struct container_writer *w, const void *data, uint64_t bytes,
                                               uint64_t offset);

// Syncs what is pending and enters it in the journal. The mutex is held.
enum sluice_status container_writer_flush(struct container_writer *w);

#endif
