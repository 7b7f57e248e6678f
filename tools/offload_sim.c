// `offload_sim TRACE`: what caches of other sizes and policies would have hit of a recorded trace.

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "offload/simulate.h"
#include "runtime/base/mem.h"
#include "tools/cli.h"

enum { SIZES_MAX = 32 };

// A list of cache sizes as given: "12%", "3000" (slots), "6G" (bytes).
struct size_list {
    struct size {
        enum { SIZE_PERCENT, SIZE_SLOTS, SIZE_BYTES } unit;
        double value;
    } items[SIZES_MAX];
    uint32_t count;
};

static bool parse_size_item(const char *text, struct size *size)
{
    char *end;
    uint64_t bytes;
    size->value = isdigit((unsigned char)*text) ? strtod(text, &end) : -1;
    if (size->value < 0)
        return false;
    size->unit = strcmp(end, "%") == 0 ? SIZE_PERCENT : *end ? SIZE_BYTES : SIZE_SLOTS;
    if (size->unit == SIZE_PERCENT)
        return size->value <= 100;
    if (size->unit == SIZE_SLOTS)
        return size->value < UINT32_MAX;
    bool valid = cli_parse_size(text, &bytes) == SLUICE_OK;
    size->value = (double)bytes;
    return valid;
}

static enum sluice_status parse_sizes(const char *text, void *target)
{
    struct size_list *list = target;
    char item[32];
    list->count = 0;
    for (const char *at = text; list->count < SIZES_MAX; at++) {
        size_t length = strcspn(at, ",");
        snprintf(item, sizeof item, "%.*s", (int)length, at);
        if (length >= sizeof item || !parse_size_item(item, &list->items[list->count++]))
            break;
        at += length;
        if (*at == '\0')
            return SLUICE_OK;
    }
    return error_set(SLUICE_ERR_ARGUMENT, "\"%s\" is no list of up to %d sizes such as 12%%,25%%,3000,6G", text,
                     SIZES_MAX);
}

static enum sluice_status to_slots(const struct sim_trace *trace, const struct size *size, uint32_t *slots)
{
    double experts = (double)trace->layers * trace->shape.expert_count, value = size->value;
    if (size->unit == SIZE_BYTES && trace->shape.expert_bytes == 0)
        return error_set(SLUICE_ERR_ARGUMENT, "the trace does not say how large an expert is: give sizes in slots");
    if (size->unit == SIZE_BYTES)
        value /= trace->shape.expert_bytes;
    if (size->unit == SIZE_PERCENT)
        value = experts * value / 100 + 0.5;
    *slots = (uint32_t)(value < experts ? value : experts); // more slots than experts are of no use
    return SLUICE_OK;
}

// --- output ---------------------------------------------------------------------------------------------------------

struct report {
    const struct sim_trace *trace;
    bool unified;
    bool as_csv;
};

static double share(uint64_t part, uint64_t all)
{
    return all ? (double)part / (double)all : 0;
}

static void print_head(const struct report *r)
{
    const struct sim_trace *t = r->trace;
    if (r->as_csv) {
        puts("policy,device_slots,ram_slots,uses,hit_device,hit_ram,miss,misses_per_step,bytes_per_step");
        return;
    }
    printf("trace   %u layers with %u experts each, %s each; %u steps of decoding counted\n\n", t->layers,
           t->shape.expert_count, t->shape.expert_bytes ? cli_bytes(t->shape.expert_bytes) : "unknown size", t->steps);
    printf("%-10s %8s %8s %9s %9s %9s %12s %12s\n", "", "device", "RAM", "hit %", "hit %", "", "misses", "read");
    printf("%-10s %8s %8s %9s %9s %9s %12s %12s\n", "policy", "slots", "slots", "device", "RAM", "miss %", "per step",
           "per step");
}

static void print_row(const struct report *r, const char *policy, uint32_t device_slots, uint32_t ram_slots,
                      const struct sim_counts *c)
{
    uint64_t misses = c->uses - c->hits_device - c->hits_host;
    double per_step = r->trace->steps ? (double)misses / r->trace->steps : 0;
    double bytes = per_step * r->trace->shape.expert_bytes;
    if (r->as_csv)
        printf("%s,%u,%u,%" PRIu64 ",%.5f,%.5f,%.5f,%.2f,%.0f\n", policy, device_slots, ram_slots, c->uses,
               share(c->hits_device, c->uses), share(c->hits_host, c->uses), share(misses, c->uses), per_step, bytes);
    else
        printf("%-10s %8u %8u %9.2f %9.2f %9.2f %12.2f %12s\n", policy, device_slots, ram_slots,
               100 * share(c->hits_device, c->uses), 100 * share(c->hits_host, c->uses), 100 * share(misses, c->uses),
               per_step, cli_bytes((uint64_t)bytes));
}

