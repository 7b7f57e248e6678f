// Simulated caches against their definitions, on small traces.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "container_sample.h"
#include "offload/simulate.h"
#include "runtime/base/mem.h"
#include "runtime/base/random.h"

enum { LAYERS = 3, EXPERTS = 4, KEYS = LAYERS * EXPERTS, RECORDS_MAX = 64 };

static char folder[64], path[96];

static int set_up(void **state)
{
    (void)state;
    folder_create(folder, true);
    snprintf(path, sizeof path, "%s/trace", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

// A set of experts as bits: layer * EXPERTS + expert.
struct made_record {
    uint32_t set;
    bool sweep;
};

struct made_trace {
    struct made_record records[RECORDS_MAX];
    uint32_t count, counted_from;
    struct sim_trace loaded;
};

static uint32_t bits(uint32_t set)
{
    return (uint32_t)__builtin_popcount(set);
}

// Steps of one record per layer; layer 1 has no experts now and then. `sweeps`: every fifth step is a prompt.
static void make_trace(struct made_trace *t, uint64_t seed, uint32_t count, uint32_t experts_max, bool sweeps)
{
    uint64_t random = seed;
    struct trace_writer *w;
    struct trace_shape shape = {LAYERS, EXPERTS, 100};
    *t = (struct made_trace){.count = count, .counted_from = (uint32_t)(random_next(&random) % (count / 2))};
    assert_int_equal(trace_create(path, &shape, &w), SLUICE_OK);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t layer = i % LAYERS, wanted = 1 + (uint32_t)(random_next(&random) % experts_max), n = 0, set = 0;
        uint16_t experts[EXPERTS];
        while (n < wanted) {
            uint32_t expert = (uint32_t)(random_next(&random) % EXPERTS * (random_next(&random) % 3) / 2);
            if (set >> expert & 1)
                continue;
            set |= 1u << expert;
            experts[n++] = (uint16_t)expert;
        }
        t->records[i] = (struct made_record){set << layer * EXPERTS, sweeps && i / LAYERS % 5 == 4};
        if (i == t->counted_from)
            trace_append(w, &(struct trace_record){.step = i / LAYERS, .kind = TRACE_MARK});
        trace_append(
            w, &(struct trace_record){i / LAYERS, layer, t->records[i].sweep ? TRACE_SWEEP : TRACE_DECODE, n, experts});
    }
    assert_int_equal(trace_finish(w), SLUICE_OK);
    assert_int_equal(sim_trace_load(path, &t->loaded), SLUICE_OK);
    assert_int_equal(t->loaded.layers, LAYERS);
}

enum { LETTERS = 8 };

// One record of layer 0; experts are letters.
static void append(struct trace_writer *w, uint32_t step, enum trace_kind kind, const char *experts)
{
    uint16_t list[LETTERS];
    uint32_t count = 0;
    for (; experts[count]; count++)
        list[count] = (uint16_t)(experts[count] - 'a');
    trace_append(w, &(struct trace_record){step, 0, kind, count, list});
}

// Hits of all caches of `slots` slots for a decode of one expert each, after a prompt and what it keeps.
static void hits_after_prompt(const char *kept, const char *decoded, uint32_t slots, struct sim_counts counts[3])
{
    struct trace_writer *w;
    struct sim_trace t;
    assert_int_equal(trace_create(path, &(struct trace_shape){1, LETTERS, 100}, &w), SLUICE_OK);
    append(w, 0, TRACE_KEEP, kept);
    append(w, 0, TRACE_SWEEP, "abcdefgh");
    trace_append(w, &(struct trace_record){.step = 1, .kind = TRACE_MARK});
    for (uint32_t i = 0; decoded[i]; i++)
        append(w, 1 + i, TRACE_DECODE, (char[]){decoded[i], 0});
    assert_int_equal(trace_finish(w), SLUICE_OK);
    assert_int_equal(sim_trace_load(path, &t), SLUICE_OK);
    assert_int_equal(sim_lru(&t, false, &slots, 1, &counts[0]), SLUICE_OK);
    assert_int_equal(sim_optimum(&t, slots, &counts[1]), SLUICE_OK);
    assert_int_equal(sim_engine(&t, &(struct sim_places){.device_slots = slots}, &counts[2]), SLUICE_OK);
    sim_trace_finish(&t);
}

// The simulated hit rate of an answer would ignore what the engine keeps of the prompt before it.
static void a_prompts_end_fills_the_caches(void **state)
{
    (void)state;
    struct sim_counts counts[3];
    hits_after_prompt("cab", "cab", 6, counts); // the engine keeps half of its slots for what passes through
    for (int i = 0; i < 3; i++) {
        assert_int_equal(counts[i].uses, 3);
        assert_int_equal(counts[i].hits_device, 3);
    }
    hits_after_prompt("cabd", "d", 3, counts); // the least used of four
    assert_int_equal(counts[0].hits_device, 0);
    assert_int_equal(counts[1].hits_device, 1);
    hits_after_prompt("cabd", "c", 3, counts);
    assert_int_equal(counts[0].hits_device, 1);
    assert_int_equal(counts[2].hits_device, 1);
}

// --- LRU ------------------------------------------------------------------------------------------------------------

// A list, hottest first.
struct lru_list {
    uint32_t slots, count, keys[KEYS];
};

// Moves `key` to the front; the list may be longer than its slots now.
static void lru_put(struct lru_list *l, uint32_t key)
{
    uint32_t at = 0;
    while (at < l->count && l->keys[at] != key)
        at++;
    l->count += at == l->count;
    memmove(&l->keys[1], &l->keys[0], at * sizeof *l->keys);
    l->keys[0] = key;
}

// Uses one record: looks all of it up, then loads.
static void lru_use(struct lru_list *l, const struct sim_trace *t, const struct sim_record *r, bool counted,
                    struct sim_counts *counts)
{
    const uint32_t *experts = &t->experts[r->first];
    for (uint32_t i = 0; i < r->count; i++) {
        bool hit = false;
        for (uint32_t j = 0; j < l->count; j++)
            hit |= l->keys[j] == experts[i];
        counts->uses += counted;
        counts->hits_device += counted && hit;
    }
    for (uint32_t i = 0; i < r->count; i++)
        lru_put(l, experts[i]);
    l->count = l->count < l->slots ? l->count : l->slots;
}

static struct sim_counts brute_lru(const struct made_trace *t, bool per_layer, uint32_t slots)
{
    struct lru_list lists[LAYERS] = {0};
    struct sim_counts counts = {0};
    for (uint32_t i = 0; i < LAYERS; i++)
        lists[i].slots = per_layer ? slots / LAYERS + (i < slots % LAYERS) : slots;
    for (uint32_t i = 0; i < t->count; i++) {
        const struct sim_record *r = &t->loaded.records[i];
        if (!t->records[i].sweep)
            lru_use(&lists[per_layer ? r->layer : 0], &t->loaded, r, i >= t->counted_from, &counts);
    }
    return counts;
}

static void require_equal(struct sim_counts a, struct sim_counts b)
{
    assert_int_equal(a.uses, b.uses);
    assert_int_equal(a.hits_device, b.hits_device);
    assert_int_equal(a.hits_host, b.hits_host);
}

// If this fails, a policy is chosen, or a memory bought, by figures of a cache that does not exist.
static void lru_is_lru_at_all_sizes(void **state)
{
    (void)state;
    uint32_t slots[KEYS + 2];
    struct sim_counts counts[KEYS + 2];
    for (uint32_t i = 0; i < KEYS + 2; i++)
        slots[i] = i;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct made_trace t;
        make_trace(&t, seed, 40, 3, seed % 2);
        for (int per_layer = 0; per_layer < 2; per_layer++) {
            assert_int_equal(sim_lru(&t.loaded, per_layer, slots, KEYS + 2, counts), SLUICE_OK);
            for (uint32_t i = 0; i < KEYS + 2; i++)
                require_equal(counts[i], brute_lru(&t, per_layer, i));
        }
        sim_trace_finish(&t.loaded);
    }
}

