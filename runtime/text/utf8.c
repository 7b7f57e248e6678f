#include "runtime/text/utf8.h"

#include <string.h>

// Of a lead byte: how many bytes follow, and the range of the first of them (Unicode standard, table 3-7).
struct lead {
    uint32_t following;
    uint8_t low, high;
};

static struct lead lead_of(uint8_t byte)
{
    if (byte < 0xC2 || byte > 0xF4)
        return (struct lead){0};
    if (byte < 0xE0)
        return (struct lead){1, 0x80, 0xBF};
    if (byte < 0xF0)
        return (struct lead){2, byte == 0xE0 ? 0xA0 : 0x80, byte == 0xED ? 0x9F : 0xBF};
    return (struct lead){3, byte == 0xF0 ? 0x90 : 0x80, byte == 0xF4 ? 0x8F : 0xBF};
}

struct utf8_step utf8_next(const uint8_t *text, size_t count)
{
    if (text[0] < 0x80)
        return (struct utf8_step){.code_point = text[0], .bytes = 1, .valid = true};
    struct lead lead = lead_of(text[0]);
    struct utf8_step bad = {.code_point = UTF8_REPLACEMENT, .bytes = 1};
    if (lead.following == 0)
        return bad;
    uint32_t code_point = text[0] & (0x3Fu >> lead.following);
    for (uint32_t i = 1; i <= lead.following; i++) {
        bad.bytes = i;
        bad.unfinished = i >= count;
        if (bad.unfinished)
            return bad;
        uint8_t low = i == 1 ? lead.low : 0x80, high = i == 1 ? lead.high : 0xBF;
        if (text[i] < low || text[i] > high)
            return bad;
        code_point = code_point << 6 | (text[i] & 0x3Fu);
    }
    return (struct utf8_step){.code_point = code_point, .bytes = lead.following + 1, .valid = true};
}

size_t utf8_put(uint32_t code_point, uint8_t out[4])
{
    if (code_point < 0x80) {
        out[0] = (uint8_t)code_point;
        return 1;
    }
    size_t following = code_point < 0x800 ? 1 : code_point < 0x10000 ? 2 : 3;
    static const uint8_t mark[] = {0, 0xC0, 0xE0, 0xF0};
    for (size_t i = following; i > 0; i--) {
        out[i] = (uint8_t)(0x80 | (code_point & 0x3F));
        code_point >>= 6;
    }
    out[0] = (uint8_t)(mark[following] | code_point);
    return following + 1;
}

// Eight ASCII bytes at once: most text is mostly ASCII.
static bool ascii8(const uint8_t *text)
{
    uint64_t word;
    memcpy(&word, text, sizeof word);
    return (word & 0x8080808080808080u) == 0;
}

size_t utf8_valid_prefix(const uint8_t *text, size_t count)
{
    size_t i = 0;
    while (i < count) {
        if (count - i >= 8 && ascii8(text + i)) {
            i += 8;
            continue;
        }
        struct utf8_step step = utf8_next(text + i, count - i);
        if (!step.valid)
            return i;
        i += step.bytes;
    }
    return i;
}
