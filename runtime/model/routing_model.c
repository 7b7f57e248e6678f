#include "runtime/model/routing_model.h"

#include <math.h>

#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "runtime/base/random.h"

// Share of the draws that fall among the first `experts` (as a share of all) of the order of last use.
static const struct {
    double experts, draws;
} locality[] = {{31.0 / 512, 0.447}, {0.125, 0.681}, {0.25, 0.818}, {0.5, 0.924}, {1.0, 1.0}};

enum { LOCALITY_COUNT = sizeof locality / sizeof *locality };

struct routing_model {
    struct routing_model_options options;
    float *cumulative;      // [experts]: share of the draws at places 0..i of the order; RECORDED only, owned
    uint64_t *random_state; // [sessions][layers], owned
    uint16_t *order;        // [sessions][layers][experts], latest use first; RECORDED only, owned
    uint32_t *places;       // [top_k], of the draw under way, owned
};

// --- random numbers -------------------------------------------------------------------------------------------------

// 0 <= result < bound; the bias of 2^-32 does not matter here.
static uint32_t random_below(uint64_t *state, uint32_t bound)
{
    return (uint32_t)((random_next(state) >> 32) * bound >> 32);
}

// --- creation -------------------------------------------------------------------------------------------------------

static double share_within(double experts)
{
    int i = 1;
    while (i < LOCALITY_COUNT - 1 && experts > locality[i].experts)
        i++;
    double slope = log(locality[i].draws / locality[i - 1].draws) / log(locality[i].experts / locality[i - 1].experts);
    return locality[i].draws * pow(experts / locality[i].experts, slope);
}

static void fill_order(const struct routing_model *m, uint16_t *order, uint64_t *random_state)
{
    for (uint32_t i = 0; i < m->options.experts; i++) {
        uint32_t j = random_below(random_state, i + 1);
        order[i] = order[j];
        order[j] = (uint16_t)i;
    }
}

enum sluice_status routing_model_create(const struct routing_model_options *o, struct routing_model **out)
{
    *out = NULL;
    CHECK(o->layers > 0 && o->sessions > 0 && o->top_k > 0 && o->top_k <= o->experts && o->experts <= 65536);
    CHECK(o->kind == SLUICE_ROUTING_UNIFORM || o->kind == SLUICE_ROUTING_RECORDED);
    size_t sequences = (size_t)o->sessions * o->layers;
    bool recorded = o->kind == SLUICE_ROUTING_RECORDED;
    struct routing_model *m = mem_alloc(1, sizeof *m);
    if (!m)
        return SLUICE_ERR_MEMORY;
    m->options = *o;
    m->random_state = mem_alloc(sequences, sizeof *m->random_state);
    m->cumulative = mem_alloc(recorded ? o->experts : 0, sizeof *m->cumulative);
    m->order = mem_alloc(recorded ? sequences * o->experts : 0, sizeof *m->order);
    m->places = mem_alloc(o->top_k, sizeof *m->places);
    if (!m->random_state || !m->cumulative || !m->order || !m->places) {
        routing_model_destroy(m);
        return SLUICE_ERR_MEMORY;
    }
    uint64_t seeds = o->seed;
    for (size_t i = 0; i < sequences; i++) {
        m->random_state[i] = random_next(&seeds);
        if (recorded)
            fill_order(m, m->order + i * o->experts, &m->random_state[i]);
    }
    for (uint32_t i = 0; recorded && i < o->experts; i++)
        m->cumulative[i] = (float)share_within((i + 1.0) / o->experts);
    *out = m;
    return SLUICE_OK;
}

void routing_model_destroy(struct routing_model *m)
{
    if (!m)
        return;
    mem_free(m->random_state);
    mem_free(m->cumulative);
    mem_free(m->order);
    mem_free(m->places);
    mem_free(m);
}

// --- drawing --------------------------------------------------------------------------------------------------------

// A place in the order of last use.
static uint32_t draw_place(const struct routing_model *m, uint64_t *random_state)
{
    if (m->options.kind == SLUICE_ROUTING_UNIFORM)
        return random_below(random_state, m->options.experts);
    float share = (float)(random_next(random_state) >> 40) * 0x1p-24f;
    uint32_t low = 0, high = m->options.experts - 1; // the first place whose cumulative share exceeds `share`
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (m->cumulative[middle] > share)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static bool contains(const uint32_t *values, uint32_t count, uint32_t value)
{
    for (uint32_t i = 0; i < count; i++)
        if (values[i] == value)
            return true;
    return false;
}

// Moves what lies at places[top_k] (falling) to the front, in the order of ids.
static void move_to_front(const struct routing_model *m, uint16_t *order, const uint32_t *places, const uint32_t *ids)
{
    uint32_t top_k = m->options.top_k, next = 0, to = places[0] + 1;
    for (uint32_t from = places[0] + 1; from-- > 0;) {
        if (next < top_k && places[next] == from)
            next++;
        else
            order[--to] = order[from];
    }
    CHECK(next == top_k && to == top_k);
    for (uint32_t i = 0; i < top_k; i++)
        order[i] = (uint16_t)ids[i];
}

static void insert_falling(uint32_t *values, uint32_t count, uint32_t value)
{
    for (; count > 0 && values[count - 1] < value; count--)
        values[count] = values[count - 1];
    values[count] = value;
}

void routing_model_draw(struct routing_model *m, uint32_t session, uint32_t layer, uint32_t *ids)
{
    const struct routing_model_options *o = &m->options;
    CHECK(session < o->sessions && layer < o->layers);
    size_t sequence = (size_t)session * o->layers + layer;
    uint16_t *order = o->kind == SLUICE_ROUTING_RECORDED ? m->order + sequence * o->experts : NULL;
    for (uint32_t i = 0; i < o->top_k; i++) {
        uint32_t place;
        do
            place = draw_place(m, &m->random_state[sequence]);
        while (contains(m->places, i, place));
        insert_falling(m->places, i, place);
        ids[i] = order ? order[place] : place;
    }
    if (order)
        move_to_front(m, order, m->places, ids);
}