// --- optimum --------------------------------------------------------------------------------------------------------

// Fewest loads over all choices: least[set] is how few counted loads lead to this content of the cache.
static struct sim_counts brute_optimum(const struct made_trace *t, uint32_t slots)
{
    static uint32_t least[1 << KEYS], next[1 << KEYS];
    uint64_t uses = 0;
    memset(least, 0xFF, sizeof least);
    least[0] = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        uint32_t wanted = t->records[i].set, best = UINT32_MAX;
        if (t->records[i].sweep)
            continue;
        uses += i >= t->counted_from ? bits(wanted) : 0;
        memset(next, 0xFF, sizeof next);
        for (uint32_t set = 0; set < 1u << KEYS; set++) {
            if (least[set] == UINT32_MAX)
                continue;
            uint32_t loads = least[set] + (i >= t->counted_from ? bits(wanted & ~set) : 0), old = set & ~wanted;
            for (uint32_t kept = old;; kept = (kept - 1) & old) { // all subsets
                uint32_t after = kept | wanted;
                if (bits(after) <= slots && loads < next[after])
                    next[after] = loads;
                if (kept == 0)
                    break;
            }
            best = loads < best ? loads : best;
        }
        memcpy(least, next, sizeof least);
    }
    uint32_t fewest = UINT32_MAX;
    for (uint32_t set = 0; set < 1u << KEYS; set++)
        fewest = least[set] < fewest ? least[set] : fewest;
    return (struct sim_counts){.uses = uses, .hits_device = uses - fewest};
}

