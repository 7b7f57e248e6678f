// Runs many independent jobs on a few threads, for as long as one call lasts.
#ifndef SLUICE_MODEL_PARALLEL_H
#define SLUICE_MODEL_PARALLEL_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { PARALLEL_THREADS_MAX = 64 };

typedef enum sluice_status parallel_function(void *user, size_t index);

// Calls function(user, i) once for every i < count, in ascending order of start, on up to `threads` threads (clamped to
// 1..PARALLEL_THREADS_MAX; the caller's is one of them), and waits for all. The first failure keeps further jobs from
// starting; its status and message are returned. If fewer threads can be started, the rest do the work.
enum sluice_status parallel_run(uint32_t threads, size_t count, parallel_function *function, void *user);

// Processors that are online, within 1..PARALLEL_THREADS_MAX.
uint32_t parallel_threads_default(void);

#endif
