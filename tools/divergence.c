#include "tools/divergence.h"

#include <math.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/doubles.h"
#include "runtime/base/mem.h"
#include "runtime/base/random.h"

int32_t divergence_likeliest(const float *logits, uint32_t count)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++)
        if (logits[i] > logits[best])
            best = i;
    return (int32_t)best;
}

enum sluice_status divergence_create(size_t capacity, struct divergence *d)
{
    *d = (struct divergence){.capacity = capacity, .kl = mem_alloc(capacity, sizeof *d->kl)};
    return d->kl ? SLUICE_OK : SLUICE_ERR_MEMORY;
}

void divergence_finish(struct divergence *d)
{
    mem_free(d->kl);
    *d = (struct divergence){0};
}

static double log_sum_exp(const float *logits, uint32_t vocab)
{
    double most = (double)logits[divergence_likeliest(logits, vocab)], sum = 0;
    for (uint32_t i = 0; i < vocab; i++)
        sum += exp((double)logits[i] - most);
    return most + log(sum);
}

void divergence_add(struct divergence *d, const float *reference, const float *logits, uint32_t vocab,
                    int32_t successor, bool same_experts)
{
    CHECK(d->count < d->capacity);
    double p_norm = log_sum_exp(reference, vocab), q_norm = log_sum_exp(logits, vocab), kl = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        double p = (double)reference[i] - p_norm, q = (double)logits[i] - q_norm;
        kl += exp(p) * (p - q);
    }
    kl = kl > 0 ? kl : 0; // rounding may leave -1e-17
    d->kl[d->count++] = kl;
    d->same_experts += same_experts;
    d->same_experts_kl += same_experts ? kl : 0;
    d->same_top += divergence_likeliest(reference, vocab) == divergence_likeliest(logits, vocab);
    if (successor < 0)
        return;
    d->predicted++;
    d->reference_loss += p_norm - (double)reference[successor];
    d->loss += q_norm - (double)logits[successor];
}

double divergence_mean(const struct divergence *d)
{
    double sum = 0;
    for (size_t i = 0; i < d->count; i++)
        sum += d->kl[i];
    return d->count ? sum / (double)d->count : 0;
}

double divergence_mean_same_experts(const struct divergence *d)
{
    return d->same_experts ? d->same_experts_kl / (double)d->same_experts : 0;
}

void divergence_add_expert(uint64_t *fingerprint, uint32_t layer, uint32_t expert)
{
    *fingerprint += random_at((uint64_t)layer << 32 | expert, 0);
}

double divergence_quantile(struct divergence *d, double quantile)
{
    if (d->count == 0)
        return 0;
    doubles_sort(d->kl, d->count);
    double place = ceil(quantile * (double)d->count) - 1;
    return d->kl[place > 0 ? (size_t)place : 0];
}
