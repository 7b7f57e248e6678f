// Sluice's public C API: everything that a program does with a model goes through this header.
//
//   struct sluice_engine *engine;
//   struct sluice_session *session;
//   sluice_open("model.sluice", &(struct sluice_options){.context_tokens = 8192}, &engine);
//   sluice_session_create(engine, &session);
//   sluice_prefill(session, ids, count, NULL);
//   int32_t next = argmax(sluice_logits(session), sluice_engine_model(engine)->vocab);
//   sluice_decode(engine, &session, &next, 1, NULL);
//
// The engine takes token ids; text becomes ids outside of it. A program that builds prompts of other people's text
// (documents, web pages, results of tools) should render them with chat_render (runtime/text/chat.h) and encode them
// with tokenizer_encode_spans (runtime/text/tokenizer.h): then only what the chat template wrote becomes control tokens
// such as <|im_end|>, and the same characters in a message are text. tokenizer_encode with added_tokens = true takes
// all of a text for the template's.
//
// An engine owns the device, the weights and the expert cache; a session owns one sequence's DeltaNet state and KV
// cache. Threads: one thread uses an engine and its sessions at a time. Errors: a status (runtime/base/status.h) with
// a message from error_message(). The library never exits, prints, or reads the environment; notes and warnings go to
// log_set (runtime/base/log.h).
#ifndef SLUICE_SLUICE_H
#define SLUICE_SLUICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/log.h"
#include "runtime/base/status.h"

struct sluice_engine;
struct sluice_session;

enum sluice_io { SLUICE_IO_AUTO, SLUICE_IO_URING, SLUICE_IO_PREAD };

// When expert records are compared with their checksums. ONCE: when they are read for the first time, and again once
// the file is seen to have changed (offload/verified.h); that a drive returns the same data again is left to its own
// codes. ALWAYS: whenever they are read. NEVER: for measurements.
enum sluice_verify { SLUICE_VERIFY_ONCE, SLUICE_VERIFY_ALWAYS, SLUICE_VERIFY_NEVER };

// Number format of keys and values: 2, 4 and 1.125 bytes each. Q8 needs a head size that is a multiple of 32.
enum sluice_kv { SLUICE_KV_F16, SLUICE_KV_F32, SLUICE_KV_Q8 };

// Activations in matrix products with quantised weights: 8-bit integers (fast) or f32 (exact).
enum sluice_activations { SLUICE_ACTIVATIONS_Q8, SLUICE_ACTIVATIONS_F32 };

// Matrix cores in prefills: they round to f16, so results differ in the last digits from those of other devices. AUTO:
// where the device gets known products right and they measured faster; that is kept in the cache folder. ON:
// SLUICE_ERR_DEVICE where they are missing or wrong.
enum sluice_matrix_cores { SLUICE_MATRIX_CORES_AUTO, SLUICE_MATRIX_CORES_OFF, SLUICE_MATRIX_CORES_ON };

// Where routed experts are kept. SEPARATE: in device memory, and in host memory as a second cache or on their way
// there. UNIFIED: in one pool that drive, host and device work on, so that nothing is copied; only devices that share
// main memory. AUTO: unified where the device shares main memory and its driver can, else separate. UNIFIED where it is
// impossible: SLUICE_ERR_ARGUMENT or SLUICE_ERR_UNSUPPORTED.
enum sluice_expert_pool { SLUICE_EXPERT_POOL_AUTO, SLUICE_EXPERT_POOL_SEPARATE, SLUICE_EXPERT_POOL_UNIFIED };

// For measurements only: with anything but MODEL the experts are drawn instead of chosen by the router, and what the
// model computes is meaningless. How they are drawn: runtime/model/routing_model.h. A session's draws go on where they
// were when it is emptied.
enum sluice_routing {
    SLUICE_ROUTING_MODEL,
    SLUICE_ROUTING_UNIFORM,  // all experts alike: a cache's worst case
    SLUICE_ROUTING_RECORDED, // with the temporal locality reported for models of 512 experts of which 10 are used
};

