// The list of items that have safely arrived in PATH.part, so that an interrupted conversion can go on. It starts with
// the identity of plan and inputs and what the conversion says of itself; then 32 bytes per item, each with its own
// check. What follows the first broken entry is ignored (the process was killed while appending).
#ifndef SLUICE_OFFLOAD_CONTAINER_JOURNAL_H
#define SLUICE_OFFLOAD_CONTAINER_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "offload/container_format.h"
#include "offload/file_range.h"
#include "runtime/base/status.h"

enum { CONTAINER_JOURNAL_TEXT_BYTES = 512 };

struct container_journal {
    char *path; // owned
    int descriptor;
    uint64_t end_bytes; // of the valid entries
    file_range_pwrite *write;
    void *write_user;
};

struct container_journal_entry {
    uint64_t item; // tensor index, or tensor_count + dense index of the expert
    uint8_t xxh3[CONTAINER_HASH_BYTES];
};

// What it starts with.
struct container_journal_start {
    uint8_t identity[16];
    uint32_t item_count;                     // of the whole plan
    char text[CONTAINER_JOURNAL_TEXT_BYTES]; // which conversion this is, for messages
};

// Opens or creates; `path` becomes the journal's (mem_free), also after a failure. Then read the start, or reset.
enum sluice_status container_journal_open(struct container_journal *journal, char *path);

// Closes the file and leaves it there. A zeroed object with descriptor -1 is allowed.
void container_journal_close(struct container_journal *journal);

// *valid is false if the journal is new, torn or something else.
enum sluice_status container_journal_read_start(struct container_journal *journal,
                                                struct container_journal_start *start, bool *valid);

// After a valid start: calls `entry` for each valid entry, oldest first. Changes nothing.
typedef enum sluice_status container_journal_function(void *user, const struct container_journal_entry *entry);
enum sluice_status container_journal_load(struct container_journal *journal, container_journal_function *entry,
                                          void *user);

// After load: what follows the valid entries goes, so that appending can begin.
enum sluice_status container_journal_cut(struct container_journal *journal);

// Empties it for a new conversion; durable on return.
enum sluice_status container_journal_reset(struct container_journal *journal,
                                           const struct container_journal_start *start);

// Appends; durable on return. After a failure the entries count as not written and may be appended again.
enum sluice_status container_journal_append(struct container_journal *journal,
                                            const struct container_journal_entry *entries, uint32_t count);

#endif
