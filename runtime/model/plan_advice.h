// What to do when a plan does not fit the budget: the options nearest to those given that are possible.
#ifndef SLUICE_MODEL_PLAN_ADVICE_H
#define SLUICE_MODEL_PLAN_ADVICE_H

#include <stddef.h>

#include "runtime/model/plan_sizes.h"

// out = "try --vram 6.2G or --ctx 32768 or --sessions 2", or that nothing helps.
//   sizes  of what was asked for; NULL: none are known because the context alone is impossible
//   trunk  bytes
//   limit  of the device's budget
//   most   that --vram could be
void plan_advise(const struct sluice_engine *engine, const struct plan_sizes *sizes, uint64_t trunk, uint64_t limit,
                 uint64_t most, char *out, size_t out_bytes);

// A size as options take it, rounded up: "6.2G", "12M".
void plan_format_option(uint64_t bytes, char *out, size_t out_bytes);

#endif
