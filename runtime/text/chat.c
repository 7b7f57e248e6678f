#include "runtime/text/chat.h"

#include "runtime/text/chat_message.h"

enum sluice_status chat_render(enum chat_template kind, const json_t *messages, const json_t *tools,
                               bool generation_prompt, struct chat_prompt *prompt)
{
    *prompt = (struct chat_prompt){0};
    if (kind == CHAT_TEMPLATE_UNKNOWN)
        return error_set(SLUICE_ERR_ARGUMENT,
                         "no chat template is known for this model; choose one with --template instruct, thinking or "
                         "coder");
    struct chat_messages checked;
    enum sluice_status status = chat_messages_read(messages, tools, &checked);
    if (status < 0)
        return status;
    TRY(kind == CHAT_TEMPLATE_CODER
            ? chat_render_coder(&checked, generation_prompt, prompt)
            : chat_render_chatml(&checked, kind == CHAT_TEMPLATE_THINKING, generation_prompt, prompt));
    TRY(text_buffer_terminate(&prompt->text));
    chat_messages_finish(&checked);
    return SLUICE_OK;
fail:
    chat_prompt_finish(prompt);
    chat_messages_finish(&checked);
    return status;
}

void chat_prompt_finish(struct chat_prompt *prompt)
{
    text_buffer_finish(&prompt->text);
    control_spans_finish(&prompt->controls);
}
