#include "runtime/gpu/command_list.h"

#include <string.h>

#include "runtime/base/mem.h"

static size_t op_bytes(const struct list_op *op)
{
    return sizeof *op + op->range_count * sizeof(struct gpu_range) + (op->push_bytes + 7) / 8 * 8;
}

static bool make_room(struct command_list *list, size_t bytes)
{
    enum { FIRST_BYTES = 8192 };
    size_t capacity = list->capacity ? list->capacity : FIRST_BYTES;
    while (capacity - list->size < bytes)
        capacity *= 2;
    if (capacity == list->capacity)
        return true;
    uint8_t *grown = mem_realloc(list->bytes, capacity, 1);
    if (!grown)
        return false;
    list->bytes = grown;
    list->capacity = capacity;
    return true;
}

bool command_list_add(struct command_list *list, const struct list_op *op, const struct gpu_range *ranges,
                      const void *push)
{
    size_t bytes = op_bytes(op), ranges_bytes = op->range_count * sizeof *ranges;
    if (!make_room(list, bytes))
        return false;
    uint8_t *to = list->bytes + list->size;
    memcpy(to, op, sizeof *op);
    to += sizeof *op;
    if (ranges_bytes)
        memcpy(to, ranges, ranges_bytes);
    to += ranges_bytes;
    if (op->push_bytes % 8)
        memset(to + op->push_bytes / 8 * 8, 0, 8);
    if (op->push_bytes)
        memcpy(to, push, op->push_bytes);
    list->size += bytes;
    return true;
}

void command_list_finish(struct command_list *list)
{
    mem_free(list->bytes);
    *list = (struct command_list){0};
}

const struct list_op *list_part_next(struct list_part part, size_t *at)
{
    if (*at == part.size)
        return NULL;
    const struct list_op *op = (const struct list_op *)(const void *)(part.bytes + *at);
    *at += op_bytes(op);
    return op;
}

const struct gpu_range *list_part_array(struct list_part part)
{
    size_t at = 0;
    const struct list_op *op = list_part_next(part, &at);
    return op && op->kind == LIST_ARRAY ? list_op_ranges(op) : NULL;
}

size_t list_part_array_end(struct list_part part)
{
    size_t at = 0;
    const struct list_op *op = list_part_next(part, &at);
    return op && op->kind == LIST_ARRAY ? at : 0;
}

bool list_parts_match(struct list_part a, struct list_part b)
{
    size_t begin = list_part_array_end(a);
    return a.size == b.size && begin == list_part_array_end(b) &&
           memcmp(a.bytes + begin, b.bytes + begin, a.size - begin) == 0;
}

bool list_part_names(struct list_part part, const struct gpu_buffer *buffer)
{
    size_t at = 0;
    for (const struct list_op *op = list_part_next(part, &at); op; op = list_part_next(part, &at)) {
        const struct gpu_range *ranges = list_op_ranges(op);
        for (uint32_t i = 0; i < op->range_count; i++)
            if (ranges[i].buffer == buffer)
                return true;
    }
    return false;
}
