#include "tools/bench_measures.h"

#include <inttypes.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/output_file.h"
#include "tools/cli.h"

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

struct bench_measures {
    double tok_s;
    double bytes_read_per_token;
    double hit_device, hit_host; // share of the experts' uses, 0..1
    double drive_bytes_s;        // bytes read / time with at least one read in flight
    double direct_bytes_s;       // of direct reads in the same order, many at once; 0: not measured
    double direct_depth_bytes_s; // and with as many reads in flight as there were misses per layer and pass
    double wait_drive, wait_gpu; // share of the time, 0..1
    double submits_per_token, host_cpu_per_token; // and seconds
    // The parts of host_cpu_per_token: recording and submitting commands, what else the calling thread does (lists, the
    // cache's decisions), reading, and checksums of what was read.
    double record_cpu, other_cpu, read_cpu, checksum_cpu;
    double wait_cpu; // not in it: going to sleep and waking up
};

static struct bench_measures measures_of(const struct bench_result *r)
{
    const struct sluice_stats *s = &r->stats;
    double uses = (double)(s->expert_hits_device + s->expert_hits_host + s->expert_misses), tokens = r->tokens;
    double ns = (double)r->ns;
    uint64_t other_ns = r->thread_cpu_ns > s->record_cpu_ns ? r->thread_cpu_ns - s->record_cpu_ns : 0;
    return (struct bench_measures){
        .tok_s = ratio(tokens, clock_seconds(r->ns)),
        .bytes_read_per_token = ratio((double)s->expert_bytes_read, tokens),
        .hit_device = ratio((double)s->expert_hits_device, uses),
        .hit_host = ratio((double)s->expert_hits_host, uses),
        .drive_bytes_s = ratio((double)s->expert_bytes_read, clock_seconds(s->reading_ns)),
        .direct_bytes_s = (double)r->drive.bytes_s,
        .direct_depth_bytes_s = (double)r->drive_at_depth.bytes_s,
        .wait_drive = ratio((double)s->wait_drive_ns, ns),
        .wait_gpu = ratio((double)s->wait_gpu_ns, ns),
        .submits_per_token = ratio((double)s->submits, tokens),
        .host_cpu_per_token = ratio(clock_seconds(r->host_cpu_ns), tokens),
        .record_cpu = ratio(clock_seconds(s->record_cpu_ns), tokens),
        .other_cpu = ratio(clock_seconds(other_ns), tokens),
        .read_cpu = ratio(clock_seconds(s->io_cpu_ns - s->checksum_cpu_ns), tokens),
        .checksum_cpu = ratio(clock_seconds(s->checksum_cpu_ns), tokens),
        .wait_cpu = ratio(clock_seconds(r->wait_cpu_ns), tokens),
    };
}

// --- the drive ------------------------------------------------------------------------------------------------------

static const double DRIVE_SECONDS = 2;

_Static_assert((int)SLUICE_IO_AUTO == (int)READER_AUTO && (int)SLUICE_IO_URING == (int)READER_URING &&
                   (int)SLUICE_IO_PREAD == (int)READER_PREAD,
               "sluice_io is reader_kind");

// The mean of two measurements.
static struct drive_rate mean(const struct drive_rate pair[2])
{
    struct drive_rate rate = pair[0];
    rate.bytes_s = pair[0].bytes_s / 2 + pair[1].bytes_s / 2;
    return rate;
}

// Misses of one layer in one pass, rounded: what can be in flight at once.
static uint32_t miss_depth(const struct bench_result *r, uint32_t layers)
{
    double misses = ratio((double)r->stats.expert_misses, (double)r->passes * layers);
    uint32_t depth = misses < DRIVE_RATE_DEPTH_MAX ? (uint32_t)(misses + 0.5) : DRIVE_RATE_DEPTH_MAX;
    return depth > 0 ? depth : 1;
}

enum sluice_status bench_measure_drive(const char *path, enum sluice_io io, const struct bench_options *options,
                                       unsigned when, struct bench_results *results)
{
    enum sluice_status status = SLUICE_OK;
    struct bench_drive *drive = &results->drive;
    struct drive_rate_options rate = {
        .io = (enum reader_kind)io,
        .depth = DRIVE_RATE_DEPTH_MAX,
        .seconds = DRIVE_SECONDS,
        .first = when ? 0.5 : 0, // elsewhere, in case something below the drive remembers
    };
    if (options->prompt_count)
        TRY(drive_rate_measure(path, &rate, &drive->sequential[when]));
    rate.random = true;
    if (options->generate)
        TRY(drive_rate_measure(path, &rate, &drive->random[when]));
    if (when == 0)
        return SLUICE_OK;
    for (uint32_t i = 0; i < options->prompt_count; i++)
        results->prefills[i].drive = mean(drive->sequential);
    if (options->generate) {
        struct bench_result *r = &results->decode;
        r->drive = mean(drive->random);
        rate.depth = miss_depth(r, results->expert_layers);
        TRY(drive_rate_measure(path, &rate, &r->drive_at_depth));
    }
fail:
    return status;
}

