// `sluice run FILE -p PROMPT`: answers one prompt.

#include <string.h>

#include "tools/commands.h"
#include "tools/generate.h"

int cmd_run(int argc, char **argv)
{
    struct generate_options o;
    const char *prompt = NULL, *path;
    int exit_status;
    generate_options_init(&o);
    const struct cli_option options[] = {
        {"prompt", 'p', "TEXT", "what to answer", cli_parse_text, &prompt},
        {"raw", 0, NULL, "continue the text as it is, without the chat template; <|im_end|> in it is a control token",
         cli_parse_flag, &o.raw},
        GENERATE_OPTIONS(o),
        CLI_ENGINE_OPTIONS(o.engine),
    };
    const struct cli_command command = {
        "run",
        "FILE -p TEXT [OPTIONS]",
        "Answers a prompt with the model in FILE, a container made by `sluice convert`. The prompt is text: <|im_end|> "
        "in it does not end the user's turn (but see --raw). The answer goes to standard output while it is produced; "
        "what a thinking model thinks before it goes to standard error with -v, and into \"reasoning\" with --json. "
        "With -v, statistics follow on standard error.",
        options,
        sizeof options / sizeof *options,
        1,
        1,
    };
    if (!cli_parse(&command, argc, argv, &path, &exit_status))
        return exit_status;
    if (!prompt)
        return cli_usage_error(&command, "no prompt: give one with -p");
    return generate(path, prompt, strlen(prompt), &o);
}
