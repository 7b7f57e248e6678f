// Recording which experts were used, to compare caching policies offline. A compact file: a 32-byte header, then per
// (step, layer) 8 bytes and two per expert; 48 layers of 10 experts are 1.3 KB per token.
//
//   header  "SLTRACE1", u32 version, u32 layer_count, u32 expert_count, 12 zero bytes
//   record  u32 step, u16 layer, u16 count, u16 expert[count]          all little-endian
//
// A file that ends inside a record (the program was killed) is read up to there. Threads: one per object.
#ifndef SLUICE_OFFLOAD_TRACE_H
#define SLUICE_OFFLOAD_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { TRACE_EXPERTS_MAX = 65535 };

struct trace_writer;

// Replaces the file. layer_count 1..65536, expert_count (per layer) 1..65536.
enum sluice_status trace_create(const char *path, uint32_t layer_count, uint32_t expert_count, struct trace_writer **w);

// Appends one record; buffered. layer < layer_count, experts < expert_count, count <= TRACE_EXPERTS_MAX (checked). A
// write error is kept and reported by trace_finish, so that recording never disturbs a generation.
void trace_append(struct trace_writer *w, uint32_t step, uint32_t layer, const uint32_t *experts, uint32_t count);

// Writes what is buffered, closes and releases. Returns the first error. NULL is allowed.
enum sluice_status trace_finish(struct trace_writer *w);

struct trace_record {
    uint32_t step, layer, count;
    const uint16_t *experts; // [count], valid until the next call
};

struct trace_reader;

// SLUICE_ERR_IO, SLUICE_ERR_FORMAT; *r is NULL then.
enum sluice_status trace_open(const char *path, struct trace_reader **r);
uint32_t trace_layer_count(const struct trace_reader *r);
uint32_t trace_expert_count(const struct trace_reader *r);

// OK with the next record, SLUICE_PENDING at the end of the file, SLUICE_ERR_FORMAT for an impossible record.
enum sluice_status trace_next(struct trace_reader *r, struct trace_record *record);
void trace_close(struct trace_reader *r); // NULL is allowed

#endif