// Rate of direct reads of the whole run, many at once: in file order if there was a prefill, else random.
static double direct_bytes_s(const struct bench_options *options, const struct bench_results *results)
{
    return (double)(options->prompt_count ? mean(results->drive.sequential) : mean(results->drive.random)).bytes_s;
}

// --- for people -----------------------------------------------------------------------------------------------------

static void print_line(const char *name, const struct bench_result *r)
{
    struct bench_measures m = measures_of(r);
    printf("%-9s %6u %11s %8.1f %7.1f %8.2f %8.2f ", name, r->tokens,
           cli_bytes((uint64_t)(name[0] == 'p' ? (double)r->stats.expert_bytes_read : m.bytes_read_per_token)),
           100 * m.hit_device, 100 * m.hit_host, m.drive_bytes_s * 1e-9, m.direct_bytes_s * 1e-9);
    printf("%7.1f %7.1f %9.1f %9.3f\n", 100 * m.wait_drive, 100 * m.wait_gpu, m.submits_per_token,
           1e3 * m.host_cpu_per_token);
}

static void print_host_cpu(const char *name, const struct bench_result *r)
{
    struct bench_measures m = measures_of(r);
    printf("host    CPU of %s in ms/token: recording %.3f, the rest of the calling thread %.3f, reading %.3f, "
           "checksums %.3f; besides, waiting %.3f\n",
           name, 1e3 * m.record_cpu, 1e3 * m.other_cpu, 1e3 * m.read_cpu, 1e3 * m.checksum_cpu, 1e3 * m.wait_cpu);
}

static void print_direct(const struct bench_results *results)
{
    const struct bench_drive *drive = &results->drive;
    const struct drive_rate *at_depth = &results->decode.drive_at_depth;
    const struct drive_rate *const pairs[] = {drive->sequential, drive->random};
    const char *const names[] = {"in file order", "in random order"};
    for (size_t i = 0; i < 2; i++)
        if (pairs[i][0].bytes_s)
            printf("direct  reads %s, %u at once: %.2f GB/s before, %.2f after%s\n", names[i], pairs[i][0].depth,
                   (double)pairs[i][0].bytes_s * 1e-9, (double)pairs[i][1].bytes_s * 1e-9,
                   pairs[i][0].is_direct ? "" : " (page cache: no O_DIRECT here)");
    if (at_depth->bytes_s)
        printf("direct  reads in random order, %u at once: %.2f GB/s\n", at_depth->depth,
               (double)at_depth->bytes_s * 1e-9);
}

void bench_measures_print(const struct bench_options *options, const struct bench_results *results)
{
    const char *const heads[] = {"",       "per prompt", "hit %",  "hit %",   "drive",
                                 "direct", "wait %",     "wait %", "submits", "host CPU"};
    const char *const units[] = {"tokens", "or token", "device", "host",   "GB/s",
                                 "GB/s",   "drive",    "GPU",    "/token", "ms/token"};
    const int widths[] = {6, 11, 8, 7, 8, 8, 7, 7, 9, 9};
    for (const char *const *line = heads; line; line = line == heads ? units : NULL) {
        printf("%s%-9s", line == heads ? "\n" : "", "");
        for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
            printf(" %*s", widths[i], line[i]);
        putchar('\n');
    }
    for (uint32_t i = 0; i < options->prompt_count; i++)
        print_line("prefill", &results->prefills[i]);
    if (results->decode.tokens)
        print_line("decode", &results->decode);
    putchar('\n');
    for (uint32_t i = 0; i < options->prompt_count; i++)
        print_host_cpu("prefill", &results->prefills[i]);
    if (results->decode.tokens)
        print_host_cpu("decode", &results->decode);
    print_direct(results);
}

// --- JSON -----------------------------------------------------------------------------------------------------------