// If this fails, the bound that policies are compared with is no bound.
static void optimum_loads_least(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct made_trace t;
        make_trace(&t, 100 + seed, 24, 2, seed % 2);
        t.counted_from = 0; // the optimum of all uses; of a part of them another one may be better
        t.loaded.counted_from = 0;
        for (uint32_t slots = 2; slots <= 7; slots += seed % 2 ? 1 : 2) {
            struct sim_counts counts;
            assert_int_equal(sim_optimum(&t.loaded, slots, &counts), SLUICE_OK);
            require_equal(counts, brute_optimum(&t, slots));
        }
        sim_trace_finish(&t.loaded);
    }
}

// --- the engine's own cache -----------------------------------------------------------------------------------------

// If this fails, the engine keeps other experts than an LRU cache of its size while it decodes.
static void engine_without_ram_is_lru(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct made_trace t;
        make_trace(&t, 200 + seed, 60, 3, false);
        for (uint32_t slots = 3; slots <= KEYS; slots++) {
            struct sim_counts counts;
            for (uint32_t ram = 0; ram < slots; ram++) { // one pool, however its memory is called
                struct sim_places places = {.device_slots = slots - ram, .host_slots = ram, .unified = ram > 0};
                assert_int_equal(sim_engine(&t.loaded, &places, &counts), SLUICE_OK);
                require_equal(counts, brute_lru(&t, false, slots));
            }
            assert_int_equal(
                sim_engine(&t.loaded, &(struct sim_places){.device_slots = slots, .unified = true}, &counts),
                SLUICE_OK);
            require_equal(counts, brute_lru(&t, false, slots));
        }
        sim_trace_finish(&t.loaded);
    }
}

