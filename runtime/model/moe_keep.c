#include "runtime/model/moe_keep.h"

#include <stdlib.h>

#include "runtime/base/check.h"

void moe_keep_clear(struct moe_keep *keep, uint32_t experts)
{
    CHECK(experts <= MODEL_EXPERTS_MAX);
    keep->count = 0;
    for (uint32_t i = 0; i < experts; i++) {
        keep->ranked[i] = (struct moe_keep_use){.expert = i};
        keep->rank[i] = UINT32_MAX;
    }
}

void moe_keep_count(struct moe_keep *keep, const uint32_t *ids, uint32_t tokens, uint32_t top_k)
{
    for (uint32_t t = 0; t < tokens; t++) {
        keep->count++; // of tokens, until they are ranked
        for (uint32_t k = 0; k < top_k; k++) {
            struct moe_keep_use *use = &keep->ranked[ids[t * top_k + k]];
            use->uses++;
            use->last = keep->count;
        }
    }
}

static int compare_uses(const void *a, const void *b)
{
    const struct moe_keep_use *x = a, *y = b;
    if (x->uses != y->uses)
        return x->uses < y->uses ? 1 : -1;
    if (x->last != y->last)
        return x->last < y->last ? 1 : -1;
    return x->expert < y->expert ? -1 : 1;
}

void moe_keep_rank(struct moe_keep *keep, uint32_t experts)
{
    qsort(keep->ranked, experts, sizeof *keep->ranked, compare_uses);
    for (keep->count = 0; keep->count < experts && keep->ranked[keep->count].uses > 0; keep->count++)
        keep->rank[keep->ranked[keep->count].expert] = keep->count;
}
