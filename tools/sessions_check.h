// Whether sessions that decode together answer as they do alone, for `sluice logits --sessions`.
#ifndef SLUICE_TOOLS_SESSIONS_CHECK_H
#define SLUICE_TOOLS_SESSIONS_CHECK_H

#include <stddef.h>

#include "runtime/sluice.h"

// Continues `sessions` prompts by `steps` likeliest tokens each, one session after the other and then all together.
// Prompt i is ids[0 .. count - i), so count > sessions - 1 (else SLUICE_ERR_ARGUMENT).
//   alone, together   [sessions][steps]
// The engine must have been opened for so many sessions, and none of them be in use.
enum sluice_status sessions_check(struct sluice_engine *engine, const int32_t *ids, size_t count, uint32_t sessions,
                                  uint32_t steps, int32_t *alone, int32_t *together);

#endif