// Zero means "default" everywhere.
struct sluice_options {
    const char *device;  // index or part of the name of the Vulkan device; NULL: the best one
    uint64_t vram_bytes; // budget of device memory; 0: what the driver reports as free, less a margin
    uint64_t ram_bytes;  // budget of host memory for experts; 0: what the system has available, less a margin, or if
                         // the device's memory is main memory itself only what streaming needs. In a unified pool: so
                         // much more for the pool
    uint32_t slots;      // expert slots that vram_bytes holds, at least top-k; 0: as many as the budget allows
    enum sluice_expert_pool expert_pool;
    uint32_t context_tokens; // capacity of a session; 0: 8192, at most the model's positions
    uint32_t sessions;       // sessions that can exist at the same time, 1..SLUICE_SESSIONS_MAX; 0: 1
    enum sluice_io io;
    enum sluice_verify verify;
    enum sluice_kv kv;
    enum sluice_activations activations;
    enum sluice_matrix_cores matrix_cores;
    enum sluice_routing routing;
    // A folder, made when needed, for what is measured once per device and driver (how kernels are specialised there),
    // and for compiled kernels; NULL: both are made again at every opening. Only speed depends on what is kept there,
    // and whether prefills use matrix cores.
    const char *cache_folder;
    bool recalibrate; // measure anew, and keep that
    bool timestamps;  // measure GPU time per kernel
    // For measurements only: reads experts and copies them to the device as always, but computes nothing; logits are
    // zero. Needs drawn experts (routing).
    bool io_only;
};

enum { SLUICE_SESSIONS_MAX = 8 };

// What the container holds.
struct sluice_model {
    uint32_t layers, hidden, vocab, experts, top_k;
    uint32_t positions_max;                   // the model's own limit on tokens
    uint32_t context_tokens;                  // capacity of this engine's sessions
    uint32_t value_heads, key_dim, value_dim; // of a DeltaNet layer's state
};

// Opens a container and loads the trunk. Everything is allocated here, within the budgets. Errors: SLUICE_ERR_FORMAT
// and SLUICE_ERR_CHECKSUM (damaged file), SLUICE_ERR_BUDGET (the message says what is needed and what would fit),
// SLUICE_ERR_DEVICE, SLUICE_ERR_IO.
enum sluice_status sluice_open(const char *path, const struct sluice_options *options, struct sluice_engine **engine);

// --- the memory plan ------------------------------------------------------------------------------------------------

enum { SLUICE_PLAN_ITEMS_MAX = 8 };

struct sluice_plan_item {
    const char *name; // a constant
    uint64_t bytes;
};

struct sluice_plan_place {
    uint64_t limit_bytes; // budget; UINT64_MAX: not known
    uint64_t used_bytes;  // sum of the items
    struct sluice_plan_item items[SLUICE_PLAN_ITEMS_MAX];
    uint32_t item_count;
};

// Where everything will lie.
struct sluice_plan {
    struct sluice_plan_place device, host;
    bool shared;              // device memory is main memory: both places together must fit into what is available
    uint64_t available_bytes; // of main memory, beside what this process has; UINT64_MAX: not known
    uint32_t slots_device, slots_host, experts_total;
    bool host_cache;       // host slots keep experts; else they only pass through
    bool unified;          // one pool of slots_device slots, in memory that device and host share; slots_host is 0
    uint32_t expert_bytes; // size of one record
    uint32_t sessions;
    uint32_t layers_distinct; // the first so many layers hold every kind of layer
    struct sluice_model model;
    char device_name[256];
};

// What sluice_open would allocate with these options, without reading weights. Errors: as sluice_open.
enum sluice_status sluice_plan(const char *path, const struct sluice_options *options, struct sluice_plan *plan);

