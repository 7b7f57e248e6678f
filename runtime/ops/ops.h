// Operations on the device: each checks shapes, then records one or a few dispatches into `cmd` and returns. Results
// are ready at the tick of cmd's submission; the order of operations inside a command is kept by the hazard tracking of
// runtime/gpu/command.h. All sums are in f32 and in an order that depends on the shapes alone, so that results do not
// depend on slots, budgets or what else is in the batch. Arrays are f32, row-major and contiguous unless said
// otherwise. Failures (a kernel that does not compile) are kept in cmd and returned by gpu_command_submit; wrong shapes
// are our bugs (CHECK). Ranges may be larger than needed. Threads: one per device.
#ifndef SLUICE_OPS_OPS_H
#define SLUICE_OPS_OPS_H

#include "runtime/gpu/command.h"
#include "runtime/ops/tensor.h"

// How large a shape operations take; wrong ones are our bugs.
enum {
    OPS_HEAD_DIM_MAX = 256,    // of attention
    OPS_HEADS_PER_KV_MAX = 16, // query heads that share one of keys and values
    OPS_CONV_TAPS_MAX = 8,
    OPS_EXPERTS_MAX = 1024, // that the router chooses from
    OPS_TOP_K_MAX = 32,
};

struct ops; // the device and its tuning
struct tuning;

// What tests change about the world; zero: nothing.
struct ops_hooks {
    bool as_gpu;                                                        // a software device is treated like a GPU
    bool plain_is_wrong;                                                // the self-test sees wrong results
    uint32_t wrong_paths;                                               // the same for these: mask of enum tuning_path
    void (*adjust)(const struct gpu_caps *caps, struct tuning *tuning); // has the last word; NULL: nobody has
};

// Whether prefills use matrix cores (gpu_caps.matrix_cores). That changes rounding: results then agree to about 1e-3 of
// the magnitude of what is summed.
enum ops_matrix_cores {
    OPS_MATRIX_CORES_AUTO, // where the device gets known products right and they measure faster
    OPS_MATRIX_CORES_OFF,
    OPS_MATRIX_CORES_ON, // SLUICE_ERR_DEVICE if there are none or they get known products wrong
};

struct ops_options {
    // Where the choices for this device and driver are kept, made when needed; NULL: nowhere. What is there and is not
    // valid is made anew; what cannot be written is made again next time.
    const char *cache_folder;
    bool recalibrate; // do not look at what is there
    enum ops_matrix_cores matrix_cores;
    const struct ops_hooks *hooks; // NULL: none
};

// Chooses how kernels are specialised: see tuning.h. Where nothing valid is kept, tests the device with known answers
// and calibrates, in less than a second besides compiling (what a busy machine leaves unmeasured, the next time); paths
// that gave a wrong answer are not used, which a warning says. `options` may be NULL. Errors: SLUICE_ERR_DEVICE (wrong
// answers on the plain paths, too).
enum sluice_status ops_create(struct gpu_device *device, const struct ops_options *options, struct ops **ops);
void ops_destroy(struct ops *ops);

// How prefills are computed, for reports and saved states: "no matrix cores" or "matrix cores 16x16x16", or that with
// ", not for attention" where the device gets that wrong.
const char *ops_matrix_path(const struct ops *ops);

// What is recorded from here on belongs to a prefill, or to decoding, which never uses matrix cores.
void ops_set_prefill(struct ops *ops, bool prefill);

// --- rows and norms -------------------------------------------------------------------------------------------------

// y[i, :] = table[ids[i], :] as f32, i < n. ids u32 [n], each < table->rows (the caller checked).
void op_embed_rows(struct ops *ops, struct gpu_command *cmd, const struct tensor *table, struct gpu_range ids,
                   uint32_t n, struct gpu_range y);

// y = x / sqrt(mean(x^2) + eps) * (1 + w), per row of x [n, cols]; w [cols]. y->f32 and, where y->q8 is present, y->q8
// too.
void op_norm_rms(struct ops *ops, struct gpu_command *cmd, struct gpu_range x, struct gpu_range w, float eps,
                 const struct activations *y);

