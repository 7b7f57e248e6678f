// The `sluice` program: finds the subcommand.

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/cli.h"
#include "tools/commands.h"

struct command {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
#define X(name, summary) {#name, summary, cmd_##name},
    COMMAND_LIST(X)
#undef X
};

enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

static void print_usage(FILE *out)
{
    fputs("usage: sluice COMMAND [OPTIONS]\n\nRuns Qwen3-Next models with experts streamed from the drive.\n\n", out);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].summary);
    fputs("\n`sluice COMMAND --help` tells the options of a command; `sluice --version` the version.\n", out);
}

// A file that is opened while one of the three is closed would get its number, and with it what is meant for the user.
// They are opened the wrong way round, so that using them still fails.
static void open_standard_streams(void)
{
    int descriptor;
    do
        descriptor = open("/dev/null", fcntl(STDIN_FILENO, F_GETFD) < 0 ? O_WRONLY : O_RDONLY);
    while (descriptor >= 0 && descriptor <= STDERR_FILENO);
    if (descriptor > STDERR_FILENO)
        close(descriptor);
}

// A full disk behind `>` must not look like success.
static int close_stdout(int exit_status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return exit_status;
    fprintf(stderr, "sluice: cannot write the output: %s\n", strerror(errno));
    return exit_status ? exit_status : CLI_FAILED;
}

int main(int argc, char **argv)
{
    open_standard_streams();
    signal(SIGPIPE, SIG_DFL); // `sluice ... | head` ends quietly, even where the parent ignores the signal
    signal(SIGXFSZ, SIG_IGN); // a limit of file sizes (ulimit -f) is reported as a failed write
    if (argc < 2) {
        print_usage(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_usage(stdout);
        return close_stdout(CLI_OK);
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("sluice " SLUICE_VERSION);
        return close_stdout(CLI_OK);
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return close_stdout(commands[i].run(argc - 1, argv + 1));
    fprintf(stderr, "sluice: there is no command \"%s\"; `sluice --help` lists them\n", argv[1]);
    return CLI_USAGE;
}
