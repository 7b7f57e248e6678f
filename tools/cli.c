#include "tools/cli.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/output_path.h"

// --- the command line -----------------------------------------------------------------------------------------------

static const char *program_prefix = "sluice ";

void cli_set_standalone(void)
{
    program_prefix = "";
}

enum { HELP_COLUMNS = 112 };

// Text with its own line breaks; what is longer is broken at blanks.
static void print_wrapped(const char *text)
{
    while (*text) {
        size_t length = strcspn(text, "\n"), end = length;
        if (length > HELP_COLUMNS)
            for (end = HELP_COLUMNS; end > 0 && text[end] != ' ';)
                end--;
        end = end ? end : length; // one word: as it is
        printf("%.*s\n", (int)end, text);
        text += end + (text[end] != '\0');
    }
}

static void print_help(const struct cli_command *command)
{
    char left[64];
    printf("usage: %s%s %s\n\n", program_prefix, command->name, command->arguments);
    print_wrapped(command->about);
    putchar('\n');
    for (size_t i = 0; i < command->option_count; i++) {
        const struct cli_option *option = &command->options[i];
        const char letter[] = {option->letter ? '-' : ' ', option->letter ? option->letter : ' ',
                               option->letter ? ',' : ' ', '\0'};
        snprintf(left, sizeof left, "%s --%s%s%s", letter, option->name, option->value ? " " : "",
                 option->value ? option->value : "");
        printf("  %-26s %s\n", left, option->help);
    }
    printf("  %-26s %s\n", "-h, --help", "show this");
}

int cli_usage_error(const struct cli_command *command, const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "%s%s: ", program_prefix, command->name);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "; `%s%s --help` tells more\n", program_prefix, command->name);
    return CLI_USAGE;
}

// An argument that begins with a dash, taken apart: its option, and a value that is part of the same argument.
struct split {
    const struct cli_option *option; // NULL: unknown
    const char *value;               // NULL: none
};

static struct split split_long(const struct cli_command *command, const char *text)
{
    size_t length = strcspn(text, "=");
    for (size_t i = 0; i < command->option_count; i++) {
        const struct cli_option *option = &command->options[i];
        if (strlen(option->name) == length && memcmp(option->name, text, length) == 0)
            return (struct split){option, text[length] ? text + length + 1 : NULL};
    }
    return (struct split){NULL, NULL};
}

static struct split split_short(const struct cli_command *command, const char *text)
{
    for (size_t i = 0; i < command->option_count; i++)
        if (command->options[i].letter && command->options[i].letter == *text)
            return (struct split){&command->options[i], text[1] ? text + 1 : NULL};
    return (struct split){NULL, NULL};
}