// Fills x->q8 and x->q8_scales from x->f32; records nothing when x->q8 is absent. d = max|x| / 127 over 32 columns,
// q = round to nearest even of x / d.
void op_quantize_q8(struct ops *ops, struct gpu_command *cmd, const struct activations *x);

// --- matrices -------------------------------------------------------------------------------------------------------

// y[n, rows] = x[n, cols] * W^T, or y += with `accumulate`. Uses x's 8-bit form when present and W is quantised.
// Row length of y is y_stride floats (>= w->rows).
void op_matmul(struct ops *ops, struct gpu_command *cmd, const struct tensor *w, const struct activations *x,
               struct gpu_range y, uint32_t y_stride, bool accumulate);

// h[n, rows] += sigmoid(gate[n]) * (x[n, cols] * W^T). y [n, rows] may be used for the product. The same bits as
// op_matmul to y and then op_gated_add.
void op_matmul_gated(struct ops *ops, struct gpu_command *cmd, const struct tensor *w, const struct activations *x,
                     struct gpu_range gate, struct gpu_range y, struct gpu_range h);

// y[n, inter] = silu(x * gate^T) * (x * up^T). `gate_up` holds 2 * inter rows as alternating row tiles: gate rows
// 0..31, up rows 0..31, gate rows 32..63, ...; gate_up->rows = 2 * inter rounded up to whole
// tiles each.
void op_gate_up(struct ops *ops, struct gpu_command *cmd, const struct tensor *gate_up, uint32_t inter,
                const struct activations *x, const struct activations *y);

// --- mixture of experts ---------------------------------------------------------------------------------------------

// probabilities = softmax(logits[n, experts]); the top_k largest by falling probability, ties to the lower index.
// ids u32 [n, top_k]; weights f32 [n, top_k], divided by their sum if `renormalise`.
void op_moe_route(struct ops *ops, struct gpu_command *cmd, struct gpu_range logits, uint32_t n, uint32_t experts,
                  uint32_t top_k, bool renormalise, struct gpu_range ids, struct gpu_range weights);

// Where the experts of one slab lie and what they look like.
struct moe_slab {
    struct gpu_range range; // slots one after the other
    uint32_t slot_bytes;    // distance of two slots
    uint32_t down_offset;   // bytes from a slot's start to its down tiles (gate|up tiles are at 0)
    enum quant_type gate_up_type, down_type;
    uint32_t hidden, inter; // gate, up [inter, hidden]; down [hidden, inter]
};

// A run of at most MOE_TILE_ROWS rows of one expert. Rows are (token, expert) pairs sorted by expert.
enum { MOE_TILE_ROWS = 8 };
struct moe_tile {
    uint32_t slot;      // within its slab
    uint32_t row;       // first row, counted from the start of this batch of rows
    uint32_t row_count; // 1..MOE_TILE_ROWS
    uint32_t slab;      // of those that the operation is given
};

// A list of tiles. Where op_moe_sorts_tiles, sorted by rising row_count, because tiles of few and of many rows go to
// different kernels; else expert by expert, because kernels may take neighbouring tiles of one expert together.
struct moe_tiles {
    struct gpu_range range;         // struct moe_tile [sum of counts]
    uint32_t counts[MOE_TILE_ROWS]; // counts[i] tiles have i + 1 rows
};

bool op_moe_sorts_tiles(const struct ops *ops);

// In how many slabs the experts of one list of tiles may lie, 1 or MOE_SLABS_MAX. The slabs of one operation differ in
// `range` alone.
enum { MOE_SLABS_MAX = 16 };
uint32_t op_moe_slabs_at_once(const struct ops *ops);

// act[r, inter] = silu(gate_e x) * (up_e x) with x = row row_token[r] of x and e the expert of r's tile, for all rows
// of the tiles. row_token u32 [rows]. Fills act->f32, and act->q8 where that is present and the kernel can. Returns
// whether it did: if not, op_quantize_q8 follows when all rows are there.
bool op_moe_gate_up(struct ops *ops, struct gpu_command *cmd, const struct moe_slab *slabs, uint32_t slab_count,
                    const struct moe_tiles *tiles, struct gpu_range row_token, const struct activations *x,
                    const struct activations *act);

