// What all subcommands share: options, errors, progress, interruption.
//
// Results go to stdout, everything else to stderr. Exit status: 0 done, 1 failed ("sluice: message"), 2 wrong usage,
// 130 interrupted.
#ifndef SLUICE_TOOLS_CLI_H
#define SLUICE_TOOLS_CLI_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/sluice.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130 };

// --- options --------------------------------------------------------------------------------------------------------

// Stores the value of an option. SLUICE_ERR_ARGUMENT with a message that says what the text should be.
typedef enum sluice_status cli_parse_function(const char *text, void *target);

struct cli_option {
    const char *name;  // without the dashes
    char letter;       // 0: no short form
    const char *value; // what the help calls the value; NULL: a flag, given without one
    const char *help;
    cli_parse_function *parse; // a flag's gets NULL as text
    void *target;
};

struct cli_command {
    const char *name;
    const char *arguments; // such as "DIR -o FILE"
    const char *about;     // sentences for --help
    const struct cli_option *options;
    size_t option_count;
    size_t positional_min, positional_max;
};

cli_parse_function cli_parse_flag;  // bool: true
cli_parse_function cli_parse_text;  // const char *: points into argv
cli_parse_function cli_parse_count; // uint32_t, at least 1
cli_parse_function cli_parse_u64;   // uint64_t
cli_parse_function cli_parse_size;  // uint64_t bytes, more than 0: "512M", "1.5GiB", "10GB"; offload/budget.h

// In cli_names.c:
cli_parse_function cli_parse_quant_name; // const char *: names a number format; points into argv
cli_parse_function cli_parse_template;   // enum chat_template, never UNKNOWN

// Parses argv[1..argc) (argv[0] is the command's name): --name VALUE, --name=VALUE, -x VALUE, -xVALUE, and `--` before
// arguments that begin with a dash. positional[positional_max] gets the arguments that are no options, then NULLs.
// True: go on. False: the command ends with *exit_status, because help was printed or the usage was wrong.
bool cli_parse(const struct cli_command *command, int argc, char **argv, const char **positional, int *exit_status);

// Commands are programs of their own from now on, not subcommands of `sluice`: for what help and messages call them.
void cli_set_standalone(void);

// Says that `command` lacks something, and how to get help; returns CLI_USAGE.
int cli_usage_error(const struct cli_command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Options of all commands that run a model. Zero: not given.
struct cli_engine_options {
    const char *device; // index, or part of the name
    uint64_t vram_bytes, ram_bytes;
    uint32_t slots;
    enum sluice_expert_pool expert_pool;
    enum sluice_io io;
    enum sluice_verify verify;
    enum sluice_activations activations;
    enum sluice_matrix_cores matrix_cores;
    enum sluice_routing routing; // only `bench` has it
    uint32_t sessions;           // only `bench` and `plan` have it
    bool io_only;                // only `bench` has it
    uint32_t context_tokens;
    enum sluice_kv kv;
    bool recalibrate;
    bool verbose;
};

// Each stores one of the enum in its name.
cli_parse_function cli_parse_expert_pool, cli_parse_io, cli_parse_verify, cli_parse_kv, cli_parse_activations,
    cli_parse_matrix_cores, cli_parse_routing;

// Rows of a table of struct cli_option that fill `e`, a struct cli_engine_options.
#define CLI_ENGINE_OPTIONS(e)                                                                                       \
    {"device", 0, "NAME", "graphics device: number or part of its name", cli_parse_text, &(e).device},              \
        {"vram", 0, "SIZE", "device memory to use at most", cli_parse_size, &(e).vram_bytes},                       \
        {"ram", 0, "SIZE", "main memory to keep experts in", cli_parse_size, &(e).ram_bytes},                       \
        {"slots", 0, "N", "experts to keep in device memory", cli_parse_count, &(e).slots},                         \
        {"expert-pool",                                                                                             \
         0,                                                                                                         \
         "MODE",                                                                                                    \
         "experts where drive and device both work: auto (default), unified or separate",                           \
         cli_parse_expert_pool,                                                                                     \
         &(e).expert_pool},                                                                                         \
        {"io", 0, "MODE", "how to read the drive: auto, uring or pread", cli_parse_io, &(e).io},                    \
        {"verify",         0,          "MODE", "compare experts with their checksums: once (default) or always",    \
         cli_parse_verify, &(e).verify},                                                                            \
        {"ctx", 0, "TOKENS", "longest text, prompt and answer together", cli_parse_count, &(e).context_tokens},     \
        {"kv",         0,      "TYPE", "number format of the KV cache: f16 (default), f32, or q8, which halves it", \
         cli_parse_kv, &(e).kv},                                                                                    \
        {"activations",                                                                                             \
         0,                                                                                                         \
         "TYPE",                                                                                                    \
         "activations in products with quantised weights: q8 (default) or f32",                                     \
         cli_parse_activations,                                                                                     \
         &(e).activations},                                                                                         \
        {"matrix-cores",                                                                                            \
         0,                                                                                                         \
         "MODE",                                                                                                    \
         "matrix cores for prompts: auto (default: if right and faster), on or off",                                \
         cli_parse_matrix_cores,                                                                                    \
         &(e).matrix_cores},                                                                                        \
        {"recalibrate",   0, NULL, "measure anew which kernel variants are fast on the device", cli_parse_flag,     \
         &(e).recalibrate},                                                                                         \
    {                                                                                                               \
        "verbose", 'v', NULL, "say more about what is done", cli_parse_flag, &(e).verbose                           \
    }

// --- messages -------------------------------------------------------------------------------------------------------

// Prints the library's notes and warnings to stderr from now on; details only if `verbose`.
void cli_log_start(bool verbose);

// Prints this thread's error message as "sluice: message" and returns the exit status for `status`.
int cli_fail(enum sluice_status status);

// A number of bytes as people read it: "1.65 GiB". Valid until the fourth next call.
const char *cli_bytes(uint64_t bytes);

// --- files ----------------------------------------------------------------------------------------------------------

// `folder` = $XDG_CACHE_HOME/sluice, else $HOME/.cache/sluice. NULL if neither is set to an absolute path (or the
// result is longer than `capacity`): then nothing is kept.
const char *cli_cache_folder(char *folder, size_t capacity);

// Whether a new file can be made at `path`; only with `force` in place of a file that is there. Errors: as
// output_path_check (runtime/base/output_path.h), and SLUICE_ERR_ARGUMENT (it exists).
enum sluice_status cli_check_output(const char *path, bool force);

// --- long work ------------------------------------------------------------------------------------------------------

// One line that is redrawn a few times a second, if stderr is a terminal; else nothing. Zero-initialise, set label.
struct cli_progress {
    const char *label;
    uint64_t start_ns, drawn_ns; // 0: not yet
    uint64_t start_bytes;        // done when it began
};

// Threads: one at a time.
void cli_progress_draw(struct cli_progress *progress, uint64_t bytes_done, uint64_t bytes_total);
void cli_progress_clear(void);

// From now on the first Ctrl-C (or SIGTERM, or SIGHUP unless it is ignored) sets the flag, a second one ends the
// process.
const atomic_bool *cli_interrupt_start(void);

// SLUICE_ERR_CANCELLED with a message once the flag is set.
enum sluice_status cli_check_interrupt(void);

#endif
