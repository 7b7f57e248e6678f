// Memory that the drive reads to: anonymous, private (the only kind that every driver imports) and made of huge pages
// where the system gives them.
//
// A read of a 1.8 MB expert into pages of 4 KiB is a list of 432 segments, which the kernel builds, splits into as many
// requests as the drive's queue needs, and maps one by one; in huge pages it is two. io_uring sees huge pages only if
// all of a registered buffer are such (kernels from 6.12 on), so the memory begins at a border of them: a mapping that
// begins elsewhere has small pages at its beginning.
#ifndef SLUICE_OFFLOAD_READ_MEMORY_H
#define SLUICE_OFFLOAD_READ_MEMORY_H

#include <stdint.h>

enum { READ_MEMORY_HUGE_BYTES = 2 << 20 }; // a huge page of x86, and of ARM with pages of 4 KiB

// `bytes` > 0 zeros, aligned to READ_MEMORY_HUGE_BYTES if they fill one. NULL: the system refuses. Pages are taken when
// they are first touched. A fork does not inherit it.
void *read_memory_map(uint64_t bytes);

// Gives all of it back, or with `memory` inside of it what lies behind there. NULL is allowed.
void read_memory_unmap(void *memory, uint64_t bytes);

#endif
