// `sluice plan FILE`: what memory a container takes here, and how fast it will be.

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/commands.h"
#include "tools/drive_rate.h"
#include "tools/engine_open.h"
#include "tools/predict.h"

enum { PROMPT_DEFAULT = 1024 };

static const double DRIVE_SECONDS = 1;

struct plan_options {
    bool as_json, no_speed;
    uint32_t prompt; // 0: the default
    double hit_rate; // of the device's slots; negative: that of uniform routing
};

// What was measured, and what follows.
struct measured {
    struct drive_rate sequential, burst;
    struct sluice_speed speed;
    struct predict_input input;
    struct prediction prediction;
};

// --- measuring ------------------------------------------------------------------------------------------------------

static enum sluice_status measure_drive(const char *path, const struct sluice_options *options, double misses,
                                        struct measured *m)
{
    struct drive_rate_options rate = {
        .io = (enum reader_kind)options->io, .depth = DRIVE_RATE_DEPTH_MAX, .seconds = DRIVE_SECONDS};
    enum sluice_status status = drive_rate_measure(path, &rate, &m->sequential);
    if (status < 0 || misses == 0)
        return status;
    rate.depth = misses < 1 ? 1 : (uint32_t)fmin(misses + 0.5, DRIVE_RATE_DEPTH_MAX);
    rate.random = rate.burst = true;
    return drive_rate_measure(path, &rate, &m->burst);
}

static enum sluice_status measure(const char *path, const struct sluice_options *options, const struct sluice_plan *p,
                                  const struct plan_options *o, struct measured *m)
{
    enum sluice_status status;
    *m = (struct measured){.input = {.plan = p, .speed = &m->speed}};
    struct predict_input *in = &m->input;
    uint32_t context = p->model.context_tokens, prompt = o->prompt ? o->prompt : PROMPT_DEFAULT;
    predict_hits(p, &in->hit_device, &in->hit_host);
    if (o->hit_rate >= 0) {
        in->hit_device = o->hit_rate;
        in->hit_host = fmin(in->hit_host, 1 - o->hit_rate);
    }
    TRY(measure_drive(path, options, p->model.top_k * (1 - in->hit_device - in->hit_host), m));
    TRY(sluice_speed_measure(path, options, p, o->prompt || prompt < context ? prompt : context, &m->speed));
    in->sequential_bytes_s = (double)m->sequential.bytes_s;
    in->burst_bytes_s = (double)m->burst.bytes_s;
    m->prediction = predict(in);
fail:
    return status;
}

// --- for people -----------------------------------------------------------------------------------------------------

static void print_place(const char *name, const struct sluice_plan_place *place)
{
    printf("%s\n", name);
    for (uint32_t i = 0; i < place->item_count; i++)
        printf("  %-24s %12s %6.1f %%\n", place->items[i].name, cli_bytes(place->items[i].bytes),
               100.0 * (double)place->items[i].bytes / (double)place->used_bytes);
    printf("  %-24s %12s", "total", cli_bytes(place->used_bytes));
    if (place->limit_bytes != UINT64_MAX)
        printf(" of %s\n", cli_bytes(place->limit_bytes));
    else
        putchar('\n');
}

static void print_plan(const struct sluice_plan *p)
{
    printf("device  %s\n", p->device_name);
    printf("model   %u layers, hidden %u, %u experts per layer, %u per token; %u tokens of context, %u session%s\n\n",
           p->model.layers, p->model.hidden, p->model.experts, p->model.top_k, p->model.context_tokens, p->sessions,
           p->sessions > 1 ? "s" : "");
    print_place("device memory", &p->device);
    print_place("main memory", &p->host);
    if (p->shared)
        printf("both together              %12s: this device's memory is main memory\n",
               cli_bytes(p->device.used_bytes + p->host.used_bytes));
    if (p->unified)
        printf("\nexperts %u of %u fit in one pool: device and host share memory; %s each\n", p->slots_device,
               p->experts_total, cli_bytes(p->expert_bytes));
    else if (p->experts_total)
        printf("\nexperts %u of %u fit on the device, %u in main memory%s, %s each\n", p->slots_device,
               p->experts_total, p->slots_host, p->host_cache ? "" : " (passing through)", cli_bytes(p->expert_bytes));
}

static void print_decode(const char *name, uint32_t depth, double seconds)
{
    printf("  %s", name);
    if (depth)
        printf(" behind %u tokens", depth);
    printf(": %.2f tokens/s, %.4f s each\n", seconds > 0 ? 1 / seconds : 0, seconds);
}

