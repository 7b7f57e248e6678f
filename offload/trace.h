// Recording which experts were used, to compare caching policies offline (simulate.h). A compact file: a 32-byte
// header, then per (step, layer) 12 bytes and two per expert; 48 layers of 10 experts are 1.5 KB per token.
//
//   header  "SLTRACE1", u32 version, u32 layer_count, u32 expert_count, u32 expert_bytes, 8 zero bytes
//   record  u32 step, u16 layer, u16 kind, u16 count, u16 zero, u16 expert[count]       all little-endian
//
// A file that ends inside a record (the program was killed) is read up to there. Threads: one per object.
#ifndef SLUICE_OFFLOAD_TRACE_H
#define SLUICE_OFFLOAD_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { TRACE_EXPERTS_MAX = 65535 };

enum trace_kind {
    TRACE_DECODE, // one step of decoding, all sessions together
    TRACE_SWEEP,  // a prompt: its experts are read once each and leave the decode cache alone
    TRACE_MARK,   // no use: what follows is what a measurement counted
    // Before a sweep's record: which of its experts the prompt's last tokens used, by falling use (prompt_tail.h). The
    // engine keeps the first of them.
    TRACE_KEEP,
};

// How large what was traced is. Layers and experts per layer 1..65536; expert_bytes: of one expert's record, 0:
// unknown.
struct trace_shape {
    uint32_t layer_count, expert_count, expert_bytes;
};

// One step's uses in one layer, each expert once.
struct trace_record {
    uint32_t step, layer;
    enum trace_kind kind;
    uint32_t count;
    const uint16_t *experts; // [count]
};

struct trace_writer;

// Writes PATH.part, which replaces PATH at the end (runtime/base/output_file.h).
enum sluice_status trace_create(const char *path, const struct trace_shape *shape, struct trace_writer **w);

// Appends one record; buffered. layer < layer_count, experts < expert_count, count <= TRACE_EXPERTS_MAX (checked). A
// write error is kept and reported by trace_finish, so that recording never disturbs a generation.
void trace_append(struct trace_writer *w, const struct trace_record *record);

// Writes what is buffered, gives the file its name, closes and releases. Returns the first error; the file then has not
// got its name. NULL is allowed.
enum sluice_status trace_finish(struct trace_writer *w);

// Closes and releases after what was traced has failed: what there is stays in PATH.part. NULL is allowed.
void trace_abandon(struct trace_writer *w);

struct trace_reader;

// SLUICE_ERR_IO, SLUICE_ERR_FORMAT; *r is NULL then.
enum sluice_status trace_open(const char *path, struct trace_reader **r);
const struct trace_shape *trace_shape(const struct trace_reader *r);

// OK with the next record (its experts are valid until the next call), SLUICE_PENDING at the end of the file,
// SLUICE_ERR_FORMAT for an impossible record.
enum sluice_status trace_next(struct trace_reader *r, struct trace_record *record);
void trace_close(struct trace_reader *r); // NULL is allowed

#endif
