// Where an answer ends: stop ids and stop strings.
//
// Stop strings are looked for in the text across the borders of its pieces. What may still become a stop string is held
// back; of a stop string that was found nothing is ever emitted. The match that ends first counts, the longest of those
// that end at the same byte. The result does not depend on how the text is cut into pieces.
#ifndef SLUICE_TEXT_STOP_H
#define SLUICE_TEXT_STOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

struct stop;

// `strings` (NUL-terminated, copied) and `ids` may be NULL if their count is 0.
// Errors: ARGUMENT (an empty string), MEMORY. One thread at a time.
enum sluice_status stop_create(const char *const *strings, size_t string_count, const int32_t *ids, size_t id_count,
                               struct stop **stop);

// NULL is allowed.
void stop_destroy(struct stop *stop);

// Whether `id` ends the answer; its text is then not part of it.
bool stop_is_id(const struct stop *stop, int32_t id);

// Takes the next piece of text. `*out`: what is certainly part of the answer, valid until the next call; `*found`: the
// index of the stop string that was found, or -1. After a match all further text is swallowed.
// Errors: MEMORY.
enum sluice_status stop_push(struct stop *stop, const char *text, size_t bytes, const char **out, size_t *out_bytes,
                             int *found);

// The answer ended otherwise: what was held back. Afterwards `stop` is ready for a new answer.
void stop_finish(struct stop *stop, const char **out, size_t *out_bytes);

#endif
