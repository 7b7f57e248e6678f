// The engine and its sessions, as the files of runtime/model share them.
#ifndef SLUICE_MODEL_ENGINE_INTERNAL_H
#define SLUICE_MODEL_ENGINE_INTERNAL_H

#include "offload/container.h"
#include "offload/prompt_tail.h"
#include "runtime/base/clock.h"
#include "runtime/model/cache.h"
#include "runtime/model/config.h"
#include "runtime/model/pager.h"
#include "runtime/model/routing_model.h"
#include "runtime/model/scratch.h"
#include "runtime/model/weights.h"
#include "runtime/ops/ops.h"
#include "runtime/sluice.h"

struct sluice_session {
    struct sluice_engine *engine;
    bool in_use;
    uint32_t tokens; // length of the sequence
    bool unclean;    // empty, but the cache holds what another sequence left: to be cleared before it is used
    struct cache cache;
    bool has_logits;
    float *logits; // [vocab], owned
};

enum { DOCUMENTS_MAX = 16 };

// What tests change about the world; zero: nothing.
struct engine_hooks {
    uint64_t max_buffer_bytes;          // largest buffer and binding the device is said to have
    bool no_import;                     // host memory cannot be imported into the device
    uint32_t fail_buffer_at;            // gpu_device_options
    const struct reader_faults *faults; // of the drive; must outlive the engine
    uint64_t device_free_bytes;         // what the driver is said to report as free
    uint64_t host_free_bytes;           // main memory that is said to be available
    // What the driver is said to report while running, in place of gpu_device_budget; NULL: nothing is said.
    bool (*device_budget)(void *user, uint64_t *budget_bytes, uint64_t *used_bytes);
    void *user;
    bool few_layers; // only the first layers of the model, as many as hold every kind
    bool own_memory; // the device is said to have memory of its own
    uint32_t passes; // that the longest prompt is cut into; 0: as few as fit
    struct ops_hooks ops;
};

// sluice_open in a changed world.
enum sluice_status engine_open_hooked(const char *path, const struct sluice_options *options,
                                      const struct engine_hooks *hooks, struct sluice_engine **engine);
enum sluice_status engine_plan_hooked(const char *path, const struct sluice_options *options,
                                      const struct engine_hooks *hooks, struct sluice_plan *plan);

// Parts of a layer that are the same whenever the same sessions decode: see pass_again.
enum memo_part { MEMO_MIXER, MEMO_ATTENTION, MEMO_ROUTER, MEMO_SHARED_EXPERT, MEMO_SUM, MEMO_PART_COUNT };

struct sluice_engine {
    struct sluice_options options;
    struct engine_hooks hooks;
    struct sluice_model model;
    struct model_config config;
    struct container *container;
    struct gpu_device *device;
    struct ops *ops;
    struct weights weights;
    struct scratch scratch;
    struct pager *pager; // NULL if no layer has experts
    bool pool_refused;   // by the driver: experts have separate places
    struct sluice_session sessions[SLUICE_SESSIONS_MAX];

    uint32_t *expert_lists;              // [experts + 1]: the experts of the sweep under way, owned
    struct expert_rows *expert_rows;     // [block_count]: of the layer under way, owned
    struct routing_model *routing_model; // NULL: the router's choice stands; owned
    struct prompt_tail *keep;            // of the sweep under way, owned
    struct pass_block *pass_blocks;      // [block_count]: of the pass under way, owned
    struct gpu_memo *memos;              // [layers][MEMO_PART_COUNT], owned
    uint32_t *expert_shapes;             // [layers] the first layer whose experts have the same shape, owned
    struct gpu_memo *expert_memos;       // by shape, moe_group.c's, owned

    struct {
        char *name, *text;
        size_t bytes;
    } documents[DOCUMENTS_MAX]; // copies handed out so far
    unsigned document_count;

    uint64_t budget_read_ns; // when budget_watch asked last, clock_ns