// If this fails, main memory given to the cache is not worth what it should be: the device must hold what an LRU cache
// of its size holds, and both together about what one of both sizes less the ring of the host holds. (With slots for
// two records, one of them is in the way of the other.)
static void host_slots_serve_what_the_device_lost(void **state)
{
    (void)state;
    uint64_t without_hits = 0, with_hits = 0, both_hits = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct made_trace t;
        struct sim_counts without, with, optimum;
        make_trace(&t, 300 + seed, 60, 3, false);
        assert_int_equal(sim_engine(&t.loaded, &(struct sim_places){.device_slots = 4}, &without), SLUICE_OK);
        assert_int_equal(sim_engine(&t.loaded, &(struct sim_places){.device_slots = 4, .host_slots = 4}, &with),
                         SLUICE_OK);
        t.loaded.counted_from = 0;
        assert_int_equal(sim_optimum(&t.loaded, 8, &optimum), SLUICE_OK);
        assert_int_equal(with.uses, without.uses);
        assert_int_equal(with.hits_device, brute_lru(&t, false, 4).hits_device);
        both_hits += brute_lru(&t, false, 6).hits_device;
        assert_true(with.hits_device + with.hits_host <= with.uses);
        assert_true(without.hits_host == 0 && optimum.hits_host == 0);
        without_hits += without.hits_device;
        with_hits += with.hits_device + with.hits_host;
        sim_trace_finish(&t.loaded);
    }
    print_message("%llu hits without, %llu with host slots, %llu of an LRU cache\n", (unsigned long long)without_hits,
                  (unsigned long long)with_hits, (unsigned long long)both_hits);
    assert_true(with_hits > without_hits * 5 / 4 && with_hits > both_hits * 9 / 10);
}

// --- files ----------------------------------------------------------------------------------------------------------

// If this fails, a trace of another program, or one cut short, crashes the comparison or gives figures.
static void impossible_traces_are_refused(void **state)
{
    (void)state;
    struct sim_trace t;
    struct trace_writer *w;
    struct trace_shape shape = {2, 8, 0};
    uint16_t twice[] = {3, 3};
    assert_int_equal(sim_trace_load("/nowhere/trace", &t), SLUICE_ERR_IO);
    sim_trace_finish(&t);
    assert_int_equal(trace_create(path, &shape, &w), SLUICE_OK);
    trace_append(w, &(struct trace_record){.count = 2, .experts = twice});
    assert_int_equal(trace_finish(w), SLUICE_OK);
    assert_int_equal(sim_trace_load(path, &t), SLUICE_ERR_FORMAT);
    assert_non_null(strstr(error_message(), "twice"));
    sim_trace_finish(&t);
    struct trace_shape large = {65536, 65536, 0};
    assert_int_equal(trace_create(path, &large, &w), SLUICE_OK);
    assert_int_equal(trace_finish(w), SLUICE_OK);
    assert_int_equal(sim_trace_load(path, &t), SLUICE_ERR_FORMAT);
    sim_trace_finish(&t);
}

// If this fails, a trace that does not fit in memory crashes the comparison.
static void every_allocation_can_fail(void **state)
{
    (void)state;
    struct made_trace made;
    make_trace(&made, 7, 60, 3, true);
    for (uint64_t i = 0, failed = 1; failed; i++) {
        struct sim_trace t;
        struct sim_counts counts;
        uint32_t slots = 5;
        mem_fail_at(i);
        enum sluice_status status = sim_trace_load(path, &t);
        if (status == SLUICE_OK)
            status = sim_lru(&t, i % 2, &slots, 1, &counts);
        if (status == SLUICE_OK)
            status = sim_optimum(&t, slots, &counts);
        if (status == SLUICE_OK)
            status = sim_engine(&t, &(struct sim_places){slots, 3, i % 2}, &counts);
        mem_fail_at(UINT64_MAX);
        failed = status < 0;
        assert_true(status == SLUICE_OK || status == SLUICE_ERR_MEMORY);
        sim_trace_finish(&t);
    }
    sim_trace_finish(&made.loaded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lru_is_lru_at_all_sizes),        cmocka_unit_test(optimum_loads_least),
        cmocka_unit_test(engine_without_ram_is_lru),      cmocka_unit_test(host_slots_serve_what_the_device_lost),
        cmocka_unit_test(a_prompts_end_fills_the_caches), cmocka_unit_test(impossible_traces_are_refused),
        cmocka_unit_test(every_allocation_can_fail),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
