// Time in nanoseconds.
#ifndef SLUICE_BASE_CLOCK_H
#define SLUICE_BASE_CLOCK_H

#include <pthread.h>
#include <stdint.h>

uint64_t clock_ns(void); // monotonic

// Processor time of the calling thread, and of the whole process with all threads. 0 where the system cannot tell.
uint64_t clock_thread_cpu_ns(void);
uint64_t clock_process_cpu_ns(void);

// Processor time of another thread, which has not been joined.
uint64_t clock_cpu_ns_of(pthread_t thread);

#endif
