// Writes synthetic containers directly, without a checkpoint: any model shape and number formats at about the speed of
// the drive, for measurements.
//
// Norms, convolutions, gates and routers are those of the synthetic checkpoint (quant/synth.h) of the same seed. The
// other matrices are random tiles (synth_tiles.h) with the standard deviation that the checkpoint's would have: a
// function of (seed, tensor name), but not the encoded checkpoint. There is no tokenizer.
//
// Interrupted at any point, the same call goes on where it stopped; one with other options is refused, as by
// model_convert.
#ifndef SLUICE_MODEL_SYNTH_CONTAINER_H
#define SLUICE_MODEL_SYNTH_CONTAINER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "runtime/model/layout.h"
#include "runtime/model/synth_checkpoint.h" // synth_progress_function

struct synth_container_options {
    const char *config; // text of config.json; see shape.h
    size_t config_bytes;
    struct model_recipe recipe;
    uint64_t seed;
    const char *output;                // file; replaced if it exists
    const char *program;               // name and version for provenance.json
    bool restart;                      // throw away what an interrupted call left, also with other options
    uint32_t threads;                  // 0: one per processor
    const atomic_bool *cancel;         // may be NULL
    synth_progress_function *progress; // called from one thread at a time; may be NULL
    void *user;
};

// Needs memory for the largest tensor of the trunk, or for one expert per thread: 330 MB for the published shape with
// its trunk in q8_0. Errors: as model_convert, except that there is no checkpoint that could be damaged.
enum sluice_status model_synth_container(const struct synth_container_options *options);

#endif
