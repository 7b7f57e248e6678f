#include "tools/bench/stopwatch.h"

#include <math.h>
#include <string.h>

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
    double processor = clock_seconds(clock_process_cpu_ns());
    uint64_t start_ns = clock_ns();
    enum sluice_status status = submit_and_wait(watch, record, user, repeats);
    if (status < 0)
        return status;
    time->wall_seconds = clock_seconds(clock_ns() - start_ns) / repeats;
    processor = (clock_seconds(clock_process_cpu_ns()) - processor) / repeats;
    gpu_times(watch->device, add_time, &total);
    bool software = gpu_device_caps(watch->device)->is_software;
    double gpu = total.ns ? clock_seconds(total.ns) / repeats : time->wall_seconds;
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
        if (clock_seconds(clock_ns() - start_ns) > watch->seconds_max)
            break;
    }
fail:
    return status;
}
