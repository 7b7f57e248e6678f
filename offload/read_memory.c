#include "offload/read_memory.h"

#include <stddef.h>
#include <sys/mman.h>

static uint8_t *map(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

// Maps more than is needed and gives back what lies before and behind.
static uint8_t *map_aligned(uint64_t bytes, uint64_t alignment)
{
    uint8_t *memory = map(bytes + alignment);
    if (!memory)
        return NULL;
    uint64_t before = -(uintptr_t)memory % alignment;
    if (before)
        munmap(memory, before);
    munmap(memory + before + bytes, alignment - before);
    return memory + before;
}

void *read_memory_map(uint64_t bytes)
{
    uint8_t *memory = bytes < READ_MEMORY_HUGE_BYTES ? map(bytes) : map_aligned(bytes, READ_MEMORY_HUGE_BYTES);
    if (!memory)
        return NULL;
    madvise(memory, bytes, MADV_HUGEPAGE);
    madvise(memory, bytes, MADV_DONTFORK); // a fork would make the device's copy-on-write pages diverge
    return memory;
}

void read_memory_unmap(void *memory, uint64_t bytes)
{
    if (memory && bytes)
        munmap(memory, bytes);
}
