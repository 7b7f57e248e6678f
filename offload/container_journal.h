// The list of items that have safely arrived in PATH.part, so that an interrupted conversion can go on. A 40-byte
// header with the identity of plan and inputs, then 32 bytes per item, each with its own check; what follows the first
// broken entry is ignored (the process was killed while appending).
#ifndef SLUICE_OFFLOAD_CONTAINER_JOURNAL_H
#define SLUICE_OFFLOAD_CONTAINER_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "offload/container_format.h"
#include "offload/file_range.h"
#include "runtime/base/status.h"

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

// Opens or creates; `path` becomes the journal's (mem_free), also after a failure. Then either load or reset.
enum sluice_status container_journal_open(struct container_journal *journal, char *path);

// Closes the file and leaves it there. A zeroed object with descriptor -1 is allowed.
void container_journal_close(struct container_journal *journal);

// Calls `entry` for each valid entry, oldest first. *matches is false (and nothing called) if the journal is new or
// belongs to another identity.
typedef enum sluice_status container_journal_function(void *user, const struct container_journal_entry *entry);
enum sluice_status container_journal_load(struct container_journal *journal, const uint8_t identity[16], bool *matches,
                                          container_journal_function *entry, void *user);

// Empties it for a new identity; durable on return.
enum sluice_status container_journal_reset(struct container_journal *journal, const uint8_t identity[16]);

// Appends; durable on return. After a failure the entries count as not written and may be appended again.
enum sluice_status container_journal_append(struct container_journal *journal,
                                            const struct container_journal_entry *entries, uint32_t count);

#endif
