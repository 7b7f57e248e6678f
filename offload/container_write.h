// Writing a `*.sluice` container. The only place that does; killed at any moment it leaves either no file or a complete
// one under the final name.
//
// The whole plan is declared first, so that every offset is known before the first byte. The data goes to PATH.part;
// PATH.part.journal lists what has safely arrived there. Opening a writer again with the same plan and fingerprint goes
// on from there, everything listed being re-read and compared first. A PATH.part of another plan or fingerprint may be
// hours of somebody's work: it is left alone and the writer refused, unless options->restart is set.
// container_writer_finish writes directory and header, syncs, and renames PATH.part to PATH (replacing a file that is
// already there). Two writers of one path: the second is refused. Items of 64 KiB and more are written past the page
// cache where the file system can (O_DIRECT), so that a file larger than memory pushes nothing out of it.
#ifndef SLUICE_OFFLOAD_CONTAINER_WRITE_H
#define SLUICE_OFFLOAD_CONTAINER_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "offload/container.h"
#include "runtime/base/status.h"

// Everything a plan points to stays the caller's and need only live during the call that takes the plan, except that
// container_plan_bytes and container_writer_open read it. Names: printable ASCII without spaces, at most 255 bytes,
// unique in their table.
struct container_plan_type {
    uint32_t id; // ascending
    const char *name;
};

struct container_plan_document {
    const char *name;
    const void *text;
    uint64_t bytes;
};

struct container_plan_tensor {
    const char *name;
    uint32_t type_id; // declared in types
    enum container_layout layout;
    uint64_t rows, cols, bytes;
};

struct container_plan_experts {
    uint32_t layer; // ascending
    uint32_t expert_count;
    uint32_t gate_up_type_id, down_type_id; // declared in types
    uint32_t hidden, intermediate;
    uint64_t down_offset;  // a multiple of 16
    uint64_t record_bytes; // a multiple of 4096
};

struct container_plan {
    const struct container_plan_type *types;
    uint32_t type_count;
    const struct container_plan_document *documents;
    uint32_t document_count;
    const struct container_plan_tensor *tensors;
    uint32_t tensor_count;
    const struct container_plan_experts *layers;
    uint32_t layer_count;
};

// Fault injection for tests; all zero: none.
struct container_writer_faults {
    uint64_t write_error_at;    // this write (1 is the first) and all later ones...
    uint64_t write_error_count; // ...or only so many (0: all) fail...
    int write_error;            // ...with this errno
    size_t write_bytes_max;     // a write stops short after so many bytes
    uint32_t interrupt_every;   // every n-th write fails with EINTR
    uint32_t sync_error_at;     // this sync of the data (1 is the first) fails with EIO
};

struct container_writer_options {
    uint8_t fingerprint[16]; // identity of inputs and options: what must be equal for a resume
    const char
        *text;    // which conversion this is: what a later one with another plan is told; cut at 511 bytes; NULL: ""
    bool restart; // whatever is in PATH.part goes
    uint64_t batch_bytes;                         // data between two syncs; 0: 256 MiB
    const struct container_writer_faults *faults; // NULL: none
};

struct container_writer;

// The size of the finished file. SLUICE_ERR_ARGUMENT with a message if the plan is impossible.
enum sluice_status container_plan_bytes(const struct container_plan *plan, uint64_t *bytes);

// Starts or resumes. Checks first that the disk has room for what is missing. *w is NULL after a failure.
// Errors: SLUICE_ERR_ARGUMENT (plan; another writer is at work; PATH.part is another conversion's; `path` is no regular
// file), SLUICE_ERR_IO (cannot create, disk full).
enum sluice_status container_writer_open(const char *path, const struct container_plan *plan,
                                         const struct container_writer_options *options, struct container_writer **w);

// Ends without finishing. What was put is synced and stays in PATH.part for a later resume; if nothing was ever put,
// PATH.part is removed. NULL is allowed; also releases a writer after container_writer_finish.
void container_writer_close(struct container_writer *w);

// Whether the item is safely there, from this run or an earlier one. `index` counts in plan->tensors.
bool container_writer_has_tensor(struct container_writer *w, uint32_t index);
bool container_writer_has_expert(struct container_writer *w, uint32_t layer, uint32_t expert);

// Bytes of tensors and experts that are there, and of all: for a progress line. bytes_resumed of them came from earlier
// runs.
struct container_writer_progress {
    uint64_t bytes_done, bytes_total, bytes_resumed;
};
struct container_writer_progress container_writer_progress(struct container_writer *w);

// Writes one item; each at most once, in any order. `bytes` is that of the plan; for an expert at most record_bytes and
// more than record_bytes - 4096, the rest being filled with zeros.
// Threads: the put and has functions may be called from several at once; the data is not kept after the return.
// Errors: SLUICE_ERR_ARGUMENT (wrong size, put twice), SLUICE_ERR_IO (with the room needed and free, if the disk is
// full; put may be tried again after room was made).
enum sluice_status container_writer_put_tensor(struct container_writer *w, uint32_t index, const void *data,
                                               uint64_t bytes);
enum sluice_status container_writer_put_expert(struct container_writer *w, uint32_t layer, uint32_t expert,
                                               const void *data, uint64_t bytes);

// Makes the file complete under its final name. SLUICE_ERR_ARGUMENT naming the first item that is missing. After
// another failure PATH.part is still there to resume from. Close the writer in any case.
enum sluice_status container_writer_finish(struct container_writer *w);

#endif
