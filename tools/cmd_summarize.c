// `sluice summarize FILE DOCUMENT.txt`: reads a document once, layer by layer, and summarises it.

#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/output_path.h"
#include "runtime/text/python_text.h"
#include "tools/commands.h"
#include "tools/document_load.h"
#include "tools/generate.h"
#include "tools/instruction.h"

static enum sluice_status check_document(const char *path, const char *text, size_t bytes)
{
    python_strip(&text, &bytes);
    return bytes ? SLUICE_OK : error_set(SLUICE_ERR_ARGUMENT, "%s: nothing but white space", path);
}

// The document without its last newline, an empty line, the instruction.
static char *build_prompt(const char *document, size_t bytes, const char *instruction, size_t *prompt_bytes)
{
    size_t length = strlen(instruction);
    if (bytes > 0 && document[bytes - 1] == '\n')
        bytes--;
    char *prompt = mem_alloc(bytes + 2 + length + 1, 1);
    if (!prompt)
        return NULL;
    memcpy(prompt, document, bytes);
    memcpy(prompt + bytes, "\n\n", 2);
    memcpy(prompt + bytes + 2, instruction, length);
    *prompt_bytes = bytes + 2 + length;
    return prompt;
}

static int summarize(const char *path, const char *document_path, const char *instruction, struct generate_options *o)
{
    enum sluice_status status;
    char *document = NULL, *stored = NULL, *prompt = NULL;
    size_t document_bytes = 0, prompt_bytes = 0;
    int exit_status = CLI_FAILED;
    TRY(output_path_check_input(o->trace_path, document_path));
    TRY(document_load(document_path, &document, &document_bytes));
    TRY(check_document(document_path, document, document_bytes));
    if (!instruction) {
        TRY(instruction_load(path, &stored));
        instruction = stored;
    }
    prompt = build_prompt(document, document_bytes, instruction, &prompt_bytes);
    TRY(prompt ? SLUICE_OK : SLUICE_ERR_MEMORY);
    exit_status = generate(path, prompt, prompt_bytes, o);
fail:
    if (status < 0)
        exit_status = cli_fail(status);
    mem_free(document);
    mem_free(stored);
    mem_free(prompt);
    return exit_status;
}

int cmd_summarize(int argc, char **argv)
{
    struct generate_options o;
    const char *instruction = NULL, *paths[2];
    int exit_status;
    generate_options_init(&o);
    const struct cli_option options[] = {
        {"instruction", 0, "TEXT", "what to do with the document; default: as the container says, else a summary",
         cli_parse_text, &instruction},
        GENERATE_OPTIONS(o),
        CLI_ENGINE_OPTIONS(o.engine),
    };
    const struct cli_command command = {
        "summarize",
        "FILE DOCUMENT.txt [OPTIONS]",
        "Summarises a text with the model in FILE, a container made by `sluice convert`. DOCUMENT.txt is UTF-8 text; "
        "\"-\" is standard input. The whole document goes through the model layer by layer, so every expert is read "
        "from the drive at most once. <|im_end|> and the like in document or instruction are text: they cannot end the "
        "user's turn or speak for somebody else. The summary goes to standard output while it is produced; on a "
        "terminal, progress shows on standard error. What a thinking model thinks before it goes to standard error "
        "with -v, and into \"reasoning\" with --json. With -v, statistics follow.",
        options,
        sizeof options / sizeof *options,
        2,
        2,
    };
    if (!cli_parse(&command, argc, argv, paths, &exit_status))
        return exit_status;
    return summarize(paths[0], paths[1], instruction, &o);
}
