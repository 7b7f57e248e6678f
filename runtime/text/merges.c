#include "runtime/text/merges.h"

#include <stdbool.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/mem.h"

enum {
    SHORT_WORD = 24, // up to here searching for the lowest rank again after each merge beats a heap
};

#define NONE UINT32_MAX

// One symbol of a long word, in a doubly linked list.
struct merge_node {
    int32_t id;
    uint32_t previous, next; // NONE at the ends
    uint32_t rank;           // of merging with `next`; NONE if they do not merge or this node is gone
};

enum sluice_status merges_init(struct merges *merges, size_t count)
{
    merges->slot_count = 1024;
    while (merges->slot_count < 2 * count)
        merges->slot_count *= 2;
    merges->slots = mem_alloc(merges->slot_count, sizeof *merges->slots);
    if (!merges->slots)
        return SLUICE_ERR_MEMORY;
    for (size_t i = 0; i < merges->slot_count; i++)
        merges->slots[i].left = NONE;
    return SLUICE_OK;
}

void merges_finish(struct merges *merges)
{
    mem_free(merges->slots);
    *merges = (struct merges){0};
}

static size_t slot_of(const struct merges *merges, uint32_t left, uint32_t right)
{
    size_t mask = merges->slot_count - 1;
    uint64_t hash = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    size_t slot = (hash >> 32) & mask;
    while (merges->slots[slot].left != NONE && (merges->slots[slot].left != left || merges->slots[slot].right != right))
        slot = (slot + 1) & mask;
    return slot;
}

void merges_put(struct merges *merges, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
    struct merge merge = {.left = (uint32_t)left, .right = (uint32_t)right, .rank = rank, .id = id};
    merges->slots[slot_of(merges, merge.left, merge.right)] = merge;
}

// NULL if the pair does not merge.
static const struct merge *find_merge(const struct merges *merges, int32_t left, int32_t right)
{
    const struct merge *slot = &merges->slots[slot_of(merges, (uint32_t)left, (uint32_t)right)];
    return slot->left == NONE ? NULL : slot;
}

static uint32_t rank_of(const struct merges *merges, struct merge_work *work, int32_t left, int32_t right)
{
    work->steps++;
    const struct merge *merge = find_merge(merges, left, right);
    return merge ? merge->rank : NONE;
}

// Replaces the pair at `at` by its merge and closes the gap.
static void merge_short(const struct merges *merges, struct merge_work *work, int32_t *ids, uint32_t *ranks,
                        size_t *count, size_t at)
{
    ids[at] = find_merge(merges, ids[at], ids[at + 1])->id;
    size_t after = *count - at - 2;
    memmove(ids + at + 1, ids + at + 2, after * sizeof *ids);
    memmove(ranks + at + 1, ranks + at + 2, after * sizeof *ranks);
    *count -= 1;
    ranks[at] = at + 1 < *count ? rank_of(merges, work, ids[at], ids[at + 1]) : NONE;
    if (at > 0)
        ranks[at - 1] = rank_of(merges, work, ids[at - 1], ids[at]);
}

static void apply_short(const struct merges *merges, struct merge_work *work, int32_t *ids, size_t *count)
{
    uint32_t ranks[SHORT_WORD];
    for (size_t i = 0; i < *count; i++)
        ranks[i] = i + 1 < *count ? rank_of(merges, work, ids[i], ids[i + 1]) : NONE;
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i < *count; i++)
            if (ranks[i] < ranks[best])
                best = i;
        if (ranks[best] == NONE)
            return;
        merge_short(merges, work, ids, ranks, count, best);
    }
}

// The heap orders rank << 32 | position, the smallest first. Entries are never removed: one whose rank is no longer its
// node's is skipped when it comes up.
struct heap {
    uint64_t *keys;
    size_t count;
    struct merge_work *work;
};

static void heap_push(struct heap *heap, uint64_t key)
{
    size_t i = heap->count++;
    for (; i > 0 && heap->keys[(i - 1) / 2] > key; i = (i - 1) / 2) {
        heap->keys[i] = heap->keys[(i - 1) / 2];
        heap->work->steps++;
    }
    heap->keys[i] = key;
}

