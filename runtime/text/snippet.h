// A short quotation of somebody else's text for an error message: control characters escaped, cut at a character.
#ifndef SLUICE_TEXT_SNIPPET_H
#define SLUICE_TEXT_SNIPPET_H

#include <stddef.h>

struct snippet {
    char text[64];
};

// Quotes the first characters of `bytes` bytes of UTF-8; "..." follows if that is not all.
struct snippet snippet_of(const char *text, size_t bytes);

#endif
