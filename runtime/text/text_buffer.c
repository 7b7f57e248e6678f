#include "runtime/text/text_buffer.h"

#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/text/utf8.h"

enum sluice_status text_buffer_reserve(struct text_buffer *buffer, size_t more)
{
    if (more < buffer->capacity - buffer->bytes)
        return SLUICE_OK;
    size_t wanted;
    if (__builtin_add_overflow(buffer->bytes, more, &wanted) || wanted > SIZE_MAX / 2 - 64)
        return error_set(SLUICE_ERR_MEMORY, "out of memory: a text of more than %zu bytes", SIZE_MAX / 2);
    wanted += wanted / 2 + 64;
    char *data = mem_realloc(buffer->data, wanted, 1);
    if (!data)
        return SLUICE_ERR_MEMORY;
    buffer->data = data;
    buffer->capacity = wanted;
    return SLUICE_OK;
}

enum sluice_status text_buffer_append(struct text_buffer *buffer, const char *text, size_t bytes)
{
    if (text_buffer_reserve(buffer, bytes) < 0)
        return SLUICE_ERR_MEMORY;
    if (bytes)
        memcpy(buffer->data + buffer->bytes, text, bytes);
    buffer->bytes += bytes;
    return SLUICE_OK;
}

enum sluice_status text_buffer_append_string(struct text_buffer *buffer, const char *text)
{
    return text_buffer_append(buffer, text, strlen(text));
}

enum sluice_status text_buffer_append_repaired(struct text_buffer *buffer, const uint8_t *text, size_t bytes)
{
    static const char replacement[] = "\xEF\xBF\xBD";
    size_t before = buffer->bytes;
    while (bytes > 0) {
        size_t good = utf8_valid_prefix(text, bytes);
        if (text_buffer_append(buffer, (const char *)text, good) < 0)
            goto fail;
        text += good;
        bytes -= good;
        if (bytes == 0)
            break;
        if (text_buffer_append(buffer, replacement, 3) < 0)
            goto fail;
        uint32_t bad = utf8_next(text, bytes).bytes;
        text += bad;
        bytes -= bad;
    }
    return SLUICE_OK;
fail:
    buffer->bytes = before;
    return SLUICE_ERR_MEMORY;
}

enum sluice_status text_buffer_terminate(struct text_buffer *buffer)
{
    if (text_buffer_reserve(buffer, 0) < 0)
        return SLUICE_ERR_MEMORY;
    buffer->data[buffer->bytes] = '\0';
    return SLUICE_OK;
}

enum sluice_status text_buffer_take(struct text_buffer *buffer, char **text, size_t *bytes)
{
    if (text_buffer_terminate(buffer) < 0)
        return SLUICE_ERR_MEMORY;
    *text = buffer->data;
    if (bytes)
        *bytes = buffer->bytes;
    *buffer = (struct text_buffer){0};
    return SLUICE_OK;
}

void text_buffer_finish(struct text_buffer *buffer)
{
    mem_free(buffer->data);
    *buffer = (struct text_buffer){0};
}
