#include "runtime/base/log.h"

#include <stdarg.h>
#include <stdio.h>

static log_function *sink;
static void *sink_user;

void log_set(log_function *function, void *user)
{
    sink = function;
    sink_user = user;
}

void log_message(enum log_level level, const char *format, ...)
{
    if (!sink)
        return;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    sink(sink_user, level, text);
}
