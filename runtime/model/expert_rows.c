#include "runtime/model/expert_rows.h"

#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "runtime/model/config.h"

enum sluice_status expert_rows_create(uint32_t experts, uint32_t top_k, uint32_t tokens_max, struct expert_rows *rows)
{
    CHECK(experts > 0 && experts <= MODEL_EXPERTS_MAX && top_k > 0 && top_k <= MODEL_TOP_K_MAX);
    *rows = (struct expert_rows){.experts = experts, .top_k = top_k};
    rows->first = mem_alloc(experts + 1, sizeof *rows->first);
    rows->token = mem_alloc((size_t)tokens_max * top_k, sizeof *rows->token);
    return rows->first && rows->token ? SLUICE_OK : SLUICE_ERR_MEMORY;
}

void expert_rows_finish(struct expert_rows *rows)
{
    mem_free(rows->first);
    mem_free(rows->token);
    *rows = (struct expert_rows){0};
}

static enum sluice_status count_rows(struct expert_rows *rows, const uint32_t *ids, uint32_t pick_count)
{
    memset(rows->first, 0, (rows->experts + 1) * sizeof *rows->first);
    for (uint32_t i = 0; i < pick_count; i++) {
        if (ids[i] >= rows->experts)
            return error_set(SLUICE_ERR_DEVICE,
                             "the device selected expert %u of %u: NaN activations or a driver fault", ids[i],
                             rows->experts);
        rows->first[ids[i] + 1]++;
    }
    for (uint32_t i = 0; i < rows->experts; i++)
        rows->first[i + 1] += rows->first[i];
    return SLUICE_OK;
}

// Order of a token's picks by rising expert; top_k is small.
static void order_picks(const uint32_t *ids, uint32_t top_k, uint32_t *order)
{
    for (uint32_t i = 0; i < top_k; i++) {
        uint32_t j = i;
        for (; j > 0 && ids[order[j - 1]] > ids[i]; j--)
            order[j] = order[j - 1];
        order[j] = i;
    }
}

enum sluice_status expert_rows_sort(struct expert_rows *rows, uint32_t tokens, const struct expert_picks *picks)
{
    uint32_t top_k = rows->top_k, order[MODEL_TOP_K_MAX], next[MODEL_EXPERTS_MAX];
    enum sluice_status status = count_rows(rows, picks->ids, tokens * top_k);
    if (status < 0)
        return status;
    memcpy(next, rows->first, rows->experts * sizeof *next);
    for (uint32_t t = 0; t < tokens; t++) {
        const uint32_t *selected = &picks->ids[t * top_k];
        order_picks(selected, top_k, order);
        for (uint32_t k = 0; k < top_k; k++) {
            uint32_t row = next[selected[order[k]]]++;
            rows->token[row] = t;
            picks->row[t * top_k + k] = row;
            picks->row_weight[t * top_k + k] = picks->weights[t * top_k + order[k]];
        }
    }
    return SLUICE_OK;
}