// Handles argv[*index], an option, and moves *index past it and its value. Returns CLI_OK or CLI_USAGE.
static int parse_option(const struct cli_command *command, int argc, char **argv, int *index)
{
    const char *argument = argv[(*index)++];
    struct split split = argument[1] == '-' ? split_long(command, argument + 2) : split_short(command, argument + 1);
    if (!split.option)
        return cli_usage_error(command, "there is no option %s", argument);
    if (!split.option->value && split.value)
        return cli_usage_error(command, "option --%s takes no value", split.option->name);
    if (split.option->value && !split.value) {
        if (*index == argc)
            return cli_usage_error(command, "option --%s needs a value (%s)", split.option->name, split.option->value);
        split.value = argv[(*index)++];
    }
    if (split.option->parse(split.value, split.option->target) < 0)
        return cli_usage_error(command, "option --%s: %s", split.option->name, error_message());
    return CLI_OK;
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

static int parse_all(const struct cli_command *command, int argc, char **argv, const char **positional)
{
    size_t count = 0;
    bool options_ended = false;
    for (size_t i = 0; i < command->positional_max; i++)
        positional[i] = NULL;
    for (int i = 1; i < argc;) {
        if (!options_ended && strcmp(argv[i], "--") == 0) {
            options_ended = true;
            i++;
        } else if (!options_ended && argv[i][0] == '-' && argv[i][1]) {
            if (parse_option(command, argc, argv, &i) != CLI_OK)
                return CLI_USAGE;
        } else if (count == command->positional_max) {
            return cli_usage_error(command, "unexpected argument \"%s\"", argv[i]);
        } else {
            positional[count++] = argv[i++];
        }
    }
    if (count < command->positional_min)
        return cli_usage_error(command, "expected: %s", command->arguments);
    return CLI_OK;
}

bool cli_parse(const struct cli_command *command, int argc, char **argv, const char **positional, int *exit_status)
{
    *exit_status = CLI_OK;
    if (wants_help(argc, argv)) {
        print_help(command);
        return false;
    }
    *exit_status = parse_all(command, argc, argv, positional);
    return *exit_status == CLI_OK;
}

// --- messages -------------------------------------------------------------------------------------------------------

static bool log_verbose;
static bool progress_drawn;

static bool is_control(char byte)
{
    return ((unsigned char)byte < ' ' && byte != '\n' && byte != '\t') || byte == 0x7F;
}

// A message may quote a file that somebody else made: what would steer the terminal becomes a question mark.
static void print_message(const char *prefix, const char *text)
{
    fprintf(stderr, "sluice: %s", prefix);
    for (; *text; text++)
        fputc(is_control(*text) ? '?' : *text, stderr);
    fputc('\n', stderr);
}

static void print_log(void *user, enum log_level level, const char *text)
{
    static const char *const prefix[] = {[LOG_WARNING] = "warning: ", [LOG_NOTE] = "note: ", [LOG_DEBUG] = ""};
    (void)user;
    if (level == LOG_DEBUG && !log_verbose)
        return;
    cli_progress_clear();
    print_message(prefix[level], text);
}

void cli_log_start(bool verbose)
{
    log_verbose = verbose;
    log_set(print_log, NULL);
}

int cli_fail(enum sluice_status status)
{
    const char *message = error_message();
    cli_progress_clear();
    print_message("", *message ? message : status_text(status));
    return status == SLUICE_ERR_CANCELLED ? CLI_INTERRUPTED : CLI_FAILED;
}

const char *cli_bytes(uint64_t bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    static char texts[4][32];
    static unsigned next;
    char *text = texts[next++ % 4];
    double value = (double)bytes / 1024;
    size_t unit = 0;
    for (; value >= 1024 && unit < 3; unit++)
        value /= 1024;
    if (bytes < 1024)
        snprintf(text, sizeof texts[0], "%" PRIu64 " B", bytes);
    else
        snprintf(text, sizeof texts[0], "%.*f %s", value < 10 ? 2 : 1, value, units[unit]);
    return text;
}

// --- files ----------------------------------------------------------------------------------------------------------

const char *cli_cache_folder(char *folder, size_t capacity)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool has_cache = cache && *cache == '/', has_home = home && *home == '/';
    int length = has_cache  ? snprintf(folder, capacity, "%s/sluice", cache)
                 : has_home ? snprintf(folder, capacity, "%s/.cache/sluice", home)
                            : -1;
    return length >= 0 && (size_t)length < capacity ? folder : NULL;
}

enum sluice_status cli_check_output(const char *path, bool force)
{
    enum sluice_status status = output_path_check(path);
    if (status == SLUICE_OK && !force && access(path, F_OK) == 0)
        status = error_set(SLUICE_ERR_ARGUMENT, "%s exists already; --force replaces it", path);
    return status;
}

// --- long work ------------------------------------------------------------------------------------------------------

enum { PROGRESS_INTERVAL_MS = 200 };

static void progress_print(const struct cli_progress *p, uint64_t now_ns, uint64_t done, uint64_t total)
{
    double seconds = clock_seconds(now_ns - p->start_ns);
    double rate = seconds > 0 ? (double)(done - p->start_bytes) / seconds : 0;
    fprintf(stderr, "\r\033[K%s: %3.0f %% of %s", p->label, total ? 100.0 * (double)done / (double)total : 100.0,
            cli_bytes(total));
    if (seconds > 1 && rate > 0)
        fprintf(stderr, ", %s/s, %.0f s left", cli_bytes((uint64_t)rate), (double)(total - done) / rate);
    fflush(stderr);
    progress_drawn = true;
}

void cli_progress_draw(struct cli_progress *progress, uint64_t bytes_done, uint64_t bytes_total)
{
    uint64_t now_ns = clock_ns();
    if (!isatty(STDERR_FILENO))
        return;
    if (!progress->start_ns) {
        progress->start_ns = now_ns;
        progress->start_bytes = bytes_done;
    }
    if (now_ns - progress->drawn_ns < PROGRESS_INTERVAL_MS * UINT64_C(1000000))
        return;
    progress->drawn_ns = now_ns;
    progress_print(progress, now_ns, bytes_done, bytes_total);
}

void cli_progress_clear(void)
{
    if (progress_drawn)
        fputs("\r\033[K", stderr);
    progress_drawn = false;
}

static atomic_bool interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    atomic_store(&interrupted, true);
}

const atomic_bool *cli_interrupt_start(void)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    struct sigaction before;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN) // as `nohup` has it
        sigaction(SIGHUP, &action, NULL);
    return &interrupted;
}

enum sluice_status cli_check_interrupt(void)
{
    return atomic_load(&interrupted) ? error_set(SLUICE_ERR_CANCELLED, "interrupted") : SLUICE_OK;
}