// y[r, hidden] = down_e act[r, :] for the same tiles.
void op_moe_down(struct ops *ops, struct gpu_command *cmd, const struct moe_slab *slabs, uint32_t slab_count,
                 const struct moe_tiles *tiles, const struct activations *act, struct gpu_range y);

// h[t, :] += sum over t's picks p, in the order given, of weight[t, p] * y[row[t, p] - row0, :], taking only picks with
// row0 <= row < row0 + row_count. row u32 [n, top_k] (sorted by rising expert by the caller, so that the order of the
// sum does not depend on how rows are cut into batches), weight f32 [n, top_k] in the same order. h [n, hidden].
void op_moe_combine(struct ops *ops, struct gpu_command *cmd, struct gpu_range y, struct gpu_range row,
                    struct gpu_range weight, uint32_t n, uint32_t top_k, uint32_t row0, uint32_t row_count,
                    struct gpu_range h, uint32_t hidden);

// h[t, :] += sum over t's picks p, in the order given, of weight[t, p] * y[row[t, p], :]; then x = norm(h) as by
// op_norm_rms(h, w, eps). The same bits as op_moe_combine of all rows and op_norm_rms. For few tokens: one workgroup
// each.
void op_moe_combine_norm(struct ops *ops, struct gpu_command *cmd, struct gpu_range y, struct gpu_range row,
                         struct gpu_range weight, uint32_t top_k, struct gpu_range h, struct gpu_range w, float eps,
                         const struct activations *x);

// h[t, :] += sigmoid(gate[t]) * y[t, :]; gate [n] with stride gate_stride floats.
void op_gated_add(struct ops *ops, struct gpu_command *cmd, struct gpu_range y, struct gpu_range gate,
                  uint32_t gate_stride, uint32_t n, uint32_t cols, struct gpu_range h);

// --- gated DeltaNet (one sequence, tokens in order) -----------------------------------------------------------------

struct delta_shape {
    uint32_t key_heads, value_heads; // value head j uses key head j / (value_heads / key_heads)
    uint32_t key_dim, value_dim;     // per head
    uint32_t conv_taps;              // kernel size, newest tap last
};
// channels = 2 * key_heads * key_dim + value_heads * value_dim, in the order q heads | k heads | v heads.
// qkvz row: per key head: q, k, v of its value heads, z of its value heads (checkpoint order of in_proj_qkvz);
// ba row: per key head: b of its value heads, a of its value heads.

// out[T, channels] = silu(causal depthwise convolution), state [conv_taps - 1][channels] (oldest first; raw
// projections) read and updated. weight [channels][conv_taps].
void op_conv_seq(struct ops *ops, struct gpu_command *cmd, const struct delta_shape *shape, struct gpu_range qkvz,
                 uint32_t tokens, struct gpu_range weight, struct gpu_range state, struct gpu_range out);

// The gated delta rule, token by token: o [T, value_heads * value_dim]; state [value_heads][key_dim][value_dim], read
// and updated. q and k of `conv` are L2-normalised here (1e-6 inside the root), q divided by sqrt(key_dim); beta =
// sigmoid(b), g = -exp(a_log) * softplus(a + dt_bias). a_log, dt_bias [value_heads].
void op_delta_scan(struct ops *ops, struct gpu_command *cmd, const struct delta_shape *shape, struct gpu_range conv,
                   struct gpu_range ba, uint32_t tokens, struct gpu_range a_log, struct gpu_range dt_bias,
                   struct gpu_range state, struct gpu_range o);

// y = o / sqrt(mean(o^2) + eps) * w * silu(z) per token and value head; w [value_dim]. y->q8 is filled too where
// present.
void op_delta_norm(struct ops *ops, struct gpu_command *cmd, const struct delta_shape *shape, struct gpu_range o,
                   struct gpu_range qkvz, struct gpu_range w, float eps, const struct activations *y);

