// Which expert records were found right since the file was opened, or changed last.
//
// A record that was read, matched its checksum and is read again can differ only if the file was changed, or the drive
// returns wrong data and does not notice it; the second every drive guards with codes of its own, which is what file
// systems rely on too. So a record's checksum is computed once, and again when the file is not what it was: its size
// and its times of change are looked at whenever reads have ended, which costs less than a hundredth of a checksum.
//
//   file    ----unchanged for a while----> version 1 ----written----> 0 ----unchanged for a while----> version 2 ...
//   records    none is known to be right   | each once read           | none                           | each once read
//
// Times of change have a granularity (a tick of the kernel's clock, or a second on old file systems): a file that was
// written within the last one may be written again without a trace. Its version is 0, and nothing is known about it.
//
// What is not noticed: writes through a mapping whose pages were written to already, where reads go through the page
// cache; what another machine writes to a network file system, for as long as attributes are cached.
//
// Threads: one at a time. Nothing is allocated after verified_create.
#ifndef SLUICE_OFFLOAD_VERIFIED_H
#define SLUICE_OFFLOAD_VERIFIED_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

struct verified;

// For `count` records in the file open at `descriptor`, which must stay open. SLUICE_ERR_MEMORY.
enum sluice_status verified_create(int descriptor, uint64_t count, struct verified **verified);
void verified_destroy(struct verified *verified); // NULL is allowed

// Looks at the file: forgets all records if it was changed.
void verified_look(struct verified *verified);

// Of the file as of the last look; 0: it may be changing.
uint64_t verified_version(const struct verified *verified);

// Whether the record, which had been read before the last look, need not be checked.
bool verified_has(const struct verified *verified, uint64_t record);

// The record is right. `version` is that of the moment when its reading began: if the file was changed since, or may
// have been, nothing is noted.
void verified_add(struct verified *verified, uint64_t record, uint64_t version);

#endif
