#include "runtime/text/added_tokens.h"

#include "runtime/base/mem.h"
#include "runtime/text/snippet.h"

// The new node's index, or 0 for lack of memory.
static uint32_t new_node(struct added_tokens *added, uint8_t byte)
{
    if (added->count == added->capacity) {
        uint32_t capacity = added->capacity ? added->capacity * 2 : 256;
        struct added_node *nodes = mem_realloc(added->nodes, capacity, sizeof *nodes);
        if (!nodes)
            return 0;
        added->nodes = nodes;
        added->capacity = capacity;
    }
    added->nodes[added->count] = (struct added_node){.id = -1, .byte = byte};
    return added->count++;
}

static uint32_t child_of(const struct added_tokens *added, uint32_t node, uint8_t byte)
{
    uint32_t child = added->nodes[node].child;
    while (child && added->nodes[child].byte != byte)
        child = added->nodes[child].sibling;
    return child;
}

static uint32_t make_child(struct added_tokens *added, uint32_t node, uint8_t byte)
{
    uint32_t child = child_of(added, node, byte);
    if (child)
        return child;
    child = new_node(added, byte);
    if (child) {
        added->nodes[child].sibling = added->nodes[node].child;
        added->nodes[node].child = child;
    }
    return child;
}

enum sluice_status added_tokens_put(struct added_tokens *added, const char *text, size_t bytes, int32_t id)
{
    if (added->count == 0) {
        new_node(added, 0);
        if (added->count == 0)
            return SLUICE_ERR_MEMORY;
    }
    uint32_t node = 0;
    for (size_t i = 0; i < bytes; i++) {
        node = make_child(added, node, (uint8_t)text[i]);
        if (node == 0)
            return SLUICE_ERR_MEMORY;
    }
    int32_t *end = &added->nodes[node].id;
    if (*end >= 0 && *end != id)
        return error_set(SLUICE_ERR_FORMAT, "\"%s\" has two ids, %d and %d", snippet_of(text, bytes).text, *end, id);
    *end = id;
    added->starts[(uint8_t)text[0]] = true;
    return SLUICE_OK;
}

// The longest token that starts at `text`; *length is its length.
static int32_t longest_at(const struct added_tokens *added, const uint8_t *text, size_t bytes, size_t *length)
{
    int32_t id = -1;
    uint32_t node = 0;
    for (size_t i = 0; i < bytes; i++) {
        node = child_of(added, node, text[i]);
        if (node == 0)
            break;
        if (added->nodes[node].id >= 0) {
            id = added->nodes[node].id;
            *length = i + 1;
        }
    }
    return id;
}

int32_t added_tokens_next(const struct added_tokens *added, const uint8_t *text, size_t bytes, size_t from,
                          size_t *start, size_t *end)
{
    for (size_t i = from; i < bytes; i++) {
        if (!added->starts[text[i]])
            continue;
        size_t length = 0;
        int32_t id = longest_at(added, text + i, bytes - i, &length);
        if (id >= 0) {
            *start = i;
            *end = i + length;
            return id;
        }
    }
    return -1;
}

int32_t added_tokens_find(const struct added_tokens *added, const char *text, size_t bytes)
{
    if (bytes == 0 || added->count == 0)
        return -1;
    size_t length = 0;
    int32_t id = longest_at(added, (const uint8_t *)text, bytes, &length);
    return length == bytes ? id : -1;
}

void added_tokens_finish(struct added_tokens *added)
{
    mem_free(added->nodes);
    *added = (struct added_tokens){0};
}
