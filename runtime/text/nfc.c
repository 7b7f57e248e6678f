// The work is left to utf8proc but for two things. Only the stretches that can change go through it: a stretch starts
// at the character before the first one from U+0300 on (no character below can combine with what precedes it, or is
// anything but its own normal form) and ends before the next one below U+0300. And marks are brought into canonical
// order here: utf8proc sorts by exchanging neighbours, which takes hours for a megabyte of marks in the wrong order.
#include "runtime/text/nfc.h"

#include <stdbool.h>
#include <string.h>
#include <utf8proc.h>

#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "runtime/text/utf8.h"

enum {
    FIRST_CHANGING_LEAD = 0xCC, // the lead byte of U+0300
    DECOMPOSED_MAX = 4,         // longest full canonical decomposition of one character (U+1F82 and its like)
    INSERTION_MAX = 32,
    CHUNK_BYTES = 16384,
    CLASSES = 256,
};

static bool is_changing_lead(uint8_t byte)
{
    return byte >= FIRST_CHANGING_LEAD;
}

static bool is_continuation(uint8_t byte)
{
    return (byte & 0xC0) == 0x80;
}

static unsigned combining_class(int32_t code_point)
{
    return (unsigned)utf8proc_get_property(code_point)->combining_class;
}

static void sort_by_insertion(int32_t *marks, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        int32_t mark = marks[i];
        unsigned class = combining_class(mark);
        size_t j = i;
        for (; j > 0 && combining_class(marks[j - 1]) > class; j--)
            marks[j] = marks[j - 1];
        marks[j] = mark;
    }
}

static enum sluice_status sort_by_counting(int32_t *marks, size_t count)
{
    int32_t *sorted = mem_alloc(count, sizeof *sorted);
    if (!sorted)
        return SLUICE_ERR_MEMORY;
    size_t start[CLASSES + 1] = {0};
    for (size_t i = 0; i < count; i++)
        start[combining_class(marks[i]) % CLASSES + 1]++;
    for (size_t i = 1; i <= CLASSES; i++)
        start[i] += start[i - 1];
    for (size_t i = 0; i < count; i++)
        sorted[start[combining_class(marks[i]) % CLASSES]++] = marks[i];
    memcpy(marks, sorted, count * sizeof *marks);
    mem_free(sorted);
    return SLUICE_OK;
}

// Canonical ordering: marks between two starters are sorted by class, those of one class stay in order.
static enum sluice_status order_marks(int32_t *points, size_t count)
{
    for (size_t i = 0; i < count;) {
        size_t end = i;
        while (end < count && combining_class(points[end]) != 0)
            end++;
        if (end - i > INSERTION_MAX) {
            if (sort_by_counting(points + i, end - i) < 0)
                return SLUICE_ERR_MEMORY;
        } else if (end > i) {
            sort_by_insertion(points + i, end - i);
        }
        i = end + 1;
    }
    return SLUICE_OK;
}

static size_t decompose(const uint8_t *text, size_t bytes, int32_t *points)
{
    size_t count = 0;
    for (size_t i = 0; i < bytes;) {
        struct utf8_step step = utf8_next(text + i, bytes - i);
        CHECK(step.valid);
        int boundary = 0;
        utf8proc_ssize_t added = utf8proc_decompose_char((utf8proc_int32_t)step.code_point, points + count,
                                                         DECOMPOSED_MAX, UTF8PROC_DECOMPOSE, &boundary);
        CHECK(added >= 0 && added <= DECOMPOSED_MAX);
        count += (size_t)added;
        i += step.bytes;
    }
    return count;
}

static enum sluice_status append_normalised(struct text_buffer *out, const uint8_t *text, size_t bytes)
{
    int32_t *points = mem_alloc(bytes, DECOMPOSED_MAX * sizeof *points);
    if (!points)
        return SLUICE_ERR_MEMORY;
    enum sluice_status status;
    size_t count = decompose(text, bytes, points);
    TRY(order_marks(points, count));
    utf8proc_ssize_t composed =
        utf8proc_normalize_utf32(points, (utf8proc_ssize_t)count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    CHECK(composed >= 0);
    TRY(text_buffer_reserve(out, (size_t)composed * 4));
    for (utf8proc_ssize_t i = 0; i < composed; i++)
        out->bytes += utf8_put((uint32_t)points[i], (uint8_t *)out->data + out->bytes);
fail:
    mem_free(points);
    return status;
}

// Whether nothing before `code_point` can affect it or be affected by it. Characters that combine with an earlier one
// are marks, Hangul jamo or, so far only between U+10000 and U+1F000, letters.
static bool is_safe_start(uint32_t code_point)
{
    if ((code_point >= 0x1100 && code_point < 0x1200) || (code_point >= 0x10000 && code_point < 0x1F000))
        return false;
    const utf8proc_property_t *property = utf8proc_get_property((utf8proc_int32_t)code_point);
    return property->combining_class == 0 && property->category != UTF8PROC_CATEGORY_MN &&
           property->category != UTF8PROC_CATEGORY_MC && property->category != UTF8PROC_CATEGORY_ME;
}

// Normalises a stretch in chunks, because the decomposed form takes sixteen times the memory.
static enum sluice_status append_stretch(struct text_buffer *out, const uint8_t *text, size_t bytes)
{
    size_t start = 0;
    for (size_t i = 0; i < bytes;) {
        struct utf8_step step = utf8_next(text + i, bytes - i);
        if (i - start >= CHUNK_BYTES && is_safe_start(step.code_point)) {
            if (append_normalised(out, text + start, i - start) < 0)
                return SLUICE_ERR_MEMORY;
            start = i;
        }
        i += step.bytes;
    }
    return append_normalised(out, text + start, bytes - start);
}

enum sluice_status nfc_append(struct text_buffer *out, const uint8_t *text, size_t bytes)
{
    size_t done = 0; // what has been appended
    for (size_t i = 0; i < bytes;) {
        if (!is_changing_lead(text[i])) {
            i++;
            continue;
        }
        size_t start = i;
        if (start > done)
            do
                start--;
            while (start > done && is_continuation(text[start]));
        size_t end = i;
        while (end < bytes && (is_changing_lead(text[end]) || is_continuation(text[end])))
            end++;
        if (text_buffer_append(out, (const char *)text + done, start - done) < 0 ||
            append_stretch(out, text + start, end - start) < 0)
            return SLUICE_ERR_MEMORY;
        i = done = end;
    }
    return text_buffer_append(out, (const char *)text + done, bytes - done);
}
