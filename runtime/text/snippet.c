#include "runtime/text/snippet.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "runtime/text/utf8.h"

struct snippet snippet_of(const char *text, size_t bytes)
{
    struct snippet result;
    size_t used = 0;
    for (size_t i = 0; i < bytes;) {
        struct utf8_step step = utf8_next((const uint8_t *)text + i, bytes - i);
        if (used + sizeof "\\u0000..." > sizeof result.text) {
            memcpy(result.text + used, "...", 3);
            used += 3;
            break;
        }
        if (step.code_point < 0x20 || (step.code_point >= 0x7F && step.code_point < 0xA0))
            used += (size_t)snprintf(result.text + used, sizeof result.text - used, "\\u%04x", step.code_point);
        else
            used += utf8_put(step.code_point, (uint8_t *)result.text + used);
        i += step.bytes;
    }
    result.text[used] = '\0';
    return result;
}