    struct clock_sample record; // recording, see pass_record_begin
    unsigned record_depth;

    struct gpu_usage usage_base; // statistics are counted from here
    uint64_t record_base_ns;
    struct pager_statistics pager_base;
};

// A run of tokens of one session: rows [row, row + tokens) of the block, at positions [position, position + tokens).
struct run {
    struct sluice_session *session;
    uint32_t row, tokens, position;
};

// What a block of the scratch holds.
struct pass_block {
    uint32_t rows;
    uint32_t run_count;
    struct run runs[SLUICE_SESSIONS_MAX];
};

// What one forward pass works on: `block_count` blocks of the scratch. A prefill has one run per block, of one session;
// a decode has one block with one run of one token per session.
struct pass {
    struct sluice_engine *engine;
    uint32_t block_count;
    struct pass_block *blocks; // [block_count]
    uint32_t first_token;      // of the call: the pass's first
    bool is_prefill;
    bool is_last;          // of the passes of a prefill
    uint32_t normed_layer; // whose input norm is in the scratch already, for all rows of the pass; 0: none
    bool missed_an_expert; // a layer so far had experts that no token selected
    const struct sluice_tap *tap;
    bool (*progress)(void *user, double done);
    void *progress_user;
    double progress_begin, progress_share; // of the call
    struct gpu_command *cmd;               // being recorded, NULL: none. pass_command and pass_submit
};

// pass.c: the pass's command buffer. It is carried from layer to layer: a layer's last experts and the next layer's
// mixer make one submission.

// What the calling thread does between the two counts as recording and submitting (sluice_stats.record_cpu_ns), less
// its waiting for the device. Pairs may lie inside each other. Few and long ones, of which a decode measures one in
// seven: reading the processor's time costs as much as recording a dispatch.
void pass_record_begin(struct pass *pass);
void pass_record_end(struct pass *pass);

// The command that is being recorded; begins one if there is none.
enum sluice_status pass_command(struct pass *pass, struct gpu_command **cmd);

// Whether the part of a layer is known from an earlier token, and nothing is to be recorded (gpu_again). What it does
// may depend on which sessions decode, on `variant` (below 2^24) and on what is fixed when the engine is opened, and on
// nothing else: not on positions or experts. The part must end with gpu_part or the command. Prefills are recorded as
// they are.
bool pass_again(const struct pass *pass, struct gpu_command *cmd, uint32_t layer, enum memo_part part,
                uint32_t variant);

// Submits it, if there is one, and in the same submission `behind` (may be NULL), which runs after it. *tick (may be
// NULL) is the pass's command's. `behind` is given up on failure, too.
enum sluice_status pass_submit(struct pass *pass, struct gpu_command *behind, uint64_t *tick);

// Gives up a pass in whatever state: its sweeps, reads and what was recorded.
void pass_abandon(struct pass *pass);

// Tells the caller how far the pass is: in units of layers. SLUICE_ERR_CANCELLED if it does not want more.
enum sluice_status pass_progress(struct pass *pass, double layers);

// budget_watch.c: between layers, or before the first: gives device slots back if the driver's budget has shrunk below
// what is used. Then everything submitted has been waited for.
enum sluice_status budget_watch(struct pass *pass);

// forward.c: embeds, runs all layers, and leaves the residual stream in the blocks' h.
enum sluice_status forward_layers(struct pass *pass);

// forward.c: logits of rows [row, row + count) of a block, count <= scratch.logit_rows, in scratch.logits once *tick is
// complete.
enum sluice_status forward_logits(struct pass *pass, uint32_t block, uint32_t row, uint32_t count, uint64_t *tick);

// moe.c: the routed experts of `layer` for all blocks; h += their weighted sum. The router's results are complete.
enum sluice_status moe_create(struct sluice_engine *engine); // host-side lists
void moe_finish(struct sluice_engine *engine);
enum sluice_status moe_layer(struct pass *pass, uint32_t layer);

#endif
