// `sluice synth`: writes a synthetic checkpoint of any size.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/model/synth_checkpoint.h"
#include "tools/cli.h"
#include "tools/commands.h"

enum { CONFIG_BYTES_MAX = 1 << 20 };

struct arguments {
    const char *config, *directory;
    uint64_t seed;
    double shard_gb;
    uint32_t threads;
    bool force;
};

static enum sluice_status parse_gb(const char *text, void *target)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= 1e-6 && value <= 1e6))
        return error_set(SLUICE_ERR_ARGUMENT, "\"%s\" is no number of gigabytes", text);
    *(double *)target = value;
    return SLUICE_OK;
}

static void draw(void *user, uint64_t bytes_done, uint64_t bytes_total)
{
    cli_progress_draw(user, bytes_done, bytes_total);
}

// *text[*bytes] is released with mem_free.
static enum sluice_status read_config(const char *path, char **text, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    *text = NULL;
    if (!file)
        return error_set(SLUICE_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    enum sluice_status status = SLUICE_ERR_MEMORY;
    *text = mem_alloc(CONFIG_BYTES_MAX, 1);
    if (*text) {
        *bytes = fread(*text, 1, CONFIG_BYTES_MAX, file);
        status = SLUICE_OK;
        if (ferror(file))
            status = error_set(SLUICE_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
        else if (*bytes == CONFIG_BYTES_MAX)
            status = error_set(SLUICE_ERR_FORMAT, "%s: too large for a config.json", path);
    }
    fclose(file);
    return status;
}

static int synth(const struct arguments *a)
{
    struct cli_progress progress = {.label = "writing"};
    struct synth_options options = {
        .seed = a->seed,
        .shard_bytes = (uint64_t)(a->shard_gb * 1e9),
        .directory = a->directory,
        .replace = a->force,
        .threads = a->threads,
        .cancel = cli_interrupt_start(),
        .progress = draw,
        .user = &progress,
    };
    char *text = NULL;
    enum sluice_status status = read_config(a->config, &text, &options.config_bytes);
    options.config = text;
    if (status == SLUICE_OK)
        status = model_synth_write(&options);
    mem_free(text);
    cli_progress_clear();
    return status < 0 ? cli_fail(status) : CLI_OK;
}

int cmd_synth(int argc, char **argv)
{
    struct arguments a = {.seed = 1};
    const struct cli_option options[] = {
        {"config", 'c', "FILE", "config.json of the model", cli_parse_text, &a.config},
        {"output", 'o', "DIR", "directory to write", cli_parse_text, &a.directory},
        {"seed", 's', "N", "other weights for every seed; default 1", cli_parse_u64, &a.seed},
        {"shard-gb", 0, "G", "files of at most G gigabytes and an index; default one file", parse_gb, &a.shard_gb},
        {"threads", 0, "N", "default: one per processor", cli_parse_count, &a.threads},
        {"force", 'f', NULL, "replace the checkpoint in DIR", cli_parse_flag, &a.force},
    };
    const struct cli_command command = {
        .name = "synth",
        .arguments = "--config FILE -o DIR [OPTIONS]",
        .about = "Writes a checkpoint whose weights are a function of (seed, tensor name, index): the same bytes\n"
                 "everywhere. The model answers nonsense; it serves tests and measurements.",
        .options = options,
        .option_count = sizeof options / sizeof *options,
    };
    int exit_status;
    if (!cli_parse(&command, argc, argv, NULL, &exit_status))
        return exit_status;
    if (!a.config || !a.directory)
        return cli_usage_error(&command, "--config FILE and -o DIR must be given");
    cli_log_start(false);
    return synth(&a);
}
