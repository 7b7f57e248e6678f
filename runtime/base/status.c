#include "runtime/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char last_message[ERROR_MESSAGE_BYTES];

const char *status_text(enum sluice_status status)
{
    switch (status) {
#define X(name, value, text) \
    case name:               \
        return text;
        SLUICE_STATUS_LIST(X)
#undef X
    }
    return "unknown status";
}

// Cuts a UTF-8 sequence that the end of the buffer split.
static void trim_partial_character(char *text)
{
    size_t length = strlen(text);
    size_t start = length;
    while (start > 0 && length - start < 4 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
        start--;
    if (start == 0 || (unsigned char)text[start - 1] < 0xC0)
        return;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t wanted = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (length - (start - 1) < wanted)
        text[start - 1] = '\0';
}

enum sluice_status error_set(enum sluice_status status, const char *format, ...)
{
    char text[ERROR_MESSAGE_BYTES]; // arguments may point into last_message
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length >= (int)sizeof text)
        trim_partial_character(text);
    memcpy(last_message, text, sizeof text);
    return status;
}

enum sluice_status error_prefix(enum sluice_status status, const char *format, ...)
{
    char prefix[ERROR_MESSAGE_BYTES / 2];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(prefix, sizeof prefix, format, arguments);
    va_end(arguments);
    return error_set(status, "%s: %s", prefix, last_message);
}

const char *error_message(void)
{
    return last_message;
}

void error_save(struct error_record *record, enum sluice_status status)
{
    record->status = status;
    memcpy(record->message, last_message, sizeof last_message);
}

enum sluice_status error_restore(const struct error_record *record)
{
    memcpy(last_message, record->message, sizeof last_message);
    return record->status;
}
