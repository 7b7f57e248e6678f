// `sluice bench FILE`: how fast a container runs here.

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/output_path.h"
#include "tools/bench/bench_compare.h"
#include "tools/bench_measures.h"
#include "tools/bench_report.h"
#include "tools/commands.h"
#include "tools/engine_open.h"

enum { TOKENS_MAX = 1 << 26, REPEAT_MAX = 1000 };

// A whole number from 0 to TOKENS_MAX at *text, which moves behind it.
static bool parse_number(const char **text, uint32_t *number)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(*text, &end, 10);
    bool valid = isdigit((unsigned char)**text) && errno == 0 && value <= TOKENS_MAX;
    *text = end;
    *number = (uint32_t)value;
    return valid;
}

static enum sluice_status parse_tokens(const char *text, void *target)
{
    const char *at = text;
    if (parse_number(&at, target) && *at == '\0')
        return SLUICE_OK;
    return error_set(SLUICE_ERR_ARGUMENT, "\"%s\" is no number of tokens from 0 to %d", text, TOKENS_MAX);
}

// "128,512"; "0" is an empty list.
static enum sluice_status parse_prompts(const char *text, void *target)
{
    struct bench_options *options = target;
    const char *at = text;
    options->prompt_count = 0;
    if (strcmp(text, "0") == 0)
        return SLUICE_OK;
    while (options->prompt_count < BENCH_PROMPTS_MAX) {
        uint32_t *tokens = &options->prompts[options->prompt_count++];
        if (!parse_number(&at, tokens) || *tokens == 0 || (*at && *at != ','))
            break;
        if (*at++ == '\0')
            return SLUICE_OK;
    }
    return error_set(SLUICE_ERR_ARGUMENT, "\"%s\" is no list of up to %d prompt lengths such as 128,512", text,
                     BENCH_PROMPTS_MAX);
}

static uint32_t context_needed(const struct bench_options *options)
{
    uint32_t most = options->generate ? options->generate : 1;
    for (uint32_t i = 0; i < options->prompt_count; i++)
        most = options->prompts[i] > most ? options->prompts[i] : most;
    return options->depth + most;
}

// What --routing says. name NULL: nothing.
struct routing {
    const char *name;
    enum sluice_routing kind;
};

static enum sluice_status parse_routing(const char *text, void *target)
{
    struct routing *routing = target;
    routing->name = text;
    return cli_parse_routing(text, &routing->kind);
}

// What goes out, besides the table.
struct output {
    bool as_json;
    const char *csv_path, *compare_path; // NULL: not wanted
};

static enum sluice_status compare(const struct output *output, json_t *before, json_t *now)
{
    if (!output->as_json)
        putchar('\n');
    return bench_compare_print(output->as_json ? stderr : stdout, before, now);
}

