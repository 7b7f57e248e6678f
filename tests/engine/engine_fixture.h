// Models for the engine's tests: synthetic checkpoints, made and converted in a temporary directory.
#ifndef SLUICE_TESTS_ENGINE_FIXTURE_H
#define SLUICE_TESTS_ENGINE_FIXTURE_H

#include "quant/quant.h"
#include "quant/safetensors.h"
#include "runtime/model/engine_internal.h"
#include "runtime/sluice.h"

// A container of the synthetic checkpoint `config` (text of config.json) with `seed`; `path` [4096] gets its name.
// Fails the test otherwise. fixture_remove deletes everything that was made.
void fixture_container(const char *config, uint64_t seed, enum quant_type type, char *path);
void fixture_remove(void);

// A cache folder beside them, so that the device is calibrated once per program; NULL before the first container.
const char *fixture_cache(void);

// The text of a file, NUL-terminated, to be released with mem_free. Fails the test if it cannot be read.
char *fixture_text(const char *path);

// Fails the test with the library's message unless `status` is OK.
void require_ok(enum sluice_status status);

// A model with every kind of layer and awkward sizes: 5 layers (3 DeltaNet, 1 attention, one of them dense), 24 experts
// of which 5 are used, tied embedding, head sizes that are no powers of two.
extern const char fixture_config[];
enum { FIXTURE_VOCAB = 320 };

// What a model computed for a prompt.
struct outcome {
    uint32_t tokens, layers, hidden, vocab, top_k;
    float *logits;      // [tokens][vocab]
    float **hiddens;    // [layers][tokens][hidden]
    uint32_t **experts; // [layers][tokens][top_k], NULL for a layer without experts
    float **states;     // [layers], NULL for an attention layer
    int32_t *greedy;    // [greedy_count]
    uint32_t greedy_count;
};

struct outcome_options {
    struct sluice_options engine;
    struct engine_hooks hooks;
    bool decode;           // token by token through the decode path
    uint32_t split;        // tokens per prefill; 0: all at once
    uint32_t greedy_count; // tokens to continue with
};

// Runs `ids` through the container. Releases nothing on failure: the test has failed then.
void outcome_compute(const char *path, const int32_t *ids, uint32_t count, const struct outcome_options *options,
                     struct outcome *outcome);
void outcome_finish(struct outcome *outcome);

#endif
