#include "runtime/base/check.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void check_failed(const char *condition, const char *file, int line)
{
    // The one place where the library writes to stderr: the process is about to end because of our own bug.
    fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
    abort();
}
