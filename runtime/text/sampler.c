#include "runtime/text/sampler.h"

#include <math.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "runtime/base/random.h"

struct candidate {
    float logit;
    int32_t id;
};

struct sampler {
    struct sampler_options options;
    uint64_t random;
    int32_t vocab;
    struct candidate *heap; // [vocab] scratch
    uint32_t *chosen;       // [vocab] occurrences in the answer
    bool *prompted;         // [vocab] occurs in the prompt
    bool *masked;           // [vocab]
    float *bias;            // [vocab], NULL until one is set
};

struct sampler_options sampler_options_default(void)
{
    return (struct sampler_options){.top_p = 1, .repetition_penalty = 1};
}

static enum sluice_status out_of_range(const char *name, double value, const char *range)
{
    return error_set(SLUICE_ERR_ARGUMENT, "%s is %g; it must be %s", name, value, range);
}

static enum sluice_status check_options(const struct sampler_options *options)
{
    if (!(options->temperature >= 0) || !isfinite(options->temperature))
        return out_of_range("temperature", (double)options->temperature, "0 or more");
    if (options->top_k < 0)
        return out_of_range("top_k", options->top_k, "0 (off) or more");
    if (!(options->top_p > 0 && options->top_p <= 1))
        return out_of_range("top_p", (double)options->top_p, "above 0 and at most 1");
    if (!(options->min_p >= 0 && options->min_p <= 1))
        return out_of_range("min_p", (double)options->min_p, "from 0 to 1");
    if (!(options->repetition_penalty > 0) || !isfinite(options->repetition_penalty))
        return out_of_range("repetition_penalty", (double)options->repetition_penalty, "above 0");
    if (!(fabsf(options->presence_penalty) <= 2))
        return out_of_range("presence_penalty", (double)options->presence_penalty, "from -2 to 2");
    if (!(fabsf(options->frequency_penalty) <= 2))
        return out_of_range("frequency_penalty", (double)options->frequency_penalty, "from -2 to 2");
    return SLUICE_OK;
}

enum sluice_status sampler_create(const struct sampler_options *options, int32_t vocab, struct sampler **sampler)
{
    *sampler = NULL;
    enum sluice_status status = check_options(options);
    if (status < 0)
        return status;
    CHECK(vocab > 0);
    struct sampler *made = mem_alloc(1, sizeof *made);
    if (!made)
        return SLUICE_ERR_MEMORY;
    *made = (struct sampler){
        .options = *options,
        .random = options->seed,
        .vocab = vocab,
        .heap = mem_alloc((size_t)vocab, sizeof *made->heap),
        .chosen = mem_alloc((size_t)vocab, sizeof *made->chosen),
        .prompted = mem_alloc((size_t)vocab, sizeof *made->prompted),
        .masked = mem_alloc((size_t)vocab, sizeof *made->masked),
    };
    if (!made->heap || !made->chosen || !made->prompted || !made->masked) {
        sampler_destroy(made);
        return SLUICE_ERR_MEMORY;
    }
    *sampler = made;
    return SLUICE_OK;
}

void sampler_destroy(struct sampler *sampler)
{
    if (!sampler)
        return;
    mem_free(sampler->heap);
    mem_free(sampler->chosen);
    mem_free(sampler->prompted);
    mem_free(sampler->masked);
    mem_free(sampler->bias);
    mem_free(sampler);
}

static bool is_inside(const struct sampler *sampler, int32_t id)
{
    return id >= 0 && id < sampler->vocab;
}

void sampler_mask(struct sampler *sampler, int32_t id, bool excluded)
{
    if (is_inside(sampler, id))
        sampler->masked[id] = excluded;
}

enum sluice_status sampler_bias(struct sampler *sampler, int32_t id, float bias)
{
    if (!sampler->bias)
        sampler->bias = mem_alloc((size_t)sampler->vocab, sizeof *sampler->bias);
    if (!sampler->bias)
        return SLUICE_ERR_MEMORY;
    if (is_inside(sampler, id))
        sampler->bias[id] = bias;
    return SLUICE_OK;
}

void sampler_prompt(struct sampler *sampler, const int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (is_inside(sampler, ids[i]))
            sampler->prompted[ids[i]] = true;
}

void sampler_accept(struct sampler *sampler, int32_t id)
{
    if (is_inside(sampler, id) && sampler->chosen[id] < UINT32_MAX)
        sampler->chosen[id]++;
}

void sampler_reset(struct sampler *sampler, uint64_t seed)
{
    memset(sampler->chosen, 0, (size_t)sampler->vocab * sizeof *sampler->chosen);
    memset(sampler->prompted, 0, (size_t)sampler->vocab * sizeof *sampler->prompted);
    sampler->random = seed;
}

// ---- steps 1 to 4

static float adjusted(const struct sampler *sampler, int32_t id, float logit)
{
    const struct sampler_options *options = &sampler->options;
    uint32_t chosen = sampler->chosen[id];
    if (chosen || sampler->prompted[id])
        logit = logit > 0 ? logit / options->repetition_penalty : logit * options->repetition_penalty;
    if (chosen)
        logit -= options->presence_penalty + options->frequency_penalty * (float)chosen;
    if (sampler->bias)
        logit += sampler->bias[id];
    return logit;
}