// What the device takes for this model while nobody waits for the drive, for one session. Seconds.
struct sluice_speed {
    uint32_t prompt_tokens;
    double prefill_seconds;              // of so many tokens, their logits included, without copies of experts
    double decode_seconds;               // of one token at a short context, all experts on the device
    double decode_deep_seconds;          // the same at the end of the context:
    uint32_t decode_deep_tokens;         // behind so many tokens
    double experts_seconds;              // part of decode_seconds that the routed experts take
    double copy_seconds;                 // of one expert from main memory to the device; 0: none is copied
    uint32_t layers_tried, tokens_tried; // how much of the model was run
};

// Measures that with a short run of the model's first layers on the device (runtime/model/speed_trial.h), within the
// budgets of `plan`, which came from sluice_plan with the same options. Takes seconds. Errors: SLUICE_ERR_ARGUMENT (the
// prompt exceeds the context); as sluice_open.
enum sluice_status sluice_speed_measure(const char *path, const struct sluice_options *options,
                                        const struct sluice_plan *plan, uint32_t prompt_tokens,
                                        struct sluice_speed *speed);

// All sessions must be destroyed before. NULL is allowed.
void sluice_close(struct sluice_engine *engine);

const struct sluice_model *sluice_engine_model(const struct sluice_engine *engine);

// True for a DeltaNet layer (which has a state), false for an attention layer.
bool sluice_layer_is_linear(const struct sluice_engine *engine, uint32_t layer);

// True for a layer with routed experts, false for a dense one.
bool sluice_layer_has_experts(const struct sluice_engine *engine, uint32_t layer);

// The name of the device in use, and its driver's name and version.
const char *sluice_device_name(const struct sluice_engine *engine);
const char *sluice_driver_name(const struct sluice_engine *engine);

// A session with an empty sequence. Errors: SLUICE_ERR_ARGUMENT (more sessions than options.sessions).
enum sluice_status sluice_session_create(struct sluice_engine *engine, struct sluice_session **session);
void sluice_session_destroy(struct sluice_session *session);             // NULL is allowed
enum sluice_status sluice_session_reset(struct sluice_session *session); // empties the sequence
uint32_t sluice_session_tokens(const struct sluice_session *session);    // length of the sequence

// For measuring what work behind a long text costs without computing one: replaces the sequence by `tokens` tokens that
// nobody chose. Keys (normalised and rotated), values and DeltaNet states are pseudo-random numbers of ordinary size,
// the same for the same `seed`; there are no logits. Complete when it returns. Errors: SLUICE_ERR_ARGUMENT (more tokens
// than the context holds), SLUICE_ERR_DEVICE_MEMORY, SLUICE_ERR_DEVICE; the session is to be reset then.
enum sluice_status sluice_session_fill(struct sluice_session *session, uint32_t tokens, uint64_t seed);

// Watches a prefill or decode from inside; for tests and tools. A callback that returns a negative status ends the call
// with it. Pointers are valid during the callback only.
struct sluice_tap {
    void *user;
    // Residual stream [rows, hidden] after `layer`, of the sequence's tokens first_token ...
    enum sluice_status (*hidden)(void *user, uint32_t layer, uint32_t first_token, uint32_t rows, const float *values);
    // Selected experts [rows, top_k] of `layer` by falling probability.
    enum sluice_status (*experts)(void *user, uint32_t layer, uint32_t first_token, uint32_t rows, const uint32_t *ids);
    // Logits [rows, vocab] of every token; without this callback only the last token's logits are computed.
    enum sluice_status (*logits)(void *user, uint32_t first_token, uint32_t rows, const float *values);
};

struct sluice_prefill_options {
    void *user;
    // Called now and then with the share done, 0..1; returns false to cancel (SLUICE_ERR_CANCELLED; the session is
    // empty then).
    bool (*progress)(void *user, double done);
    const struct sluice_tap *tap;
};

