// Host memory: every allocation of the library goes through here, so that "the n-th allocation fails" is a test
// parameter and sizes are multiplied with an overflow check in one place.
#ifndef SLUICE_BASE_MEM_H
#define SLUICE_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// `count` objects of `size` bytes, zeroed. NULL (with the error message set) on overflow or exhaustion; never NULL for
// count * size == 0. Release with mem_free.
void *mem_alloc(size_t count, size_t size);

// Grows or shrinks `pointer` (NULL is allowed) to `count` objects; new bytes are not zeroed. NULL on failure, and then
// `pointer` is still valid.
void *mem_realloc(void *pointer, size_t count, size_t size);

// A NUL-terminated copy of `length` bytes.
char *mem_strndup(const char *text, size_t length);

// NULL is allowed.
void mem_free(void *pointer);

// Tests only: the allocation number `index` from now on (0 is the next) fails, once; UINT64_MAX switches it off.
void mem_fail_at(uint64_t index);

// Whether the failure that was asked for is yet to come.
bool mem_failure_pending(void);

#endif
