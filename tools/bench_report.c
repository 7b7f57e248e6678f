#include "tools/bench_report.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "runtime/base/clock.h"
#include "tools/bench_measures.h"
#include "tools/cli.h"

static uint64_t expert_uses(const struct sluice_stats *s)
{
    return s->expert_hits_device + s->expert_hits_host + s->expert_misses;
}

// How often something happens in one layer of one pass through the model.
static double per_layer(const struct sluice_engine *engine, const struct bench_result *r, uint64_t count)
{
    return (double)count / r->passes / sluice_engine_model(engine)->layers;
}

// --- for people -----------------------------------------------------------------------------------------------------

static void print_result(const struct sluice_engine *engine, const char *name, const struct bench_result *r)
{
    const struct sluice_stats *s = &r->stats;
    uint64_t uses = expert_uses(s);
    printf("%-9s %6u %9.3f %9.2f %9.3f %7.1f %10s %7.3f %7.3f %8.1f %8.1f %8.1f\n", name, r->tokens,
           clock_seconds(r->ns), clock_per_second(r->tokens, r->ns), clock_seconds(r->cpu_ns),
           uses ? 100.0 * (double)(uses - s->expert_misses) / (double)uses : 0, cli_bytes(s->expert_bytes_read),
           clock_seconds(s->wait_drive_ns), clock_seconds(s->wait_gpu_ns), per_layer(engine, r, s->submits),
           per_layer(engine, r, s->dispatches), per_layer(engine, r, s->barriers));
}

static void print_kernels(const char *name, const struct bench_result *r)
{
    uint64_t total_ns = 0;
    for (uint32_t i = 0; i < r->kernel_count; i++)
        total_ns += r->kernels[i].ns;
    if (total_ns == 0)
        return;
    printf("\n%s of %u tokens: GPU time per kernel, %.3f s of %.3f s\n", name, r->tokens, clock_seconds(total_ns),
           clock_seconds(r->ns));
    for (uint32_t i = 0; i < r->kernel_count; i++) {
        const struct bench_kernel *k = &r->kernels[i];
        printf("  %-32s %9.3f s %5.1f %% %9" PRIu64 " times %10.1f us each\n", k->name, clock_seconds(k->ns),
               100.0 * (double)k->ns / (double)total_ns, k->count, (double)k->ns * 1e-3 / (double)k->count);
    }
}

static const char *routing_name(const struct bench_options *options)
{
    return options->routing ? options->routing : "model";
}

static void print_head(struct sluice_engine *engine, const struct bench_options *options)
{
    const struct sluice_model *m = sluice_engine_model(engine);
    struct sluice_stats s;
    sluice_stats(engine, &s);
    printf("device  %s, %s, %s\n", sluice_device_name(engine), sluice_driver_name(engine), s.matrix_path);
    printf("model   %u layers, hidden %u, %u experts per layer, %u per token\n", m->layers, m->hidden, m->experts,
           m->top_k);
    if (s.unified)
        printf("cache   %u of %u experts fit in one pool that device and host share, %s each\n", s.slots_device,
               s.experts_total, cli_bytes(s.expert_bytes));
    else
        printf("cache   %u of %u experts fit on the device, %u in host memory, %s each\n", s.slots_device,
               s.experts_total, s.slots_host, cli_bytes(s.expert_bytes));
    printf("depth   %u tokens of random context before every run; keys and values of %u take %s\n", options->depth,
           m->context_tokens, cli_bytes(s.kv_bytes));
    printf("routing %s\n", routing_name(options));
    if (options->io_only)
        printf("reads   and copies only: nothing is computed\n");
    putchar('\n');
    printf("%-9s %6s %9s %9s %9s %7s %10s %7s %7s %26s\n", "", "", "", "", "CPU", "experts", "read from", "wait s",
           "wait s", "per layer and pass");
    printf("%-9s %6s %9s %9s %9s %7s %10s %7s %7s %8s %8s %8s\n", "", "tokens", "seconds", "tokens/s", "seconds",
           "hit %", "drive", "drive", "GPU", "submits", "kernels", "barriers");
}

void bench_report_print(struct sluice_engine *engine, const struct bench_options *options,
                        const struct bench_results *results)
{
    struct sluice_stats s;
    print_head(engine, options);
    for (uint32_t i = 0; i < options->prompt_count; i++)
        print_result(engine, "prefill", &results->prefills[i]);
    if (results->decode.tokens)
        print_result(engine, "decode", &results->decode);
    bench_measures_print(options, results);
    sluice_stats(engine, &s);
    printf("memory  %s on the device and %s resident at most\n", cli_bytes(s.device_bytes_max),
           cli_bytes(results->peak_rss_bytes));
    for (uint32_t i = 0; i < options->prompt_count; i++)
        print_kernels("prefill", &results->prefills[i]);
    print_kernels("decode", &results->decode);
}

