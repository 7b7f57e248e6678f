// Warnings and notes of the library go to a callback of the embedding program; without one they are dropped.
#ifndef SLUICE_BASE_LOG_H
#define SLUICE_BASE_LOG_H

enum log_level { LOG_WARNING, LOG_NOTE, LOG_DEBUG };

typedef void log_function(void *user, enum log_level level, const char *text);

// Sets the process-wide callback (NULL: none). Call it before other threads use the library.
void log_set(log_function *function, void *user);

void log_message(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