static uint64_t heap_pop(struct heap *heap)
{
    uint64_t top = heap->keys[0];
    uint64_t last = heap->keys[--heap->count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < heap->count && heap->keys[child + 1] < heap->keys[child])
            child++;
        if (child >= heap->count || heap->keys[child] >= last)
            break;
        heap->keys[i] = heap->keys[child];
        i = child;
        heap->work->steps++;
    }
    heap->keys[i] = last;
    return top;
}

// Looks up the rank of node `at` with its successor and queues it.
static void consider(const struct merges *merges, struct heap *heap, struct merge_node *nodes, uint32_t at)
{
    struct merge_node *node = &nodes[at];
    node->rank = node->next == NONE ? NONE : rank_of(merges, heap->work, node->id, nodes[node->next].id);
    if (node->rank != NONE)
        heap_push(heap, (uint64_t)node->rank << 32 | at);
}

static void merge_node_with_next(const struct merges *merges, struct heap *heap, struct merge_node *nodes, uint32_t at)
{
    struct merge_node *node = &nodes[at];
    struct merge_node *gone = &nodes[node->next];
    node->id = find_merge(merges, node->id, gone->id)->id;
    gone->rank = NONE;
    node->next = gone->next;
    if (node->next != NONE)
        nodes[node->next].previous = at;
    consider(merges, heap, nodes, at);
    if (node->previous != NONE)
        consider(merges, heap, nodes, node->previous);
}

static enum sluice_status make_room(struct merge_work *work, size_t count)
{
    if (count <= work->capacity)
        return SLUICE_OK;
    CHECK(count < NONE);
    size_t capacity = count + count / 2;
    struct merge_node *nodes = mem_realloc(work->nodes, capacity, sizeof *nodes);
    if (!nodes)
        return SLUICE_ERR_MEMORY;
    work->nodes = nodes;
    // One entry a node at first, and at most two for each of fewer than `count` merges.
    uint64_t *heap = mem_realloc(work->heap, capacity, 3 * sizeof *heap);
    if (!heap)
        return SLUICE_ERR_MEMORY;
    work->heap = heap;
    work->capacity = capacity;
    return SLUICE_OK;
}

static void link_nodes(struct merge_node *nodes, const int32_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        nodes[i] = (struct merge_node){
            .id = ids[i],
            .previous = i > 0 ? i - 1 : NONE,
            .next = i + 1 < count ? i + 1 : NONE,
        };
}

static void apply_long(const struct merges *merges, struct merge_work *work, int32_t *ids, size_t *count)
{
    struct heap heap = {.keys = work->heap, .work = work};
    struct merge_node *nodes = work->nodes;
    link_nodes(nodes, ids, (uint32_t)*count);
    for (uint32_t i = 0; i < (uint32_t)*count; i++)
        consider(merges, &heap, nodes, i);
    while (heap.count > 0) {
        uint64_t key = heap_pop(&heap);
        uint32_t at = (uint32_t)key;
        if (nodes[at].rank == key >> 32)
            merge_node_with_next(merges, &heap, nodes, at);
    }
    size_t written = 0;
    for (uint32_t at = 0; at != NONE; at = nodes[at].next)
        ids[written++] = nodes[at].id;
    *count = written;
}

enum sluice_status merges_apply(const struct merges *merges, struct merge_work *work, int32_t *ids, size_t *count)
{
    if (*count < 2)
        return SLUICE_OK;
    if (*count <= SHORT_WORD) {
        apply_short(merges, work, ids, count);
        return SLUICE_OK;
    }
    if (make_room(work, *count) < 0)
        return SLUICE_ERR_MEMORY;
    apply_long(merges, work, ids, count);
    return SLUICE_OK;
}

void merge_work_finish(struct merge_work *work)
{
    mem_free(work->nodes);
    mem_free(work->heap);
    *work = (struct merge_work){0};
}
