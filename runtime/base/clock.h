// Time in nanoseconds.
#ifndef SLUICE_BASE_CLOCK_H
#define SLUICE_BASE_CLOCK_H

#include <pthread.h>
#include <stdint.h>

uint64_t clock_ns(void); // monotonic

static inline double clock_seconds(uint64_t ns)
{
    return (double)ns * 1e-9;
}

// How many of `count` fall on a second; 0 if no time has passed.
static inline double clock_per_second(uint64_t count, uint64_t ns)
{
    return ns ? (double)count * 1e9 / (double)ns : 0;
}

// Processor time of the calling thread, and of the whole process with all threads. 0 where the system cannot tell.
uint64_t clock_thread_cpu_ns(void);
uint64_t clock_process_cpu_ns(void);

// The processor time of work that a thread does again and again, from a sample: its clock is a system call, of 0.4 us,
// and of three times that with cold caches. The first pieces are all measured, since they are not like the others; then
// one in `one_in`, which stands for all of them. All zero at first.
struct clock_sample {
    uint64_t cpu_ns;   // of all pieces so far
    uint64_t pieces;   // begun
    uint64_t start_ns; // of the one under way,
    uint32_t weight;   // which stands for so many; 0: it is not measured
};

enum { CLOCK_SAMPLE_FIRST = 500 };

// `excluded_ns` is a count of time that does not belong to the work, and may grow during a piece. Where the pieces are
// few or unlike each other, one_in is 1.
void clock_sample_begin(struct clock_sample *sample, uint32_t one_in, uint64_t excluded_ns);
void clock_sample_end(struct clock_sample *sample, uint64_t excluded_ns);

// Processor time of another thread, which has not been joined.
uint64_t clock_cpu_ns_of(pthread_t thread);

#endif