// Appends `count` >= 1 tokens (0 <= id < vocab) to the sequence, layer by layer over all of them, so that each expert
// is read at most once; where the budget has too little memory for their activations, in as few such passes as it
// allows. Errors: SLUICE_ERR_ARGUMENT (id out of range, context full: the message says how many fit).
// After a failure in mid-work the session is empty.
enum sluice_status sluice_prefill(struct sluice_session *session, const int32_t *ids, size_t count,
                                  const struct sluice_prefill_options *options);

// Appends one token to each of 1..SLUICE_SESSIONS_MAX different sessions of one engine: ids[i] to sessions[i]. Errors
// as for sluice_prefill. `tap` may be NULL; its rows are then the sessions in order and first_token is 0.
enum sluice_status sluice_decode(struct sluice_engine *engine, struct sluice_session *const *sessions,
                                 const int32_t *ids, unsigned count, const struct sluice_tap *tap);

// Logits [vocab] after the last token; valid until the session's next call. NULL when the sequence is empty.
const float *sluice_logits(const struct sluice_session *session);

// Copies the recurrent state [value_heads, key_dim, value_dim] of a DeltaNet layer.
enum sluice_status sluice_session_state(struct sluice_session *session, uint32_t layer, float *out);

// What an engine did since it was opened or since sluice_stats_reset.
struct sluice_stats {
    uint64_t expert_hits_device, expert_hits_host, expert_misses; // per use of an expert by a batch
    uint64_t expert_bytes_read;
    uint64_t expert_reads_wasted;                    // experts read ahead of the router's choice, in vain
    uint64_t wait_drive_ns, wait_gpu_ns, reading_ns; // reading_ns: time with at least one read in flight
    uint64_t io_cpu_ns;        // processor time of reading, on the engine's own thread or the caller's
    uint64_t io_caller_cpu_ns; // of that, the caller's: what a decode reads it reads itself; an estimate, from a sample
    uint64_t checksum_cpu_ns;  // of io_cpu_ns, checksums of what was read
    uint64_t checksums;        // experts read whose checksum was computed (options.verify)
    uint64_t wait_gpu_cpu_ns;  // processor time of the caller's thread within wait_gpu_ns: polling, sleeping, waking up
    uint64_t wait_drive_cpu_ns; // and within wait_drive_ns; of a decode an estimate, too
    uint64_t record_cpu_ns;     // of recording and submitting, without what a driver does on threads of its own; of a
                                // decode an estimate
    uint64_t submits, dispatches, barriers;
    uint64_t recorded, replayed;             // parts of commands that were recorded, and that had been recorded earlier
    uint64_t sets_filled;                    // descriptor sets that named other ranges before, or none
    uint64_t device_bytes, device_bytes_max; // device memory now and at most
    uint64_t host_bytes;                     // expert slots in host memory, beside the device's
    uint64_t kv_bytes;                       // of device memory: one session's room for keys and values
    uint32_t slots_device, slots_host, experts_total;
    bool unified;            // slots_device are one pool in memory that device and host share
    uint32_t expert_bytes;   // size of one record
    const char *matrix_path; // how prefills multiply: "no matrix cores", "matrix cores 16x16x16", ...; the engine's
};
void sluice_stats(const struct sluice_engine *engine, struct sluice_stats *stats);
void sluice_stats_reset(struct sluice_engine *engine);

// GPU time per kernel (options.timestamps), as gpu_times in runtime/gpu/command.h.
void sluice_gpu_times(struct sluice_engine *engine,
                      void (*visit)(void *user, const char *label, uint64_t total_ns, uint64_t count), void *user);

// A text document carried in the container ("tokenizer.json", "config.json", ...), NUL-terminated, owned by the engine.
// SLUICE_ERR_ARGUMENT if the container has none of that name.
enum sluice_status sluice_document(struct sluice_engine *engine, const char *name, const char **text, size_t *bytes);

#endif