// --- all policies ---------------------------------------------------------------------------------------------------

static enum sluice_status simulate_plain(const struct report *r, const uint32_t *slots, uint32_t count)
{
    enum sluice_status status;
    struct sim_counts lru[SIZES_MAX], per_layer[SIZES_MAX], optimum;
    TRY(sim_lru(r->trace, false, slots, count, lru));
    TRY(sim_lru(r->trace, true, slots, count, per_layer));
    for (uint32_t i = 0; i < count; i++) {
        print_row(r, "lru", slots[i], 0, &lru[i]);
        print_row(r, "lru-layer", slots[i], 0, &per_layer[i]);
        TRY(sim_optimum(r->trace, slots[i], &optimum));
        print_row(r, "optimum", slots[i], 0, &optimum);
    }
fail:
    return status;
}

static enum sluice_status simulate_engine(const struct report *r, const uint32_t *slots, uint32_t count, uint32_t ram)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct sim_places places = {.device_slots = slots[i], .host_slots = ram, .unified = r->unified};
        struct sim_counts counts;
        enum sluice_status status = sim_engine(r->trace, &places, &counts);
        if (status < 0)
            return status;
        print_row(r, "engine", slots[i], ram, &counts);
    }
    return SLUICE_OK;
}

static enum sluice_status simulate(const struct report *r, const struct size_list *sizes, const struct size_list *rams)
{
    enum sluice_status status;
    uint32_t slots[SIZES_MAX];
    for (uint32_t i = 0; i < sizes->count; i++) {
        TRY(to_slots(r->trace, &sizes->items[i], &slots[i]));
        if (slots[i] == 0)
            TRY(error_set(SLUICE_ERR_ARGUMENT, "--slots: size %u of the list is less than one slot", i + 1));
    }
    print_head(r);
    TRY(simulate_plain(r, slots, sizes->count));
    TRY(simulate_engine(r, slots, sizes->count, 0));
    for (uint32_t i = 0; i < rams->count; i++) {
        uint32_t ram = 0;
        TRY(to_slots(r->trace, &rams->items[i], &ram));
        if (ram)
            TRY(simulate_engine(r, slots, sizes->count, ram));
    }
fail:
    return status;
}

int main(int argc, char **argv)
{
    struct size_list sizes = {.items = {{SIZE_PERCENT, 12}, {SIZE_PERCENT, 25}, {SIZE_PERCENT, 42}}, .count = 3};
    struct size_list rams = {.count = 0};
    struct sim_trace trace = {0};
    struct report report = {.trace = &trace};
    const char *path;
    int exit_status;
    const struct cli_option options[] = {
        {"slots", 0, "LIST", "sizes of the device's cache; default 12%,25%,42%", parse_sizes, &sizes},
        {"ram", 0, "LIST", "sizes of a cache in main memory below it; default none", parse_sizes, &rams},
        {"unified", 0, NULL, "device and main memory are one: the engine's cache is one pool of slots and RAM",
         cli_parse_flag, &report.unified},
        {"csv", 0, NULL, "comma-separated values, shares instead of percent", cli_parse_flag, &report.as_csv},
    };
    const struct cli_command command = {
        "offload_sim",
        "TRACE [OPTIONS]",
        "Says what caches of experts would have hit while the trace (of `sluice bench --trace`) was recorded. A size "
        "is a\n"
        "share of all experts (12%), a number of slots (3000), or an amount of memory (6G). Policies: lru, one list "
        "for\n"
        "all layers; lru-layer, one for each, of equal size; optimum, which knows the future (Belady); engine, what\n"
        "sluice itself does (with --unified all its hits are the device's). Caches are empty at the trace's beginning\n"
        "and see all of it, what was recorded as warming\n"
        "up counts neither as hit nor as miss. Prompts pass by the caches, as they do in sluice.",
        options,
        sizeof options / sizeof *options,
        1,
        1,
    };
    cli_set_standalone();
    if (!cli_parse(&command, argc, argv, &path, &exit_status))
        return exit_status;
    cli_log_start(false);
    enum sluice_status status = sim_trace_load(path, &trace);
    if (status == SLUICE_OK && trace.steps == 0)
        status = error_set(SLUICE_ERR_FORMAT, "%s: nothing was decoded in this trace", path);
    if (status == SLUICE_OK)
        status = simulate(&report, &sizes, &rams);
    sim_trace_finish(&trace);
    exit_status = status < 0 ? cli_fail(status) : CLI_OK;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return exit_status;
    fprintf(stderr, "sluice: cannot write the output\n");
    return exit_status ? exit_status : CLI_FAILED;
}
