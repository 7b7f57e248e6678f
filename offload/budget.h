// Memory budgets: what is planned for one place (VRAM, RAM), item by item, against a limit. Only arithmetic and
// messages; overflowing sums are refused as too large.
//
// Sizes as users write them: a number, optionally with a fraction, and a unit: B, K/KiB, M/MiB, G/GiB, T/TiB (powers of
// 1024) or KB, MB, GB, TB (powers of 1000); case does not matter, no unit means bytes.
#ifndef SLUICE_OFFLOAD_BUDGET_H
#define SLUICE_OFFLOAD_BUDGET_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

// "10G", "512M", "1.5GiB". SLUICE_ERR_ARGUMENT with a message otherwise, also for anything above 2^63 - 1 bytes.
enum sluice_status size_parse(const char *text, uint64_t *bytes);

// "1.5 GiB", "432.0 KiB", "17 B". Returns `out`.
enum { SIZE_TEXT_BYTES = 24 };
char *size_format(uint64_t bytes, char out[SIZE_TEXT_BYTES]);

enum { BUDGET_ITEMS_MAX = 32 };

struct budget_item {
    const char *name; // not copied
    uint64_t bytes;
};

struct budget {
    const char *place;  // "VRAM", not copied
    const char *option; // what the user can change: "--vram"; NULL: nothing. Not copied
    const char *remedy; // what to say instead of "raise <option>" where it does not fit; NULL: that. Not copied
    uint64_t limit_bytes;
    struct budget_item items[BUDGET_ITEMS_MAX];
    uint32_t item_count;
};

void budget_init(struct budget *b, const char *place, const char *option, uint64_t limit_bytes);

// Adds to the item of that name, or a new one. More than BUDGET_ITEMS_MAX names is our own bug (checked).
void budget_add(struct budget *b, const char *name, uint64_t bytes);

// Sum of the items; UINT64_MAX if it does not fit 64 bits.
uint64_t budget_used_bytes(const struct budget *b);

// limit - used, or 0.
uint64_t budget_left_bytes(const struct budget *b);

// OK, or SLUICE_ERR_BUDGET with: place, needed, limit, what is missing, and the items from the largest down.
enum sluice_status budget_check(const struct budget *b);

// How many units of unit_bytes (> 0) fit in what is left, at most `wanted`.
uint64_t budget_fit(const struct budget *b, uint64_t unit_bytes, uint64_t wanted);

// Like budget_check for `wanted` units on top of the items ("tokens of context" of 24 KiB each): the message also says
// the largest number that fits, rounded down to a multiple of `step` (>= 1), or that not even `least` do.
enum sluice_status budget_check_units(const struct budget *b, const char *noun, uint64_t unit_bytes, uint64_t wanted,
                                      uint64_t least, uint64_t step);

#endif
