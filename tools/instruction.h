// What `summarize` asks for when the user does not say it.
#ifndef SLUICE_TOOLS_INSTRUCTION_H
#define SLUICE_TOOLS_INSTRUCTION_H

#include "runtime/base/status.h"

// The instruction that was given to `sluice convert --instruction`, else a general one. *text is released with
// mem_free.
enum sluice_status instruction_load(const char *container_path, char **text);

#endif
