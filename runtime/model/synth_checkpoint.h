// Writes synthetic checkpoints: a directory as Hugging Face publishes it (config.json, model*.safetensors in BF16, an
// index if sharded) with the weights of quant/synth.h under the published per-expert names.
#ifndef SLUICE_MODEL_SYNTH_CHECKPOINT_H
#define SLUICE_MODEL_SYNTH_CHECKPOINT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef void synth_progress_function(void *user, uint64_t bytes_done, uint64_t bytes_total);

struct synth_options {
    const char *config; // text of config.json
    size_t config_bytes;
    uint64_t seed;
    uint64_t shard_bytes;              // a file is closed before it would exceed this; 0: one file
    const char *directory;             // made if it does not exist (its parent must)
    bool replace;                      // a checkpoint that is already there is removed first; else it is an error
    uint32_t threads;                  // 0: one per processor
    const atomic_bool *cancel;         // may be NULL
    synth_progress_function *progress; // called from the caller's thread; may be NULL
    void *user;
};

// Needs 64 MiB of memory. config.json is written last, so a directory with one is complete.
// Errors: SLUICE_ERR_FORMAT and SLUICE_ERR_UNSUPPORTED (config), SLUICE_ERR_IO, SLUICE_ERR_ARGUMENT (a checkpoint is
// already there), SLUICE_ERR_MEMORY, SLUICE_ERR_CANCELLED.
enum sluice_status model_synth_write(const struct synth_options *options);

#endif
