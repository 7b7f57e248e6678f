// Names of number formats and of chat templates as values of options.
#include "quant/quant.h"
#include "runtime/text/chat.h"
#include "tools/cli.h"

enum sluice_status cli_parse_quant_name(const char *text, void *target)
{
    enum quant_type type;
    enum sluice_status status = quant_type_from_name(text, &type);
    if (status == SLUICE_OK)
        *(const char **)target = text;
    return status;
}

enum sluice_status cli_parse_template(const char *text, void *target)
{
    enum chat_template kind = chat_template_from_name(text);
    if (kind == CHAT_TEMPLATE_UNKNOWN)
        return error_set(SLUICE_ERR_ARGUMENT, "\"%s\" is none of instruct, thinking and coder", text);
    *(enum chat_template *)target = kind;
    return SLUICE_OK;
}
