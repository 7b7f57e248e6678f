// The lists that the kernels of a group's experts read: which token each row is of, and tiles of a few rows of one
// expert each. One operation is bound to a limited number of slabs (op_moe_slabs_at_once), so the slabs that the
// experts lie in are cut into sets, and each set has its list of tiles.
#ifndef SLUICE_MODEL_MOE_LISTS_H
#define SLUICE_MODEL_MOE_LISTS_H

#include "runtime/model/expert_rows.h"
#include "runtime/model/moe_group.h"

// A whole number of experts, places [begin, end) of the group, and their rows [first, last) of the block's sorted rows.
struct moe_span {
    uint32_t begin, end;
    uint32_t first, last;
};

struct moe_slab_set {
    uint32_t first, count; // of moe_lists.slabs
    struct moe_tiles tiles;
};

struct moe_lists {
    struct gpu_range row_token; // u32 [row_count]
    uint32_t row_count;
    uint32_t slabs[MOE_GROUP_MAX], slab_count; // numbers of the slabs that are bound, rising
    uint32_t slab_index[MOE_GROUP_MAX];        // by place of the group, among them
    struct moe_slab_set sets[MOE_GROUP_MAX];   // [set_count], at most one per place
    uint32_t set_count;
};

// Upper bound of what the lists of a group take in the room.
uint64_t moe_lists_bytes_max(const struct moe_group *g);

// Writes the lists of the span's experts: of the rows [row0, row0 + row_count) the tokens, and tiles whose rows are
// counted from row0. The room is large enough (checked).
void moe_lists_build(const struct moe_group *g, const struct expert_rows *rows, const struct moe_span *span,
                     uint32_t row0, uint32_t row_count, struct moe_list_room *room, struct moe_lists *lists);

#endif
