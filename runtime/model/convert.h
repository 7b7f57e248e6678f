// From a checkpoint directory of Hugging Face to a container.
//
// Before anything is written, every tensor of the model must be there with the right shape and a type that can be read:
// BF16, F16, F32, or F8_E4M3 with `<name>_scale_inv` block scales. Routed experts may come one by one
// (experts.E.gate_proj.weight, ...) or fused (experts.gate_up_proj, experts.down_proj). Tensors that the model does not
// use (mtp.*, for one) are left out with a note. A weight that is NaN or infinite is refused, naming the tensor.
//
// Reading and encoding run on several threads and need memory for one trunk tensor, or for one expert per thread: less
// than 2 GB for the published models. The result depends on the checkpoint's bytes and the options alone, not on
// threads or interruptions; weights that stay in their float type are bit-exact.
//
// Interrupted at any point (cancelled, killed, disk full), the same call goes on where it stopped, as long as the
// config, the texts, the options, and the names, sizes, times and headers of the weight files are the same. If they are
// not, what is there may be wanted: the call is refused with SLUICE_ERR_ARGUMENT, unless `restart` is set.
//
// The container carries config.json, tokenizer.json, tokenizer_config.json, generation_config.json and
// chat_template.jinja as far as the directory has them, and a provenance.json: the program, the weight files with a
// hash of their headers, the number formats, and the instruction text.
#ifndef SLUICE_MODEL_CONVERT_H
#define SLUICE_MODEL_CONVERT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/model/layout.h"

struct convert_progress {
    uint64_t bytes_done, bytes_total; // of weights in the container
    uint64_t bytes_resumed;           // part of bytes_done that earlier runs did
};

typedef void convert_progress_function(void *user, const struct convert_progress *progress);

struct convert_options {
    const char *source;                  // directory
    const char *output;                  // file; replaced if it exists
    struct model_recipe recipe;          // see model_recipe_default
    const char *instruction;             // who asked for what, kept in provenance.json; NULL: none
    const char *program;                 // name and version for provenance.json
    bool restart;                        // throw away what an interrupted call left, also with other options
    uint32_t threads;                    // 0: one per processor
    uint64_t batch_bytes;                // written between two syncs, which is what a kill can cost; 0: 256 MiB
    const atomic_bool *cancel;           // looked at several times a second; NULL: never cancelled
    convert_progress_function *progress; // called now and then, from one thread at a time; may be NULL
    void *user;
};

// Errors: SLUICE_ERR_FORMAT (the checkpoint is incomplete or damaged; message names file or tensor),
// SLUICE_ERR_UNSUPPORTED (model or types), SLUICE_ERR_IO, SLUICE_ERR_MEMORY, SLUICE_ERR_CANCELLED. Nothing appears
// under the name `output` unless it is complete. Notes go to the log.
enum sluice_status model_convert(const struct convert_options *options);

#endif
