// A group of a layer's experts, which the pager handed out together, and what the device does with it: gate and up,
// SwiGLU, down, then the sum into h. The sum adds a token's experts one by one in rising order, so the result does not
// depend on how the experts were grouped: not on slots, arrival, or drive. If the results of all rows fit, experts run
// in any order of arrival and the sum follows at the end; otherwise they run in rising order and each group is summed
// at once.
#ifndef SLUICE_MODEL_MOE_GROUP_H
#define SLUICE_MODEL_MOE_GROUP_H

#include "runtime/model/engine_internal.h"

enum { MOE_GROUP_MAX = 64 };

// Room in the upload buffer for the lists of commands that may still run; given out front to back.
struct moe_list_room {
    struct gpu_range range;
    uint64_t used;
};

struct moe_group {
    struct pass *pass;
    struct gpu_command *cmd; // into which it is recorded
    uint32_t layer;
    const uint32_t *experts; // the sweep's list
    struct pager_place places[MOE_GROUP_MAX];
    uint32_t count;
};

// The expert at a place of the group.
static inline uint32_t moe_group_expert(const struct moe_group *g, uint32_t place)
{
    return g->experts[g->places[place].index];
}

// What is remembered of groups: which layers' experts have the same shape, and what was recorded for them. Part of
// moe_create; moe_finish releases it. Error: SLUICE_ERR_MEMORY.
enum sluice_status moe_group_memos_create(struct sluice_engine *engine);

// Records the group into g->cmd, and with the last group of a layer whose rows all fit the sum. Where the lists of
// earlier commands of the layer take the room, g->cmd is submitted, waited for, and another one.
enum sluice_status moe_group_record(struct moe_group *g, struct moe_list_room *room, bool all_rows_fit);

#endif
