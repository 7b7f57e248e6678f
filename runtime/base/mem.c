#include "runtime/base/mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/status.h"

static _Atomic uint64_t fail_countdown = UINT64_MAX;

static bool injected_failure(void)
{
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) == UINT64_MAX)
        return false;
    return atomic_fetch_sub(&fail_countdown, 1) == 0; // wraps to UINT64_MAX: off again
}

static void *no_memory(size_t count, size_t size)
{
    error_set(SLUICE_ERR_MEMORY, "out of memory: cannot allocate %zu x %zu bytes; close other programs or lower --ram",
              count, size);
    return NULL;
}

void *mem_alloc(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || injected_failure())
        return no_memory(count, size);
    void *pointer = calloc(1, bytes ? bytes : 1);
    return pointer ? pointer : no_memory(count, size);
}

void *mem_realloc(void *pointer, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || injected_failure())
        return no_memory(count, size);
    void *grown = realloc(pointer, bytes ? bytes : 1);
    return grown ? grown : no_memory(count, size);
}

char *mem_strndup(const char *text, size_t length)
{
    char *copy = length < SIZE_MAX ? mem_alloc(length + 1, 1) : no_memory(length, 1);
    if (copy)
        memcpy(copy, text, length);
    return copy;
}

void mem_free(void *pointer)
{
    free(pointer);
}

void mem_fail_at(uint64_t index)
{
    atomic_store(&fail_countdown, index);
}

bool mem_failure_pending(void)
{
    return atomic_load(&fail_countdown) != UINT64_MAX;
}