static enum sluice_status report(struct sluice_engine *engine, const struct bench_options *options,
                                 const struct bench_results *results, const struct output *output, json_t *before)
{
    enum sluice_status status = SLUICE_OK;
    json_t *tree = bench_report_json(engine, options, results);
    if (!tree)
        return error_set(SLUICE_ERR_MEMORY, "out of memory");
    if (output->as_json) {
        json_dumpf(tree, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        putchar('\n');
    } else {
        bench_report_print(engine, options, results);
    }
    if (before)
        status = compare(output, before, tree);
    json_decref(tree);
    return status;
}

static enum sluice_status bench(const char *path, const struct cli_engine_options *engine_options,
                                const struct bench_options *options, const struct output *output)
{
    struct sluice_engine *engine = NULL;
    json_t *before = NULL;
    enum sluice_status status = SLUICE_ERR_MEMORY;
    struct bench_results *results = mem_alloc(1, sizeof *results);
    if (!results)
        return status;
    if (output->csv_path)
        TRY(output_path_check_in_place(output->csv_path)); // before the work
    TRY(output_path_check_input(output->csv_path, path));
    TRY(output_path_check_input(output->csv_path, output->compare_path));
    if (options->trace_path)
        TRY(output_path_check_in_place(options->trace_path));
    TRY(output_path_check_input(options->trace_path, path));
    if (output->compare_path)
        TRY(bench_compare_load(output->compare_path, &before));
    TRY(bench_measure_drive(path, engine_options->io, options, 0, results));
    TRY(engine_open_fitting(path, engine_options, context_needed(options), 0, &engine));
    TRY(bench_run(engine, options, results));
    TRY(bench_measure_drive(path, engine_options->io, options, 1, results));
    TRY(report(engine, options, results, output, before)); // first: a CSV that fails must not take it along
    if (output->csv_path)
        TRY(bench_measures_write_csv(output->csv_path, engine, options, results));
fail:
    json_decref(before);
    sluice_close(engine);
    mem_free(results);
    return status;
}

int cmd_bench(int argc, char **argv)
{
    struct bench_options o = {.prompts = {128, 512}, .prompt_count = 2, .generate = 32, .repeat = 1};
    struct cli_engine_options engine_options = {0};
    struct output output = {0};
    struct routing routing = {0};
    const char *path;
    int exit_status;
    const struct cli_option options[] = {
        {"prompt", 'p', "LENGTHS", "tokens of the prompts to time, such as 128,512 (default); 0: none", parse_prompts,
         &o},
        {"gen", 'n', "N", "tokens to decode; default 32; 0: none", parse_tokens, &o.generate},
        {"depth", 'd', "N", "tokens of context before each of them; default 0", parse_tokens, &o.depth},
        {"sessions", 's', "K", "sessions that decode together; default 1", cli_parse_count, &engine_options.sessions},
        {"repeat", 'r', "R", "report the median of R runs; default 1", cli_parse_count, &o.repeat},
        {"routing", 0, "KIND", "experts: model (default), or drawn: uniform, recorded", parse_routing, &routing},
        {"trace", 0, "FILE", "record the experts used, for offload_sim; FILE.part until it is whole", cli_parse_text,
         &o.trace_path},
        {"io-only", 0, NULL, "read and copy experts, but compute nothing; they are drawn (uniform, unless --routing)",
         cli_parse_flag, &engine_options.io_only},
        {"json", 0, NULL, "one JSON object on standard output", cli_parse_flag, &output.as_json},
        {"csv", 0, "FILE", "also write one line per result to FILE", cli_parse_text, &output.csv_path},
        {"compare", 0, "FILE", "ratios against an earlier run's JSON", cli_parse_text, &output.compare_path},
        CLI_ENGINE_OPTIONS(engine_options),
    };
    const struct cli_command command = {
        "bench",
        "FILE [OPTIONS]",
        "Measures prefill and decode of the model in FILE with random tokens. One more run of each length goes before\n"
        "those that count. The context of --depth is not computed but filled with random keys, values and states,\n"
        "anew for every run, and is not part of the times. With -v, GPU time per kernel is measured too, which costs\n"
        "a little of the speed.\n"
        "Before and after, direct reads of the same file are timed for comparison. runtime/README.md defines the "
        "values.\n"
        "\n"
        "--routing replaces the router's choice of experts, which in a synthetic model says nothing about caching, by\n"
        "drawn experts: uniform, all alike, the worst case for a cache; recorded, with the locality reported for "
        "models\n"
        "with 512 experts, where per layer an LRU cache of 12.5, 25 and 50 % of them hits about 67, 81 and 92 %. What\n"
        "the model then computes is meaningless.",
        options,
        sizeof options / sizeof *options,
        1,
        1,
    };
    if (!cli_parse(&command, argc, argv, &path, &exit_status))
        return exit_status;
    if (o.repeat > REPEAT_MAX)
        return cli_usage_error(&command, "--repeat %u: at most %d", o.repeat, REPEAT_MAX);
    if (o.prompt_count == 0 && o.generate == 0)
        return cli_usage_error(&command, "nothing to measure: --prompt and --gen are both 0");
    o.sessions = engine_options.sessions;
    if (o.sessions > SLUICE_SESSIONS_MAX)
        return cli_usage_error(&command, "--sessions %u: at most %d", o.sessions, SLUICE_SESSIONS_MAX);
    o.io_only = engine_options.io_only;
    if (o.io_only && !routing.name)
        routing = (struct routing){"uniform", SLUICE_ROUTING_UNIFORM};
    engine_options.routing = routing.kind;
    o.routing = routing.name;
    cli_log_start(engine_options.verbose);
    (void)cli_interrupt_start();
    enum sluice_status status = bench(path, &engine_options, &o, &output);
    return status < 0 ? cli_fail(status) : CLI_OK;
}