// --- gated attention (one sequence) ---------------------------------------------------------------------------------

// Number format of K and V in the cache. KV_Q8: signed bytes with an f32 scale per 32 neighbouring dimensions of a
// position, d = max|x| / 127 and q = round to nearest even of x / d; head_dim must be a multiple of 32.
enum kv_type { KV_F16, KV_F32, KV_Q8 };

// Bytes of K, or of V, of one block of KV_BLOCK positions and one kv head.
uint64_t kv_block_bytes(enum kv_type type, uint32_t head_dim);

struct attention_shape {
    uint32_t heads, kv_heads, head_dim;
    uint32_t rotary_dim; // even; the first rotary_dim dimensions are rotated, pairs (i, i + rotary_dim / 2)
    float rotary_scale;  // YaRN's factor on cos and sin; 1 without
    enum kv_type kv;
    // u32 [...]: positions[position_place] is added to every first_position; no bytes: nothing is. So a decode's
    // kernels are the same in every token (runtime/gpu/command.h).
    struct gpu_range positions;
    uint32_t position_place;
};

// A run of KV_BLOCK-token blocks of one layer of one sequence, small enough for one binding.
// k, v: [kv_head][block], blocks as in shaders/kv.glsl
enum { KV_BLOCK = 32 };
struct kv_segment {
    struct gpu_range k, v;
    uint32_t first;    // position of the segment's first token; a multiple of KV_BLOCK
    uint32_t capacity; // tokens; a multiple of KV_BLOCK
};

// q rows come as [T][heads][2 * head_dim] (query, gate) in `qg`. q_out [T, heads, head_dim] = rope(norm(q));
// K = rope(norm(k)) and V are stored at positions first_position + t, as far as they lie in `segment`.
// q_norm, k_norm [head_dim] (gain 1 + w); frequencies [rotary_dim / 2]; k, v [T, kv_heads * head_dim].
void op_rope_store(struct ops *ops, struct gpu_command *cmd, const struct attention_shape *shape, struct gpu_range qg,
                   struct gpu_range k, struct gpu_range v, struct gpu_range q_norm, struct gpu_range k_norm, float eps,
                   struct gpu_range frequencies, uint32_t tokens, uint32_t first_position,
                   const struct kv_segment *segment, struct gpu_range q_out);

// Into runs of how many positions a decoded token's attention should cut `context` of them; a multiple of KV_BLOCK, at
// least ATTEND_SPLIT_TOKENS. Depends on nothing else but what the device reports, because sums are rounded by it.
enum { ATTEND_SPLIT_TOKENS = 512 };
uint32_t op_attend_split_tokens(const struct ops *ops, uint32_t context);

// Causal attention of T query rows (positions first_position + t) over the part [begin, end) of the segment's
// positions, cut into `split_count` equal runs of `split_tokens` (a multiple of KV_BLOCK; the last may be shorter).
// Writes partial results number split0 .. split0 + split_count - 1 of `splits`: partial_o [T][heads][splits][head_dim]
// (not normalised) and partial_ml [T][heads][splits][2] (running maximum, sum). A run with no visible position writes
// (-inf, 0) and zeros.
void op_attend(struct ops *ops, struct gpu_command *cmd, const struct attention_shape *shape, struct gpu_range q,
               uint32_t tokens, uint32_t first_position, const struct kv_segment *segment, uint32_t begin, uint32_t end,
               uint32_t split_tokens, uint32_t split0, uint32_t splits, struct gpu_range partial_o,
               struct gpu_range partial_ml);

// y [T, heads * head_dim] = sigmoid(gate) * merged partials; the gate comes from qg. y->q8 is filled too where present.
void op_attend_merge(struct ops *ops, struct gpu_command *cmd, const struct attention_shape *shape,
                     struct gpu_range partial_o, struct gpu_range partial_ml, uint32_t tokens, uint32_t splits,
                     struct gpu_range qg, const struct activations *y);

#endif
