// `sluice plan FILE`: what memory a container takes here, and how fast it will be.

#include <jansson.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/engine_open.h"

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
    if (p->experts_total)
        printf("\nexperts %u of %u fit on the device, %u in main memory%s, %s each\n", p->slots_device,
               p->experts_total, p->slots_host, p->host_cache ? "" : " (passing through)", cli_bytes(p->expert_bytes));
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
    return json_pack("{s:s, s:o, s:o, s:b, s:o, s:{s:I, s:I, s:I, s:I, s:b}, s:I, s:I}", "device", p->device_name,
                     "device_memory", pack_place(&p->device), "main_memory", pack_place(&p->host), "shared", p->shared,
                     "available", pack_size(p->available_bytes), "slots", "device", (json_int_t)p->slots_device, "host",
                     (json_int_t)p->slots_host, "experts_total", (json_int_t)p->experts_total, "bytes_each",
                     (json_int_t)p->expert_bytes, "host_cache", p->host_cache, "ctx",
                     (json_int_t)p->model.context_tokens, "sessions", (json_int_t)p->sessions);
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

static enum sluice_status plan(const char *path, const struct cli_engine_options *options, bool as_json)
{
    enum sluice_status status;
    struct sluice_options open;
    struct sluice_plan p;
    TRY(engine_options(options, 0, &open));
    TRY(sluice_plan(path, &open, &p));
    if (as_json)
        return print_json(pack_plan(&p));
    print_plan(&p);
fail:
    return status;
}

int cmd_plan(int argc, char **argv)
{
    struct cli_engine_options engine_options = {0};
    bool as_json = false;
    const char *path;
    int exit_status;
    const struct cli_option options[] = {
        {"sessions", 's', "K", "sessions that exist at the same time; default 1", cli_parse_count,
         &engine_options.sessions},
        {"json", 0, NULL, "one JSON object on standard output", cli_parse_flag, &as_json},
        CLI_ENGINE_OPTIONS(engine_options),
    };
    const struct cli_command command = {
        "plan",
        "FILE [OPTIONS]",
        "Shows where the model in FILE would lie with these options, without loading it. What does not fit is refused\n"
        "with the nearest that does. Sizes are in units of 1024.",
        options,
        sizeof options / sizeof *options,
        1,
        1,
    };
    if (!cli_parse(&command, argc, argv, &path, &exit_status))
        return exit_status;
    cli_log_start(engine_options.verbose);
    enum sluice_status status = plan(path, &engine_options, as_json);
    return status < 0 ? cli_fail(status) : CLI_OK;
}
