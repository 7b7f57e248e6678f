// `sluice probe`: what the device can do, and how near the kernels come to it.

#include <limits.h>

#include "tools/bench/probe.h"
#include "tools/cli.h"
#include "tools/commands.h"

static const double ROW_SECONDS = 0.3;

int cmd_probe(int argc, char **argv)
{
    char cache_folder[PATH_MAX];
    struct probe_options o = {.seconds_max = ROW_SECONDS,
                              .cache_folder = cli_cache_folder(cache_folder, sizeof cache_folder)};
    bool verbose = false;
    const char *none;
    int exit_status;
    const struct cli_option options[] = {
        {"device", 0, "NAME", "graphics device: number or part of its name", cli_parse_text, &o.device},
        {"roof", 0, NULL, "only what the device can do, no kernels", cli_parse_flag, &o.roof_only},
        {"only", 0, "TEXT", "only kernels with this in their name, or like \"*q4_k x1\"", cli_parse_text, &o.only},
        {"compare", 0, "FILE", "ratios against an earlier run's JSON", cli_parse_text, &o.compare},
        {"save", 0, "FILE", "also write the JSON to FILE", cli_parse_text, &o.save},
        {"json", 0, NULL, "one JSON object on standard output", cli_parse_flag, &o.as_json},
        {"recalibrate", 0, NULL, "measure anew which kernel variants are fast on the device", cli_parse_flag,
         &o.recalibrate},
        {"verbose", 'v', NULL, "say more about what is done", cli_parse_flag, &verbose},
    };
    const struct cli_command command = {
        "probe",
        "[OPTIONS]",
        "Measures how fast the graphics device reads, multiplies and submits, then every kernel at the shapes of the\n"
        "80B model with its share of that roof. Takes a minute or two on a graphics card, several on a software "
        "driver.",
        options,
        sizeof options / sizeof *options,
        0,
        0,
    };
    if (!cli_parse(&command, argc, argv, &none, &exit_status))
        return exit_status;
    cli_log_start(verbose);
    enum sluice_status status = probe_run(&o);
    return status < 0 ? cli_fail(status) : CLI_OK;
}