static void print_prediction(const struct measured *m)
{
    const struct prediction *r = &m->prediction;
    const struct sluice_speed *s = &m->speed;
    printf("\nmeasured\n  drive: %.2f GB/s in file order, %d reads at once", (double)m->sequential.bytes_s * 1e-9,
           DRIVE_RATE_DEPTH_MAX);
    if (m->burst.bytes_s)
        printf("; %.2f GB/s for %u at random", (double)m->burst.bytes_s * 1e-9, m->burst.depth);
    printf("%s\n", m->sequential.is_direct || m->sequential.bytes_s == 0 ? "" : " (page cache: no O_DIRECT here)");
    printf("  device: %u layers with %u tokens; %.4f s per token if all experts were there\n", s->layers_tried,
           s->tokens_tried, s->decode_seconds);
    if (m->input.plan->unified)
        printf("prediction, for routing that hits %.1f %% in the pool\n", 100 * m->input.hit_device);
    else
        printf("prediction, for routing that hits %.1f %% on the device and %.1f %% in main memory\n",
               100 * m->input.hit_device, 100 * m->input.hit_host);
    printf("  prefill of %u tokens: %.1f tokens/s, %.2f s: reading %s takes %.2f s, computing %.2f s\n",
           s->prompt_tokens, s->prompt_tokens / r->prefill_seconds, r->prefill_seconds,
           cli_bytes((uint64_t)r->prompt_bytes), r->read_seconds, r->compute_seconds);
    print_decode("decode", 0, r->decode_seconds);
    print_decode("decode", s->decode_deep_tokens, r->decode_deep_seconds);
    printf("  a token reads %s, which takes %.4f s\n", cli_bytes((uint64_t)r->token_bytes), r->decode_read_seconds);
}

// --- JSON -----------------------------------------------------------------------------------------------------------

static json_t *pack_size(uint64_t bytes)
{
    return bytes == UINT64_MAX ? json_null() : json_integer((json_int_t)bytes);
}

static json_t *pack_place(const struct sluice_plan_place *place)
{
    json_t *items = json_object();
    for (uint32_t i = 0; i < place->item_count; i++)
        json_object_set_new(items, place->items[i].name, json_integer((json_int_t)place->items[i].bytes));
    return json_pack("{s:o, s:I, s:o}", "items", items, "total", (json_int_t)place->used_bytes, "limit",
                     pack_size(place->limit_bytes));
}

static json_t *pack_plan(const struct sluice_plan *p)
{
    return json_pack("{s:s, s:o, s:o, s:b, s:o, s:{s:I, s:I, s:I, s:I, s:b, s:b}, s:I, s:I}", "device", p->device_name,
                     "device_memory", pack_place(&p->device), "main_memory", pack_place(&p->host), "shared", p->shared,
                     "available", pack_size(p->available_bytes), "slots", "device", (json_int_t)p->slots_device, "host",
                     (json_int_t)p->slots_host, "experts_total", (json_int_t)p->experts_total, "bytes_each",
                     (json_int_t)p->expert_bytes, "host_cache", p->host_cache, "unified", p->unified, "ctx",
                     (json_int_t)p->model.context_tokens, "sessions", (json_int_t)p->sessions);
}

// JSON has no infinity: what was not measured, or took no time, is null.
static json_t *pack_real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *pack_prefill(const struct measured *m)
{
    const struct prediction *r = &m->prediction;
    return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o}", "tokens", (int)m->speed.prompt_tokens, "seconds",
                     pack_real(r->prefill_seconds), "tok_s", pack_real(m->speed.prompt_tokens / r->prefill_seconds),
                     "read_seconds", pack_real(r->read_seconds), "compute_seconds", pack_real(r->compute_seconds),
                     "bytes_read", pack_real(r->prompt_bytes));
}

static json_t *pack_decode(const struct measured *m)
{
    const struct prediction *r = &m->prediction;
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:o}", "seconds", pack_real(r->decode_seconds), "tok_s",
                     pack_real(1 / r->decode_seconds), "hit_device", pack_real(m->input.hit_device), "hit_host",
                     pack_real(m->input.hit_host), "misses_per_layer", pack_real(r->misses_per_layer),
                     "bytes_read_per_token", pack_real(r->token_bytes), "deep_seconds",
                     pack_real(r->decode_deep_seconds), "deep_tokens", (int)m->speed.decode_deep_tokens, "read_seconds",
                     pack_real(r->decode_read_seconds));
}

