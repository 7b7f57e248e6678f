#include "runtime/text/chat.h"

#include "runtime/text/chat_message.h"
#include "runtime/text/text_buffer.h"

enum sluice_status chat_render(enum chat_template kind, const json_t *messages, const json_t *tools,
                               bool generation_prompt, char **text, size_t *bytes)
{
    *text = NULL;
    *bytes = 0;
    if (kind == CHAT_TEMPLATE_UNKNOWN)
        return error_set(SLUICE_ERR_ARGUMENT,
                         "no chat template is known for this model; choose one with --template instruct, thinking or "
                         "coder");
    struct text_buffer out = {0};
    struct chat_messages checked;
    enum sluice_status status = chat_messages_read(messages, tools, &checked);
    if (status < 0)
        return status;
    TRY(kind == CHAT_TEMPLATE_CODER
            ? chat_render_coder(&checked, generation_prompt, &out)
            : chat_render_chatml(&checked, kind == CHAT_TEMPLATE_THINKING, generation_prompt, &out));
    TRY(text_buffer_take(&out, text, bytes));
fail:
    text_buffer_finish(&out);
    chat_messages_finish(&checked);
    return status;
}
