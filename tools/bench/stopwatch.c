#include "tools/bench/stopwatch.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "runtime/base/clock.h"

// A submission shorter than this says more about submitting.
static const double SUBMISSION_SECONDS_LEAST = 2e-3;
enum { REPEATS_MAX = 64, SUBMISSIONS_MAX = 7 };

struct total {
    uint64_t ns;
};

static const char timed_label[] = "timed";

static void add_time(void *user, const char *label, uint64_t total_ns, uint64_t count)
{
    (void)count;
    if (strcmp(label, timed_label) == 0)
        ((struct total *)user)->ns = total_ns;
}

static double processor_seconds(void)
{
    struct timespec t;
    return clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0 ? (double)t.tv_sec + 1e-9 * (double)t.tv_nsec : 0;
}

const char *stopwatch_basis(const struct gpu_device *device)
{
    if (gpu_device_caps(device)->is_software)
        return "processor time";
    return gpu_times_enabled(device) ? "GPU time" : "time on the wall";
}

static enum sluice_status submit_and_wait(const struct stopwatch *watch, stopwatch_record *record, void *user,
                                          unsigned repeats)
{
    struct gpu_command *cmd;
    uint64_t tick;
    enum sluice_status status;
    TRY(gpu_command_begin(watch->device, &cmd));
    gpu_label(cmd, timed_label);
    for (unsigned i = 0; i < repeats; i++)
        record(user, cmd);
    TRY(gpu_command_submit(cmd, &tick));
    TRY(gpu_wait(watch->device, tick));
fail:
    return status;
}

static enum sluice_status measure_once(const struct stopwatch *watch, stopwatch_record *record, void *user,
                                       unsigned repeats, struct stopwatch_time *time)
{
    struct total total = {0};
    gpu_times_reset(watch->device);
    double processor = processor_seconds();
    uint64_t start_ns = clock_ns();
    enum sluice_status status = submit_and_wait(watch, record, user, repeats);
    if (status < 0)
        return status;
    time->wall_seconds = (double)(clock_ns() - start_ns) * 1e-9 / repeats;
    processor = (processor_seconds() - processor) / repeats;
    gpu_times(watch->device, add_time, &total);
    bool software = gpu_device_caps(watch->device)->is_software;
    double gpu = total.ns ? (double)total.ns * 1e-9 / repeats : time->wall_seconds;
    time->seconds = software ? processor : gpu;
    return SLUICE_OK;
}

enum sluice_status stopwatch_measure(const struct stopwatch *watch, stopwatch_record *record, void *user,
                                     struct stopwatch_time *time)
{
    enum sluice_status status;
    struct stopwatch_time one;
    unsigned repeats = 1;
    TRY(measure_once(watch, record, user, 1, &one));
    *time = (struct stopwatch_time){INFINITY, INFINITY, one.wall_seconds};
    uint64_t start_ns = clock_ns();
    for (int i = 0; i < SUBMISSIONS_MAX; i++) {
        TRY(measure_once(watch, record, user, repeats, &one));
        // The first of these only tells how many runs a submission needs.
        if (i == 0 && one.seconds < SUBMISSION_SECONDS_LEAST) {
            double wanted = SUBMISSION_SECONDS_LEAST / fmax(one.seconds, 1e-6);
            repeats = wanted < REPEATS_MAX ? (unsigned)wanted + 1 : REPEATS_MAX;
            continue;
        }
        time->seconds = fmin(time->seconds, one.seconds);
        time->wall_seconds = fmin(time->wall_seconds, one.wall_seconds);
        if ((double)(clock_ns() - start_ns) * 1e-9 > watch->seconds_max)
            break;
    }
fail:
    return status;
}
