// `sluice synth`: writes a synthetic checkpoint or container of any size.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/model/shape.h"
#include "runtime/model/synth_checkpoint.h"
#include "runtime/model/synth_container.h"
#include "tools/cli.h"
#include "tools/commands.h"

enum { CONFIG_BYTES_MAX = 1 << 20 };

struct arguments {
    const char *config, *shape;
    const char *directory, *container; // where to: one of the two
    const char *type, *trunk;          // of the container
    uint32_t layers;                   // 0: all
    uint64_t seed;
    double shard_gb;
    uint32_t threads;
    bool force, restart;
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

// --- the config -----------------------------------------------------------------------------------------------------

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

static enum sluice_status find_shape(const char *name, char **text, size_t *bytes)
{
    const char *config;
    enum sluice_status status = model_shape_find(name, &config);
    *text = NULL;
    if (status < 0)
        return status;
    *bytes = strlen(config);
    *text = mem_strndup(config, *bytes);
    return *text ? SLUICE_OK : SLUICE_ERR_MEMORY;
}

static enum sluice_status load_config(const struct arguments *a, char **text, size_t *bytes)
{
    char *whole = NULL;
    enum sluice_status status;
    TRY(a->shape ? find_shape(a->shape, &whole, bytes) : read_config(a->config, &whole, bytes));
    if (a->layers) {
        TRY(model_shape_slice(whole, *bytes, a->layers, text, bytes));
    } else {
        *text = whole;
        whole = NULL;
    }
fail:
    mem_free(whole);
    return status;
}

// --- writing --------------------------------------------------------------------------------------------------------

static enum sluice_status write_checkpoint(const struct arguments *a, const char *config, size_t config_bytes)
{
    struct cli_progress progress = {.label = "writing"};
    const struct synth_options options = {
        .config = config,
        .config_bytes = config_bytes,
        .seed = a->seed,
        .shard_bytes = (uint64_t)(a->shard_gb * 1e9),
        .directory = a->directory,
        .replace = a->force,
        .threads = a->threads,
        .cancel = cli_interrupt_start(),
        .progress = draw,
        .user = &progress,
    };
    return model_synth_write(&options);
}

static enum sluice_status write_container(const struct arguments *a, const char *config, size_t config_bytes)
{
    struct cli_progress progress = {.label = "writing"};
    struct synth_container_options options = {
        .config = config,
        .config_bytes = config_bytes,
        .seed = a->seed,
        .output = a->container,
        .program = "sluice " SLUICE_VERSION,
        .restart = a->restart,
        .threads = a->threads,
        .progress = draw,
        .user = &progress,
    };
    enum sluice_status status;
    TRY(model_recipe_from_names(a->type, a->trunk, &options.recipe));
    TRY(cli_check_output(a->container, a->force));
    options.cancel = cli_interrupt_start();
    status = model_synth_container(&options);
    if (status == SLUICE_ERR_CANCELLED)
        error_set(status, "stopped; %s.part has what is done, and the same command goes on where it stopped",
                  a->container);
fail:
    return status;
}

static int synth(const struct arguments *a)
{
    char *config = NULL;
    size_t config_bytes = 0;
    enum sluice_status status;
    TRY(load_config(a, &config, &config_bytes));
    TRY(a->container ? write_container(a, config, config_bytes) : write_checkpoint(a, config, config_bytes));
fail:
    mem_free(config);
    cli_progress_clear();
    return status < 0 ? cli_fail(status) : CLI_OK;
}

// CLI_OK, or the complaint about options that do not go together.
static int check_arguments(const struct cli_command *command, const struct arguments *a)
{
    if (!a->config == !a->shape)
        return cli_usage_error(command, "either --config FILE or --shape NAME must be given");
    if (!a->directory == !a->container)
        return cli_usage_error(command, "either -o DIR or --container FILE must be given");
    if (a->directory && (a->type || a->trunk))
        return cli_usage_error(command, "a checkpoint is always bf16; --type and --trunk are for --container");
    if (a->container && a->shard_gb > 0)
        return cli_usage_error(command, "a container is one file; --shard-gb is for -o");
    if (a->directory && a->restart)
        return cli_usage_error(command, "a checkpoint is written anew each time; --restart is for --container");
    return CLI_OK;
}

int cmd_synth(int argc, char **argv)
{
    struct arguments a = {.seed = 1};
    const struct cli_option options[] = {
        {"config", 'c', "FILE", "config.json of the model", cli_parse_text, &a.config},
        {"shape", 0, "NAME", "in place of --config: qwen3-next-80b, the published model", cli_parse_text, &a.shape},
        {"layers", 0, "N", "only the first N layers", cli_parse_count, &a.layers},
        {"output", 'o', "DIR", "checkpoint directory to write", cli_parse_text, &a.directory},
        {"container", 0, "FILE", "in place of -o: write a container directly", cli_parse_text, &a.container},
        {"type", 't', "TYPE", "container: number format of the routed experts; default q4_k", cli_parse_quant_name,
         &a.type},
        {"trunk", 0, "TYPE", "container: of all other matrices; default q8_0, or TYPE if that is a float",
         cli_parse_quant_name, &a.trunk},
        {"seed", 's', "N", "other weights for every seed; default 1", cli_parse_u64, &a.seed},
        {"shard-gb", 0, "G", "files of at most G gigabytes and an index; default one file", parse_gb, &a.shard_gb},
        {"threads", 0, "N", "default: one per processor", cli_parse_count, &a.threads},
        {"force", 'f', NULL, "replace what is there", cli_parse_flag, &a.force},
        {"restart", 0, NULL, "container: throw away what an interrupted run left in FILE.part", cli_parse_flag,
         &a.restart},
    };
    const struct cli_command command = {
        .name = "synth",
        .arguments = "{--config FILE | --shape NAME} {-o DIR | --container FILE} [OPTIONS]",
        .about = "Writes a checkpoint whose weights are a function of (seed, tensor name, index): the same bytes\n"
                 "everywhere. The model answers nonsense; it serves tests and measurements.\n\n"
                 "With --container the quantised weights are made at random without a checkpoint, as fast as the\n"
                 "drive writes: a container of the published model's size for `sluice bench`. It has no tokenizer.",
        .options = options,
        .option_count = sizeof options / sizeof *options,
    };
    int exit_status;
    if (!cli_parse(&command, argc, argv, NULL, &exit_status))
        return exit_status;
    exit_status = check_arguments(&command, &a);
    if (exit_status != CLI_OK)
        return exit_status;
    cli_log_start(false);
    return synth(&a);
}
