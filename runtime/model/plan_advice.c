#include "runtime/model/plan_advice.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/integer.h"

enum { CONTEXT_STEP = 1024 };

// The largest capacity below the present one, in steps, with which the least number of slots fits; 0: none.
static uint32_t context_fitting(const struct sluice_engine *e, uint64_t trunk, uint64_t limit)
{
    uint32_t low = 0, high = (e->model.context_tokens - 1) / CONTEXT_STEP; // steps; low fits (or is none)
    while (low < high) {
        uint32_t middle = (low + high + 1) / 2;
        struct plan_sizes s = {.trunk = trunk};
        bool fits = plan_sizes_measure(e, middle * CONTEXT_STEP, &s) == SLUICE_OK &&
                    plan_sizes_device(&s, e->options.sessions) + plan_slots_least(e) <= limit;
        if (fits)
            low = middle;
        else
            high = middle - 1;
    }
    return low * CONTEXT_STEP;
}

static uint32_t sessions_fitting(const struct sluice_engine *e, const struct plan_sizes *s, uint64_t limit)
{
    uint32_t sessions = e->options.sessions - 1;
    while (sessions > 0 && plan_sizes_device(s, sessions) + plan_slots_least(e) > limit)
        sessions--;
    return sessions;
}

void plan_format_option(uint64_t bytes, char *out, size_t out_bytes)
{
    const uint64_t mebibyte = 1 << 20, gibibyte = 1 << 30;
    if (bytes > UINT64_MAX / 16)
        snprintf(out, out_bytes, "%" PRIu64, bytes);
    else if (bytes < gibibyte)
        snprintf(out, out_bytes, "%" PRIu64 "M", u64_divide_up(bytes, mebibyte));
    else
        snprintf(out, out_bytes, "%.1fG", (double)u64_divide_up(bytes * 10, gibibyte) / 10);
}

static void add_choice(char *out, size_t out_bytes, const char *choice)
{
    size_t used = strlen(out);
    snprintf(out + used, out_bytes - used, "%s%s", used ? " or " : "try ", choice);
}

void plan_advise(const struct sluice_engine *e, const struct plan_sizes *sizes, uint64_t trunk, uint64_t limit,
                 uint64_t most, char *out, size_t out_bytes)
{
    char choice[64] = "--vram ";
    uint64_t needed = sizes ? plan_sizes_device(sizes, e->options.sessions) + plan_slots_least(e) : UINT64_MAX;
    uint32_t context = context_fitting(e, trunk, limit), sessions = sizes ? sessions_fitting(e, sizes, limit) : 0;
    *out = '\0';
    if (needed <= most) {
        plan_format_option(needed, choice + 7, sizeof choice - 7);
        add_choice(out, out_bytes, choice);
    }
    if (context > 0) {
        snprintf(choice, sizeof choice, "--ctx %u", context);
        add_choice(out, out_bytes, choice);
    }
    if (sessions > 0) {
        snprintf(choice, sizeof choice, "--sessions %u", sessions);
        add_choice(out, out_bytes, choice);
    }
    if (!*out && e->options.sessions > 1)
        snprintf(out, out_bytes, "choose a smaller --ctx and fewer --sessions");
    else if (!*out)
        snprintf(out, out_bytes, "no --ctx makes it fit on this device");
}
