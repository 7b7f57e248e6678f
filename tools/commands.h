// The subcommands. Each takes its own name as argv[0] and returns the exit status.
#ifndef SLUICE_TOOLS_COMMANDS_H
#define SLUICE_TOOLS_COMMANDS_H

// X(name, summary): function cmd_NAME, defined in tools/cmd_NAME.c.
#define COMMAND_LIST(X)                                                         \
    X(convert, "turn a checkpoint of Hugging Face into a container")            \
    X(inspect, "show what is in a container")                                   \
    X(verify, "check every byte of a container")                                \
    X(run, "answer a prompt")                                                   \
    X(summarize, "summarise a document")                                        \
    X(tokenize, "turn text into token ids and back")                            \
    X(logits, "write what the model computes, for comparison")                  \
    X(divergence, "measure what a number format costs in quality")              \
    X(plan, "show what memory a container takes here, and how fast it will be") \
    X(bench, "measure how fast a container runs here")                          \
    X(probe, "measure the graphics device and the kernels on it")               \
    X(synth, "write a synthetic model for tests and measurements")

#define X(name, summary) int cmd_##name(int argc, char **argv);
COMMAND_LIST(X)
#undef X

#endif
