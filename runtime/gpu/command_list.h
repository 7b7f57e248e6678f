// What a command does, as data: operations one after the other, each followed by its ranges and push constants. Lists
// of the same bytes do the same, as long as the buffers they name are the same; no byte of a list is left undefined. No
// Vulkan here.
#ifndef SLUICE_GPU_COMMAND_LIST_H
#define SLUICE_GPU_COMMAND_LIST_H

#include "runtime/gpu/buffer.h"

// LIST_ARRAY is the first of its part, if there is one: the buffers of the part's array. Dispatches of kernels that
// have an array then lack the ranges of binding 0.
enum list_op_kind { LIST_DISPATCH, LIST_COPY, LIST_CLEAR, LIST_LABEL, LIST_ARRAY, LIST_TO_HOST };

// One operation as it lies in a list, then ranges[range_count], then push_bytes filled up to whole words of 8 bytes.
struct list_op {
    const void *object;   // dispatch: the struct gpu_kernel; label: its text; else NULL
    uint32_t kind;        // enum list_op_kind
    uint32_t range_count; // dispatch: those of its bindings; copy: from and to; clear: one; array: all
    uint32_t push_bytes;
    uint32_t groups[3]; // dispatch: the grid
};

_Static_assert(sizeof(struct list_op) == 32 && sizeof(struct gpu_range) == 24, "no padding");

struct command_list {
    uint8_t *bytes; // [size], owned
    size_t size, capacity;
};

// Part of a list: whole operations.
struct list_part {
    const uint8_t *bytes;
    size_t size;
};

// Appends an operation. False: no memory (the error message is set), and the list is as it was.
bool command_list_add(struct command_list *list, const struct list_op *op, const struct gpu_range *ranges,
                      const void *push);

void command_list_finish(struct command_list *list);

// The operation at `*at`, which moves behind it; NULL at the end of the part. Begin with *at = 0.
const struct list_op *list_part_next(struct list_part part, size_t *at);

static inline const struct gpu_range *list_op_ranges(const struct list_op *op)
{
    return (const struct gpu_range *)(const void *)(op + 1);
}

static inline const void *list_op_push(const struct list_op *op)
{
    return list_op_ranges(op) + op->range_count;
}

// The part's array, or NULL; and where what follows it begins, 0 without.
const struct gpu_range *list_part_array(struct list_part part);
size_t list_part_array_end(struct list_part part);

// Whether parts are the same in all but the buffers of their arrays.
bool list_parts_match(struct list_part a, struct list_part b);

// Whether an operation of the part uses the buffer.
bool list_part_names(struct list_part part, const struct gpu_buffer *buffer);

#endif
