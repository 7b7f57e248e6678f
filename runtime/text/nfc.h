// Unicode normalisation form C (UAX #15) in linear time, whatever the text contains.
#ifndef SLUICE_TEXT_NFC_H
#define SLUICE_TEXT_NFC_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/text/text_buffer.h"

// Appends the NFC form of `bytes` bytes of valid UTF-8 to `out`. Errors: MEMORY.
enum sluice_status nfc_append(struct text_buffer *out, const uint8_t *text, size_t bytes);

#endif