// --- JSON -----------------------------------------------------------------------------------------------------------

static json_t *pack_kernels(const struct bench_result *r)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < r->kernel_count; i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:f, s:I}", "name", r->kernels[i].name, "seconds",
                                        clock_seconds(r->kernels[i].ns), "count", (json_int_t)r->kernels[i].count));
    return list;
}

static json_t *pack_counts(const struct sluice_engine *engine, const struct bench_result *r)
{
    const struct sluice_stats *s = &r->stats;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:{s:f, s:f, s:f}}", "submits", (json_int_t)s->submits, "dispatches",
                     (json_int_t)s->dispatches, "barriers", (json_int_t)s->barriers, "recorded",
                     (json_int_t)s->recorded, "replayed", (json_int_t)s->replayed, "per_layer_and_pass", "submits",
                     per_layer(engine, r, s->submits), "dispatches", per_layer(engine, r, s->dispatches), "barriers",
                     per_layer(engine, r, s->barriers));
}

static json_t *pack_result(const struct sluice_engine *engine, const struct bench_options *options,
                           const struct bench_result *r)
{
    const struct sluice_stats *s = &r->stats;
    json_t *tree =
        json_pack("{s:I, s:I, s:f, s:f, s:f, s:f}", "tokens", (json_int_t)r->tokens, "passes", (json_int_t)r->passes,
                  "seconds", clock_seconds(r->ns), "seconds_min", clock_seconds(r->ns_min), "seconds_max",
                  clock_seconds(r->ns_max), "tok_s", clock_per_second(r->tokens, r->ns));
    json_object_set_new(tree, "depth", json_integer(options->depth));
    json_object_set_new(tree, "kv_bytes", json_integer((json_int_t)s->kv_bytes));
    json_object_set_new(tree, "depth_contents", json_string("random"));
    json_object_set_new(tree, "experts",
                        json_pack("{s:I, s:I, s:I, s:I}", "hits_device", (json_int_t)s->expert_hits_device, "hits_host",
                                  (json_int_t)s->expert_hits_host, "misses", (json_int_t)s->expert_misses, "bytes_read",
                                  (json_int_t)s->expert_bytes_read));
    json_object_set_new(tree, "cpu_seconds", json_real(clock_seconds(r->cpu_ns)));
    json_object_set_new(tree, "wait_drive_seconds", json_real(clock_seconds(s->wait_drive_ns)));
    json_object_set_new(tree, "wait_gpu_seconds", json_real(clock_seconds(s->wait_gpu_ns)));
    bench_measures_add_json(tree, r);
    json_object_set_new(tree, "reading", json_real(clock_seconds(s->reading_ns)));
    json_object_set_new(tree, "gpu", pack_counts(engine, r));
    json_object_set_new(tree, "kernels", pack_kernels(r));
    return tree;
}

static json_t *pack_report(struct sluice_engine *engine, const struct bench_options *options,
                           const struct bench_results *results)
{
    const struct sluice_model *m = sluice_engine_model(engine);
    struct sluice_stats s;
    sluice_stats(engine, &s);
    json_t *prefills = json_array(), *decode = json_null();
    for (uint32_t i = 0; i < options->prompt_count; i++)
        json_array_append_new(prefills, pack_result(engine, options, &results->prefills[i]));
    if (results->decode.tokens)
        decode = pack_result(engine, options, &results->decode);
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:{s:I, s:I, s:I, s:I}, s:{s:I, s:I, s:I, s:I, s:b}, s:I, s:o, s:o, s:I, s:I}", "device",
        sluice_device_name(engine), "driver", sluice_driver_name(engine), "matrix_path", s.matrix_path, "routing",
        routing_name(options), "model", "layers", (json_int_t)m->layers, "hidden", (json_int_t)m->hidden, "experts",
        (json_int_t)m->experts, "top_k", (json_int_t)m->top_k, "slots", "device", (json_int_t)s.slots_device, "host",
        (json_int_t)s.slots_host, "experts_total", (json_int_t)s.experts_total, "bytes_each",
        (json_int_t)s.expert_bytes, "unified", s.unified, "repeat", (json_int_t)options->repeat, "prefill", prefills,
        "decode", decode, "peak_rss", (json_int_t)results->peak_rss_bytes, "peak_device",
        (json_int_t)s.device_bytes_max);
}

json_t *bench_report_json(struct sluice_engine *engine, const struct bench_options *options,
                          const struct bench_results *results)
{
    json_t *tree = pack_report(engine, options, results);
    if (tree)
        json_object_set_new(tree, "io_only", json_boolean(options->io_only));
    bench_drive_add_json(tree, options, results);
    return tree;
}
