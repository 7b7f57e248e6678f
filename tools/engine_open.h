// Opening a model for a command, and what `-v` and `--json` say about a run.
#ifndef SLUICE_TOOLS_ENGINE_OPEN_H
#define SLUICE_TOOLS_ENGINE_OPEN_H

#include <jansson.h>

#include "runtime/sluice.h"
#include "tools/cli.h"

// The common options as the library takes them. `context_needed`: tokens the command knows it needs; used unless --ctx
// was given; 0: the default. One call at a time: what *out points to is valid until the next.
void engine_options(const struct cli_engine_options *options, uint32_t context_needed, struct sluice_options *out);

// Opens the container with the common options. `context_needed`: tokens the command knows it needs; used unless --ctx
// was given; 0: the default.
enum sluice_status engine_open(const char *path, const struct cli_engine_options *options, uint32_t context_needed,
                               struct sluice_engine **engine);

// The same with a default context that has room for a prompt and its answer, or as much of the answer as the model has
// positions for. SLUICE_ERR_ARGUMENT if these do not even hold the prompt (and, if there is to be an answer, one
// token).
enum sluice_status engine_open_fitting(const char *path, const struct cli_engine_options *options, size_t prompt_tokens,
                                       size_t answer_tokens, struct sluice_engine **engine);

// A tap's `experts` that ends a prefill or decode in mid-work once the user has interrupted it (cli_interrupt_start).
enum sluice_status engine_tap_interrupt(void *user, uint32_t layer, uint32_t first, uint32_t rows, const uint32_t *ids);

// Speed of one run, for the reports.
struct run_times {
    uint64_t prompt_tokens, prompt_ns;
    uint64_t answer_tokens, answer_ns;
};

// Prints statistics to stderr: speeds, cache, drive, device, GPU time per kernel.
void engine_report(struct sluice_engine *engine, const struct run_times *times);

// The same as JSON; a new reference, NULL when out of memory.
json_t *engine_report_json(struct sluice_engine *engine, const struct run_times *times);

#endif
