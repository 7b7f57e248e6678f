// `sluice verify`: checks every byte of a container.

#include <stdio.h>

#include "offload/container.h"
#include "tools/cli.h"
#include "tools/commands.h"

struct check {
    struct cli_progress progress;
    const atomic_bool *interrupted;
};

static bool draw(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    struct check *check = user;
    cli_progress_draw(&check->progress, done_bytes, total_bytes);
    return !atomic_load(check->interrupted);
}

static int verify(const char *path)
{
    struct check check = {.progress = {.label = "verifying"}, .interrupted = cli_interrupt_start()};
    struct container *container;
    enum sluice_status status = container_open(path, &container);
    if (status < 0)
        return cli_fail(status);
    status = container_verify(container, draw, &check);
    cli_progress_clear();
    int exit_status = status < 0 ? cli_fail(status) : CLI_OK;
    if (status == SLUICE_OK)
        printf("%s: all %s are as they were written\n", path, cli_bytes(container_file_bytes(container)));
    container_close(container);
    return exit_status;
}

int cmd_verify(int argc, char **argv)
{
    const struct cli_command command = {
        .name = "verify",
        .arguments = "FILE",
        .about = "Reads the whole container FILE and compares it with its checksums. Names the first bad place.",
        .positional_min = 1,
        .positional_max = 1,
    };
    const char *path;
    int exit_status;
    return cli_parse(&command, argc, argv, &path, &exit_status) ? verify(path) : exit_status;
}
