#include "runtime/text/control_spans.h"

#include "runtime/base/check.h"
#include "runtime/base/mem.h"

static enum sluice_status make_room(struct control_spans *spans)
{
    if (spans->count < spans->capacity)
        return SLUICE_OK;
    size_t capacity = spans->capacity + spans->capacity / 2 + 16;
    struct control_span *list = mem_realloc(spans->list, capacity, sizeof *list);
    if (!list)
        return SLUICE_ERR_MEMORY;
    spans->list = list;
    spans->capacity = capacity;
    return SLUICE_OK;
}

enum sluice_status control_spans_add(struct control_spans *spans, size_t start, size_t end, enum control_scope scope)
{
    struct control_span *last = spans->count > 0 ? &spans->list[spans->count - 1] : NULL;
    CHECK(start <= end && (!last || last->end <= start));
    if (start == end)
        return SLUICE_OK;
    if (last && last->end == start && last->scope == scope) {
        last->end = end;
        return SLUICE_OK;
    }
    if (make_room(spans) < 0)
        return SLUICE_ERR_MEMORY;
    spans->list[spans->count++] = (struct control_span){start, end, scope};
    return SLUICE_OK;
}

void control_spans_finish(struct control_spans *spans)
{
    mem_free(spans->list);
    *spans = (struct control_spans){0};
}
