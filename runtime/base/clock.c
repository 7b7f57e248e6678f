#include "runtime/base/clock.h"

#include <time.h>

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) != 0)
        return 0;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t clock_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_thread_cpu_ns(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t clock_process_cpu_ns(void)
{
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t clock_cpu_ns_of(pthread_t thread)
{
    clockid_t clock;
    return pthread_getcpuclockid(thread, &clock) == 0 ? read_clock(clock) : 0;
}

void clock_sample_begin(struct clock_sample *sample, uint32_t one_in, uint64_t excluded_ns)
{
    uint64_t piece = sample->pieces++;
    sample->weight = piece < CLOCK_SAMPLE_FIRST ? 1 : piece % one_in == 0 ? one_in : 0;
    if (sample->weight)
        sample->start_ns = clock_thread_cpu_ns() - excluded_ns;
}

void clock_sample_end(struct clock_sample *sample, uint64_t excluded_ns)
{
    if (sample->weight)
        sample->cpu_ns += sample->weight * (clock_thread_cpu_ns() - excluded_ns - sample->start_ns);
}