void bench_measures_add_json(json_t *tree, const struct bench_result *r)
{
    struct bench_measures m = measures_of(r);
    json_object_set_new(tree, "sessions", json_integer(r->sessions));
    json_object_set_new(tree, "expert_bytes_read", json_integer((json_int_t)r->stats.expert_bytes_read));
    json_object_set_new(tree, "experts_used", json_integer((json_int_t)r->experts_used));
    json_object_set_new(tree, "expert_bytes_each", json_integer((json_int_t)r->stats.expert_bytes));
    json_object_set_new(tree, "bytes_read_per_token", json_real(m.bytes_read_per_token));
    json_object_set_new(tree, "hit_device", json_real(m.hit_device));
    json_object_set_new(tree, "hit_host", json_real(m.hit_host));
    json_object_set_new(tree, "drive_bytes_s", json_real(m.drive_bytes_s));
    json_object_set_new(tree, "direct_read_bytes_s", json_real(m.direct_bytes_s));
    if (r->drive_at_depth.bytes_s) {
        json_object_set_new(tree, "direct_read_depth", json_integer(r->drive_at_depth.depth));
        json_object_set_new(tree, "direct_read_at_depth_bytes_s", json_real(m.direct_depth_bytes_s));
    }
    json_object_set_new(tree, "wait_drive", json_real(m.wait_drive));
    json_object_set_new(tree, "wait_gpu", json_real(m.wait_gpu));
    json_object_set_new(tree, "submits_per_token", json_real(m.submits_per_token));
    json_object_set_new(tree, "host_cpu_per_token", json_real(m.host_cpu_per_token));
    json_object_set_new(tree, "host_cpu_parts",
                        json_pack("{s:f, s:f, s:f, s:f}", "recording", m.record_cpu, "other", m.other_cpu, "reading",
                                  m.read_cpu, "checksums", m.checksum_cpu));
    json_object_set_new(tree, "wait_cpu_per_token", json_real(m.wait_cpu));
}

static void add_pair(json_t *tree, const char *name, const struct drive_rate pair[2])
{
    if (pair[0].bytes_s)
        json_object_set_new(
            tree, name,
            json_pack("{s:I, s:I}", "before", (json_int_t)pair[0].bytes_s, "after", (json_int_t)pair[1].bytes_s));
}

void bench_drive_add_json(json_t *tree, const struct bench_options *options, const struct bench_results *results)
{
    const struct bench_drive *drive = &results->drive;
    json_t *direct = json_pack("{s:i, s:b}", "depth", (int)DRIVE_RATE_DEPTH_MAX, "is_direct",
                               drive->sequential[0].is_direct || drive->random[0].is_direct);
    add_pair(direct, "sequential", drive->sequential);
    add_pair(direct, "random", drive->random);
    json_object_set_new(tree, "direct_read", direct);
    json_object_set_new(tree, "direct_read_bytes_s", json_real(direct_bytes_s(options, results)));
}

// --- CSV ------------------------------------------------------------------------------------------------------------

static void write_line(FILE *file, const char *name, const struct bench_result *r, uint64_t peak_rss,
                       uint64_t peak_device)
{
    struct bench_measures m = measures_of(r);
    fprintf(file, "%s,%u,%u,%u,%.6f,%.4f,%.6f,%.6f,", name, r->tokens, r->sessions, r->passes, clock_seconds(r->ns),
            m.tok_s, clock_seconds(r->cpu_ns), m.host_cpu_per_token);
    fprintf(file, "%" PRIu64 ",%.0f,%" PRIu64 ",%u,%.6f,%.6f,", r->stats.expert_bytes_read, m.bytes_read_per_token,
            r->experts_used, r->stats.expert_bytes, m.hit_device, m.hit_host);
    fprintf(file, "%.0f,%.0f,%.0f,%.6f,%.6f,%.2f,%" PRIu64 ",%" PRIu64 ",", m.drive_bytes_s, m.direct_bytes_s,
            m.direct_depth_bytes_s, m.wait_drive, m.wait_gpu, m.submits_per_token, peak_rss, peak_device);
    fprintf(file, "%.6f,%.6f,%.6f,%.6f,%.6f\n", m.record_cpu, m.other_cpu, m.read_cpu, m.checksum_cpu, m.wait_cpu);
}

enum sluice_status bench_measures_write_csv(const char *path, struct sluice_engine *engine,
                                            const struct bench_options *options, const struct bench_results *results)
{
    struct sluice_stats s;
    sluice_stats(engine, &s);
    struct output_file out;
    enum sluice_status status = output_file_create(path, &out);
    if (status < 0)
        return status;
    fputs("phase,tokens,sessions,passes,seconds,tok_s,cpu_seconds,host_cpu_per_token,expert_bytes_read,"
          "bytes_read_per_token,experts_used,expert_bytes_each,hit_device,hit_host,drive_bytes_s,direct_read_bytes_s,"
          "direct_read_at_depth_bytes_s,wait_drive,wait_gpu,submits_per_token,peak_rss,peak_device,"
          "host_cpu_recording,host_cpu_other,host_cpu_reading,host_cpu_checksums,wait_cpu_per_token\n",
          out.file);
    for (uint32_t i = 0; i < options->prompt_count; i++)
        write_line(out.file, "prefill", &results->prefills[i], results->peak_rss_bytes, s.device_bytes_max);
    if (results->decode.tokens)
        write_line(out.file, "decode", &results->decode, results->peak_rss_bytes, s.device_bytes_max);
    return output_file_finish(&out);
}
