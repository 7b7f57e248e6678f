#include "offload/prompt_tail.h"

#include <stdlib.h>

#include "runtime/base/check.h"

void prompt_tail_clear(struct prompt_tail *keep, uint32_t experts)
{
    CHECK(experts <= PROMPT_TAIL_EXPERTS_MAX);
    keep->count = 0;
    for (uint32_t i = 0; i < experts; i++) {
        keep->ranked[i] = (struct prompt_tail_use){.expert = i};
        keep->rank[i] = UINT32_MAX;
    }
}

void prompt_tail_count(struct prompt_tail *keep, const uint32_t *ids, uint32_t tokens, uint32_t top_k)
{
    for (uint32_t t = 0; t < tokens; t++) {
        keep->count++; // of tokens, until they are ranked
        for (uint32_t k = 0; k < top_k; k++) {
            struct prompt_tail_use *use = &keep->ranked[ids[t * top_k + k]];
            use->uses++;
            use->last = keep->count;
        }
    }
}

static int compare_uses(const void *a, const void *b)
{
    const struct prompt_tail_use *x = a, *y = b;
    if (x->uses != y->uses)
        return x->uses < y->uses ? 1 : -1;
    if (x->last != y->last)
        return x->last < y->last ? 1 : -1;
    return x->expert < y->expert ? -1 : 1;
}

void prompt_tail_rank(struct prompt_tail *keep, uint32_t experts)
{
    qsort(keep->ranked, experts, sizeof *keep->ranked, compare_uses);
    for (keep->count = 0; keep->count < experts && keep->ranked[keep->count].uses > 0; keep->count++)
        keep->rank[keep->ranked[keep->count].expert] = keep->count;
}
