// The pre-tokenizer: a regular expression that cuts text into words, run by PCRE2.
//
// The files' expressions are written for Oniguruma with the character tables of Unicode 16. They mean the same here
// after two changes that are made before compiling: \s (and \S outside brackets) is the property White_Space, because
// PCRE2's includes U+180E; and \p{L}, \p{N} and \p{M} get the characters that older versions of PCRE2 do not know yet.
#ifndef SLUICE_TEXT_SPLITTER_H
#define SLUICE_TEXT_SPLITTER_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

struct splitter;

// Compiles `pattern` (UTF-8), with machine code where the system allows it.
// Errors: UNSUPPORTED (PCRE2 rejects the expression: says why and where), MEMORY.
enum sluice_status splitter_create(const char *pattern, size_t bytes, struct splitter **splitter);

// NULL is allowed.
void splitter_destroy(struct splitter *splitter);

// One running cut of one text. A splitter may serve any number of them at once.
struct splitter_run {
    const struct splitter *splitter;
    struct pcre2_real_match_data_8 *match;
    struct pcre2_real_match_context_8 *context;
    const uint8_t *text; // borrowed
    size_t bytes;
    size_t done;        // words up to here were given out
    size_t search;      // where to look for the next match
    size_t match_start; // the match that was found but follows an unmatched stretch that is a word itself
    size_t match_end;
    uint32_t match_limit; // steps that PCRE2 may need for one match
};

// Errors: MEMORY.
enum sluice_status splitter_run_init(struct splitter_run *run, const struct splitter *splitter);

void splitter_run_finish(struct splitter_run *run);

// Begins with a text: valid UTF-8, borrowed until the last word was taken.
void splitter_run_start(struct splitter_run *run, const uint8_t *text, size_t bytes);

// The next word [*start, *end) of the text, never empty; PENDING when there are no more. Matches and what lies between
// them are words alike ("Isolated" in the files), so that all words together are the text. Errors: UNSUPPORTED (the
// expression needs too many steps on this text), MEMORY.
enum sluice_status splitter_run_next(struct splitter_run *run, size_t *start, size_t *end);

#endif
