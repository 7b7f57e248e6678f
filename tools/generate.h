// Prompt in, text out: what `run` and `summarize` share.
#ifndef SLUICE_TOOLS_GENERATE_H
#define SLUICE_TOOLS_GENERATE_H

#include "tools/engine_open.h"
#include "tools/text_load.h"

struct generate_options {
    struct cli_engine_options engine;
    enum chat_template template;                                           // --template, or UNKNOWN: the model's own
    float temperature, top_p, min_p, presence_penalty, repetition_penalty; // NaN: as the model says
    uint32_t top_k;                                                        // 0: as the model says
    uint64_t seed;
    uint32_t answer_tokens_max; // 0: 4096, at most what the model has room for
    const char *stop;           // a stop string, or NULL
    const char *trace_path;     // file to record the experts used, for offload_sim; or NULL
    bool json;                  // one JSON object on stdout in place of streamed text
    bool raw;                   // the prompt as it is, without the chat template
};

cli_parse_function cli_parse_float;

// Rows of a table of struct cli_option that fill `o`, a struct generate_options.
#define GENERATE_OPTIONS(o)                                                                                        \
    {"max-tokens", 'n', "N", "longest answer", cli_parse_count, &(o).answer_tokens_max},                           \
        {"temperature", 't', "T", "0: always the likeliest token", cli_parse_float, &(o).temperature},             \
        {"top-k", 0, "K", "choose among the K likeliest tokens", cli_parse_count, &(o).top_k},                     \
        {"top-p", 0, "P", "choose among the likeliest tokens of together P", cli_parse_float, &(o).top_p},         \
        {"min-p", 0, "P", "leave out tokens less likely than P times the likeliest", cli_parse_float, &(o).min_p}, \
        {"presence-penalty", 0, "X", "against repetition, 0..2", cli_parse_float, &(o).presence_penalty},          \
        {"repetition-penalty", 0, "X", "against repetition, 1: off", cli_parse_float, &(o).repetition_penalty},    \
        {"seed", 0, "N", "of the random numbers", cli_parse_u64, &(o).seed},                                       \
        {"stop", 0, "TEXT", "end the answer, also its thoughts, before this text", cli_parse_text, &(o).stop},     \
        {"template", 0, "NAME", "instruct, thinking or coder", cli_parse_template, &(o).template},                 \
        {"trace", 0, "FILE", "record the experts used, for offload_sim", cli_parse_text, &(o).trace_path},         \
    {                                                                                                              \
        "json", 0, NULL, "one JSON object on standard output", cli_parse_flag, &(o).json                           \
    }

// Options that were not given: as the model's generation_config.json says, else greedy.
void generate_options_init(struct generate_options *options);

// Answers `prompt` with the model at `path` on stdout. Returns the exit status.
int generate(const char *path, const char *prompt, size_t prompt_bytes, struct generate_options *options);

#endif
