// How much memory the kernel keeps in place for this process.
#ifndef SLUICE_TESTS_PINNED_MEMORY_H
#define SLUICE_TESTS_PINNED_MEMORY_H

#include <stdio.h>

// Kilobytes that the kernel holds in memory for io_uring; 0 where it does not say, or nothing is registered.
static inline unsigned long pinned_kilobytes(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[128];
    unsigned long value = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmPin: %lu", &value) == 1)
            break;
    if (file)
        fclose(file);
    return value;
}

#endif
