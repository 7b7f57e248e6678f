#include "offload/budget.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "runtime/base/check.h"
#include "runtime/base/integer.h"

static const struct size_unit {
    const char *name;
    uint64_t bytes;
} size_units[] = {
    {"", 1},
    {"B", 1},
    {"K", 1u << 10},
    {"KiB", 1u << 10},
    {"KB", 1000},
    {"M", 1u << 20},
    {"MiB", 1u << 20},
    {"MB", 1000000},
    {"G", 1u << 30},
    {"GiB", 1u << 30},
    {"GB", 1000000000},
    {"T", UINT64_C(1) << 40},
    {"TiB", UINT64_C(1) << 40},
    {"TB", UINT64_C(1000000000000)},
};

static const struct size_unit *find_unit(const char *name)
{
    for (size_t i = 0; i < sizeof size_units / sizeof *size_units; i++)
        if (strcasecmp(size_units[i].name, name) == 0)
            return &size_units[i];
    return NULL;
}

// Digits at *text; false on overflow. Steps over them.
static bool take_digits(const char **text, uint64_t *value)
{
    *value = 0;
    for (; **text >= '0' && **text <= '9'; (*text)++)
        if (__builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, (uint64_t)(**text - '0'), value))
            return false;
    return true;
}

// The fraction after the point in units of 1/1,000,000; further digits are dropped.
static uint64_t take_millionths(const char **text)
{
    uint64_t value = 0, weight = 100000;
    for (; **text >= '0' && **text <= '9'; (*text)++, weight /= 10)
        value += (uint64_t)(**text - '0') * weight;
    return value;
}

enum sluice_status size_parse(const char *text, uint64_t *bytes)
{
    const char *cursor = text;
    uint64_t whole, millionths = 0, total;
    bool fits = take_digits(&cursor, &whole);
    bool has_digits = cursor != text;
    if (fits && has_digits && *cursor == '.') {
        cursor++;
        millionths = take_millionths(&cursor);
    }
    const struct size_unit *unit = fits ? find_unit(cursor + strspn(cursor, " ")) : &size_units[0];
    if (!has_digits || !unit)
        return error_set(SLUICE_ERR_ARGUMENT, "'%s' is not a size; write for example 512M, 10G or 1.5GiB", text);
    // The fraction's product stays below 2^60: it is less than 10^6 times at most 2^40.
    if (!fits || __builtin_mul_overflow(whole, unit->bytes, &total) ||
        __builtin_add_overflow(total, millionths * unit->bytes / 1000000, &total) || total > INT64_MAX)
        return error_set(SLUICE_ERR_ARGUMENT, "'%s' is too large for a size", text);
    *bytes = total;
    return SLUICE_OK;
}

char *size_format(uint64_t bytes, char out[SIZE_TEXT_BYTES])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1023.95; unit++) // what would be printed as 1024.0
        value /= 1024;
    snprintf(out, SIZE_TEXT_BYTES, "%.*f %s", unit ? 1 : 0, value, units[unit]);
    return out;
}

void budget_init(struct budget *b, const char *place, const char *option, uint64_t limit_bytes)
{
    *b = (struct budget){.place = place, .option = option, .limit_bytes = limit_bytes};
}

void budget_add(struct budget *b, const char *name, uint64_t bytes)
{
    uint32_t i = 0;
    while (i < b->item_count && strcmp(b->items[i].name, name) != 0)
        i++;
    if (i == b->item_count) {
        CHECK(b->item_count < BUDGET_ITEMS_MAX);
        b->items[b->item_count++] = (struct budget_item){.name = name};
    }
    b->items[i].bytes = u64_add(b->items[i].bytes, bytes);
}

uint64_t budget_used_bytes(const struct budget *b)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < b->item_count; i++)
        sum = u64_add(sum, b->items[i].bytes);
    return sum;
}

uint64_t budget_left_bytes(const struct budget *b)
{
    uint64_t used = budget_used_bytes(b);
    return used < b->limit_bytes ? b->limit_bytes - used : 0;
}

uint64_t budget_fit(const struct budget *b, uint64_t unit_bytes, uint64_t wanted)
{
    CHECK(unit_bytes > 0);
    uint64_t fitting = budget_left_bytes(b) / unit_bytes;
    return fitting < wanted ? fitting : wanted;
}

// ": trunk 2.2 GiB, KV cache 1.6 GiB, ...", the largest first.
static void list_items(const struct budget *b, char *out, size_t out_bytes)
{
    bool listed[BUDGET_ITEMS_MAX] = {false};
    size_t used = 0;
    for (uint32_t n = 0; n < b->item_count && used < out_bytes; n++) {
        uint32_t largest = BUDGET_ITEMS_MAX;
        for (uint32_t i = 0; i < b->item_count; i++)
            if (!listed[i] && (largest == BUDGET_ITEMS_MAX || b->items[i].bytes > b->items[largest].bytes))
                largest = i;
        listed[largest] = true;
        char size[SIZE_TEXT_BYTES];
        used += (size_t)snprintf(out + used, out_bytes - used, "%s%s %s", n ? ", " : "", b->items[largest].name,
                                 size_format(b->items[largest].bytes, size));
    }
}

// The common beginning of a refusal, in which `advice` is the end.
static enum sluice_status refuse(const struct budget *b, uint64_t needed_bytes, const char *advice)
{
    char items[512] = "", needed[SIZE_TEXT_BYTES], limit[SIZE_TEXT_BYTES], missing[SIZE_TEXT_BYTES];
    list_items(b, items, sizeof items);
    return error_set(SLUICE_ERR_BUDGET, "%s: %s needed, %s allowed%s%s, %s too much (%s)%s", b->place,
                     size_format(needed_bytes, needed), size_format(b->limit_bytes, limit), b->option ? " by " : "",
                     b->option ? b->option : "", size_format(needed_bytes - b->limit_bytes, missing), items, advice);
}

enum sluice_status budget_check(const struct budget *b)
{
    char advice[192] = "";
    uint64_t used = budget_used_bytes(b);
    if (used <= b->limit_bytes)
        return SLUICE_OK;
    if (b->remedy)
        snprintf(advice, sizeof advice, "; %s", b->remedy);
    else if (b->option)
        snprintf(advice, sizeof advice, "; raise %s", b->option);
    return refuse(b, used, advice);
}

enum sluice_status budget_check_units(const struct budget *b, const char *noun, uint64_t unit_bytes, uint64_t wanted,
                                      uint64_t least, uint64_t step)
{
    CHECK(step > 0);
    uint64_t fitting = budget_fit(b, unit_bytes, wanted);
    if (fitting == wanted && budget_used_bytes(b) <= b->limit_bytes)
        return SLUICE_OK;
    char advice[256];
    struct budget with_units = *b;
    uint64_t bytes;
    if (__builtin_mul_overflow(unit_bytes, wanted, &bytes))
        bytes = UINT64_MAX;
    if (with_units.item_count < BUDGET_ITEMS_MAX)
        budget_add(&with_units, noun, bytes);
    fitting -= fitting % step;
    if (fitting >= least && fitting > 0)
        snprintf(advice, sizeof advice, "; possible are at most %" PRIu64 " %s", fitting, noun);
    else
        snprintf(advice, sizeof advice, "; not even %" PRIu64 " %s fit%s%s%s", least, noun,
                 b->remedy || b->option ? ": " : "", !b->remedy && b->option ? "raise " : "",
                 b->remedy   ? b->remedy
                 : b->option ? b->option
                             : "");
    return refuse(&with_units, u64_add(budget_used_bytes(b), bytes), advice);
}