// Fills the heap's array with what may be chosen and returns how many there are.
static size_t collect(struct sampler *sampler, const float *logits, size_t count)
{
    size_t found = 0;
    if (count > (size_t)sampler->vocab)
        count = (size_t)sampler->vocab;
    for (size_t i = 0; i < count; i++) {
        int32_t id = (int32_t)i;
        if (sampler->masked[id] || !isfinite(logits[i]))
            continue;
        float logit = adjusted(sampler, id, logits[i]);
        if (isfinite(logit))
            sampler->heap[found++] = (struct candidate){logit, id};
    }
    return found;
}

// ---- ordering: the likeliest first, of equals the lower id

static bool is_before(struct candidate a, struct candidate b)
{
    return a.logit > b.logit || (a.logit >= b.logit && a.id < b.id);
}

static void sift_down(struct candidate *heap, size_t count, size_t at)
{
    struct candidate moved = heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < count && is_before(heap[child + 1], heap[child]))
            child++;
        if (child >= count || is_before(moved, heap[child]))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

static void heapify(struct candidate *heap, size_t count)
{
    for (size_t i = count / 2; i > 0; i--)
        sift_down(heap, count, i - 1);
}

// The candidates in order, taken from the heap as they are asked for: the i-th is kept at heap[count - 1 - i].
struct ordered {
    struct candidate *heap;
    size_t count;
    size_t taken;
};

static struct candidate ordered_at(struct ordered *ordered, size_t index)
{
    while (ordered->taken <= index) {
        size_t left = ordered->count - ordered->taken;
        struct candidate top = ordered->heap[0];
        ordered->heap[0] = ordered->heap[left - 1];
        ordered->heap[left - 1] = top;
        if (left > 1)
            sift_down(ordered->heap, left - 1, 0);
        ordered->taken++;
    }
    return ordered->heap[ordered->count - 1 - index];
}

// ---- steps 5 to 8

// exp((logit - largest) / temperature): the probability but for a common factor; 1 for the likeliest.
static double weight(float logit, float largest, float temperature)
{
    return exp(((double)logit - (double)largest) / (double)temperature);
}

static int32_t choose(struct sampler *sampler, size_t count)
{
    const struct sampler_options *options = &sampler->options;
    heapify(sampler->heap, count);
    struct ordered ordered = {.heap = sampler->heap, .count = count};
    float largest = ordered_at(&ordered, 0).logit, temperature = options->temperature;
    size_t limit = options->top_k > 0 && (size_t)options->top_k < count ? (size_t)options->top_k : count;

    double total = 0; // of what top-k leaves
    if (limit < count)
        for (size_t i = 0; i < limit; i++)
            total += weight(ordered_at(&ordered, i).logit, largest, temperature);
    else
        for (size_t i = 0; i < count; i++)
            total += weight(sampler->heap[i].logit, largest, temperature);

    double kept = total;
    size_t kept_count = limit;
    if (options->top_p < 1 || options->min_p > 0) {
        kept = 0;
        for (kept_count = 0; kept_count < limit; kept_count++) {
            double next = weight(ordered_at(&ordered, kept_count).logit, largest, temperature);
            if (kept >= (double)options->top_p * total || next < (double)options->min_p)
                break;
            kept += next;
        }
    }

    double drawn = random_fraction(&sampler->random) * kept;
    for (size_t i = 0; i + 1 < kept_count; i++) {
        struct candidate candidate = ordered_at(&ordered, i);
        drawn -= weight(candidate.logit, largest, temperature);
        if (drawn < 0)
            return candidate.id;
    }
    return ordered_at(&ordered, kept_count - 1).id;
}

enum sluice_status sampler_sample(struct sampler *sampler, const float *logits, size_t count, int32_t *id)
{
    size_t found = collect(sampler, logits, count);
    if (found == 0)
        return error_set(SLUICE_ERR_DEVICE,
                         "none of the %zu logits that may be chosen is a finite number: the model's output is broken "
                         "(a driver fault or damaged weights)",
                         count);
    if (sampler->options.temperature > 0) {
        *id = choose(sampler, found);
        return SLUICE_OK;
    }
    struct candidate best = sampler->heap[0];
    for (size_t i = 1; i < found; i++)
        if (is_before(sampler->heap[i], best))
            best = sampler->heap[i];
    *id = best.id;
    return SLUICE_OK;
}

// ---- log-probabilities

static double log_sum(const float *logits, size_t count)
{
    float largest = -INFINITY;
    for (size_t i = 0; i < count; i++)
        if (isfinite(logits[i]) && logits[i] > largest)
            largest = logits[i];
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        if (isfinite(logits[i]))
            sum += exp((double)logits[i] - (double)largest);
    return (double)largest + log(sum);
}

static void insert_top(struct sampler_logprob *top, size_t count, struct sampler_logprob entry)
{
    size_t at = count;
    for (; at > 0 && top[at - 1].logprob < entry.logprob; at--)
        top[at] = top[at - 1];
    top[at] = entry;
}

void sampler_logprobs(const float *logits, size_t count, int32_t id, float *chosen, struct sampler_logprob *top,
                      size_t top_count)
{
    CHECK(id >= 0 && (size_t)id < count && top_count <= count);
    double base = log_sum(logits, count);
    size_t found = 0;
    for (size_t i = 0; i < count && top_count > 0; i++) {
        float logprob = isfinite(logits[i]) ? (float)((double)logits[i] - base) : -INFINITY;
        if (found == top_count && logprob <= top[found - 1].logprob)
            continue;
        if (found == top_count)
            found--;
        insert_top(top, found++, (struct sampler_logprob){(int32_t)i, logprob});
    }
    *chosen = isfinite(logits[id]) ? (float)((double)logits[id] - base) : -INFINITY;
}
