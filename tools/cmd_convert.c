// `sluice convert`: from a checkpoint directory to a container.

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/output_path.h"
#include "runtime/base/status.h"
#include "runtime/model/convert.h"
#include "tools/cli.h"
#include "tools/commands.h"

struct arguments {
    const char *directory, *output, *type, *trunk, *instruction;
    uint32_t threads;
    bool force, restart, verbose;
};

static void draw(void *user, const struct convert_progress *progress)
{
    cli_progress_draw(user, progress->bytes_done, progress->bytes_total);
}

// Files of a checkpoint; a container may well lie beside them.
static bool is_source(const char *name)
{
    const char *end = strrchr(name, '.');
    return end && (strcmp(end, ".safetensors") == 0 || strcmp(end, ".json") == 0 || strcmp(end, ".jinja") == 0);
}

static enum sluice_status check_sources(const struct arguments *a)
{
    enum sluice_status status = SLUICE_OK;
    DIR *directory = opendir(a->directory); // where that fails, reading the checkpoint says so
    for (struct dirent *entry; status == SLUICE_OK && directory && (entry = readdir(directory));) {
        char path[PATH_MAX];
        int length = snprintf(path, sizeof path, "%s/%s", a->directory, entry->d_name);
        if (is_source(entry->d_name) && length < (int)sizeof path)
            status = output_path_check_input(a->output, path);
    }
    if (directory)
        closedir(directory);
    return status;
}

static int convert(const struct arguments *a)
{
    struct cli_progress progress = {.label = "converting"};
    struct convert_options options = {
        .source = a->directory,
        .output = a->output,
        .instruction = a->instruction,
        .program = "sluice " SLUICE_VERSION,
        .restart = a->restart,
        .threads = a->threads,
        .progress = draw,
        .user = &progress,
    };
    enum sluice_status status = model_recipe_from_names(a->type, a->trunk, &options.recipe);
    if (status < 0)
        return cli_fail(status);
    status = cli_check_output(a->output, a->force);
    if (status == SLUICE_OK)
        status = check_sources(a);
    if (status < 0)
        return cli_fail(status);
    options.cancel = cli_interrupt_start();
    status = model_convert(&options);
    cli_progress_clear();
    if (status == SLUICE_ERR_CANCELLED)
        error_set(status, "stopped; %s.part has what is done, and the same command goes on where it stopped",
                  a->output);
    if (status < 0)
        return cli_fail(status);
    printf("%s: experts %s, trunk %s\n", a->output, quant_format_get(options.recipe.experts)->name,
           quant_format_get(options.recipe.trunk)->name);
    return CLI_OK;
}

int cmd_convert(int argc, char **argv)
{
    struct arguments a = {0};
    const struct cli_option options[] = {
        {"output", 'o', "FILE", "container to write, such as model.sluice", cli_parse_text, &a.output},
        {"type", 't', "TYPE", "number format of the routed experts; default q4_k", cli_parse_quant_name, &a.type},
        {"trunk", 0, "TYPE", "of all other matrices; default q8_0, or TYPE if that is a float", cli_parse_quant_name,
         &a.trunk},
        {"instruction", 0, "TEXT", "kept in the container's provenance", cli_parse_text, &a.instruction},
        {"threads", 0, "N", "default: one per processor", cli_parse_count, &a.threads},
        {"force", 'f', NULL, "replace FILE if it exists", cli_parse_flag, &a.force},
        {"restart", 0, NULL, "throw away what an interrupted conversion left in FILE.part", cli_parse_flag, &a.restart},
        {"verbose", 'v', NULL, "say more about what is done", cli_parse_flag, &a.verbose},
    };
    const struct cli_command command = {
        .name = "convert",
        .arguments = "DIR -o FILE [OPTIONS]",
        .about =
            "Turns the checkpoint in DIR (config.json and *.safetensors, as Hugging Face publishes it) into a\n"
            "container. Number formats: q4_k, q5_k, q6_k, q8_0, bf16, f16, f32. Interrupted, the same command goes\n"
            "on where it stopped; one with another DIR or other options is refused until FILE.part is gone, or with\n"
            "--restart.",
        .options = options,
        .option_count = sizeof options / sizeof *options,
        .positional_min = 1,
        .positional_max = 1,
    };
    int exit_status;
    if (!cli_parse(&command, argc, argv, &a.directory, &exit_status))
        return exit_status;
    if (!a.output)
        return cli_usage_error(&command, "-o FILE is missing");
    cli_log_start(a.verbose);
    return convert(&a);
}