static json_t *pack_prediction(const struct measured *m)
{
    const struct sluice_speed *s = &m->speed;
    return json_pack("{s:{s:f, s:f, s:i}, s:{s:i, s:i, s:o, s:o, s:o, s:o}, s:o, s:o}", "drive", "sequential_bytes_s",
                     (double)m->sequential.bytes_s, "burst_bytes_s", (double)m->burst.bytes_s, "burst_depth",
                     (int)m->burst.depth, "device_speed", "layers", (int)s->layers_tried, "tokens",
                     (int)s->tokens_tried, "prefill_seconds", pack_real(s->prefill_seconds), "decode_seconds",
                     pack_real(s->decode_seconds), "experts_seconds", pack_real(s->experts_seconds), "copy_seconds",
                     pack_real(s->copy_seconds), "prefill", pack_prefill(m), "decode", pack_decode(m));
}

// The plan and, with `m`, the prediction; NULL if there is no memory.
static json_t *pack_all(const struct sluice_plan *p, const struct measured *m)
{
    json_t *tree = pack_plan(p);
    if (tree && m && json_object_set_new(tree, "prediction", pack_prediction(m)) != 0) {
        json_decref(tree);
        return NULL;
    }
    return tree;
}

static enum sluice_status print_json(json_t *tree)
{
    if (!tree)
        return error_set(SLUICE_ERR_MEMORY, "out of memory");
    json_dumpf(tree, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(tree);
    return SLUICE_OK;
}

// --- the command ----------------------------------------------------------------------------------------------------

static enum sluice_status plan(const char *path, const struct cli_engine_options *cli_options,
                               const struct plan_options *options)
{
    enum sluice_status status;
    struct sluice_options open;
    struct sluice_plan p;
    struct measured m;
    engine_options(cli_options, 0, &open);
    TRY(sluice_plan(path, &open, &p));
    if (!options->as_json)
        print_plan(&p);
    fflush(stdout);
    if (!options->no_speed)
        TRY(measure(path, &open, &p, options, &m));
    if (options->as_json)
        return print_json(pack_all(&p, options->no_speed ? NULL : &m));
    if (!options->no_speed)
        print_prediction(&m);
fail:
    return status;
}

static enum sluice_status parse_share(const char *text, void *target)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= 0 && value <= 1))
        return error_set(SLUICE_ERR_ARGUMENT, "\"%s\" is no share from 0 to 1", text);
    *(double *)target = value;
    return SLUICE_OK;
}

int cmd_plan(int argc, char **argv)
{
    struct cli_engine_options engine_options = {0};
    struct plan_options o = {.hit_rate = -1};
    const char *path;
    int exit_status;
    const struct cli_option options[] = {
        {"sessions", 's', "K", "sessions that exist at the same time; default 1", cli_parse_count,
         &engine_options.sessions},
        {"prompt", 'p', "N", "tokens of the prompt whose prefill is predicted; default 1024, at most the context",
         cli_parse_count, &o.prompt},
        {"hit-rate", 0, "SHARE",
         "of experts' uses served by the device's slots, 0..1; default: the worst, all experts alike", parse_share,
         &o.hit_rate},
        {"no-speed", 0, NULL, "only the memory: measure and predict nothing", cli_parse_flag, &o.no_speed},
        {"json", 0, NULL, "one JSON object on standard output", cli_parse_flag, &o.as_json},
        CLI_ENGINE_OPTIONS(engine_options),
    };
    const struct cli_command command = {
        "plan",
        "FILE [OPTIONS]",
        "Shows where the model in FILE would lie with these options, without loading it, and predicts how fast it "
        "will\n"
        "be for one session, from the drive's rate and a short run of the model's first layers: some seconds. What "
        "does\n"
        "not fit is refused with the nearest that does. Sizes are in units of 1024, rates in units of 1000.\n\n"
        "On a device whose memory is main memory experts have one pool, which the drive reads to and the device\n"
        "computes from: --vram is for all of the model, and --ram adds to the pool. Elsewhere, and with --expert-pool\n"
        "separate, --ram is a second cache below the device's, from which experts are copied.",
        options,
        sizeof options / sizeof *options,
        1,
        1,
    };
    if (!cli_parse(&command, argc, argv, &path, &exit_status))
        return exit_status;
    cli_log_start(engine_options.verbose);
    enum sluice_status status = plan(path, &engine_options, &o);
    return status < 0 ? cli_fail(status) : CLI_OK;
}
