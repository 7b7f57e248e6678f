// Attention whose results are known: keys are rows of a Hadamard matrix, so that a query scores 8 sqrt(head_dim) with
// the positions of its own row and 0 with all others. Probabilities are then 1 and 0, and what comes out is a sum of
// whole numbers.
#include <math.h>
#include <string.h>

#include "quant/halffloat.h"
#include "runtime/base/mem.h"
#include "runtime/ops/coop.h"

// Two workgroups' rows, the second not full; three steps of positions in two runs, the last not full.
enum { HEADS = 8, KV_HEADS = 2, TOKENS = 11, CONTEXT = 75, CAPACITY = 96, SPLIT_TOKENS = 64, SPLITS = 2 };
enum { HEAD_DIM_MAX = 256, HEAD_DIM_SOFTWARE = 64, CODES = 7, QUERY = 4, KEY = 2, PIECE = 8, HALF_BYTES = 2 };

struct self_test {
    struct attention_shape shape;
    struct gpu_buffer *q, *k, *v, *o, *ml;
};

// Different codes' signs are orthogonal over 64 dimensions and multiples of that.
static int sign(uint32_t code, uint32_t dim)
{
    return __builtin_popcount((1 + 7 * code) & dim) & 1 ? -1 : 1;
}

// One code in CODES + 1 has no positions.
static uint32_t query_code(uint32_t token, uint32_t head)
{
    return (3 * token + head) % (CODES + 1);
}

static uint32_t key_code(uint32_t position, uint32_t kv_head)
{
    return (position * position + 3 * kv_head + position / 5) % CODES;
}

static int value(uint32_t position, uint32_t kv_head, uint32_t dim)
{
    return (int)((7 * position + 3 * dim + 5 * kv_head + position * dim % 13) % 31) - 15;
}

// The layout of shaders/kv.glsl.
static void fill_keys_and_values(const struct self_test *t)
{
    uint32_t dim = t->shape.head_dim;
    uint16_t *k = gpu_buffer_map(t->k), *v = gpu_buffer_map(t->v);
    for (uint32_t head = 0; head < KV_HEADS; head++)
        for (uint32_t p = 0; p < CAPACITY; p++) {
            uint32_t block = (head * (CAPACITY / KV_BLOCK) + p / KV_BLOCK) * KV_BLOCK * dim, slot = p % KV_BLOCK;
            for (uint32_t d = 0; d < dim; d++) {
                float key = (float)(KEY * sign(key_code(p, head), d));
                k[block + (d / PIECE * KV_BLOCK + slot) * PIECE + d % PIECE] = f16_from_f32(key);
                v[block + slot * dim + d] = f16_from_f32((float)value(p, head, d));
            }
        }
}

static void fill_queries(const struct self_test *t)
{
    uint32_t dim = t->shape.head_dim;
    float *q = gpu_buffer_map(t->q);
    for (uint32_t i = 0; i < TOKENS * HEADS * dim; i++)
        q[i] = (float)(QUERY * sign(query_code(i / dim / HEADS, i / dim % HEADS), i % dim));
}

static enum sluice_status create(struct ops *ops, struct self_test *t)
{
    enum sluice_status status;
    uint64_t rows = TOKENS * HEADS, kv_bytes = HALF_BYTES * KV_HEADS * CAPACITY * t->shape.head_dim;
    TRY(gpu_buffer_create(ops->device, GPU_MEMORY_UPLOAD, 4 * rows * t->shape.head_dim, "self-test", &t->q));
    TRY(gpu_buffer_create(ops->device, GPU_MEMORY_UPLOAD, kv_bytes, "self-test", &t->k));
    TRY(gpu_buffer_create(ops->device, GPU_MEMORY_UPLOAD, kv_bytes, "self-test", &t->v));
    TRY(gpu_buffer_create(ops->device, GPU_MEMORY_READBACK, 4 * rows * SPLITS * t->shape.head_dim, "self-test", &t->o));
    TRY(gpu_buffer_create(ops->device, GPU_MEMORY_READBACK, 8 * rows * SPLITS, "self-test", &t->ml));
    fill_queries(t);
    fill_keys_and_values(t);
    memset(gpu_buffer_map(t->o), 0xff, 4 * rows * SPLITS * t->shape.head_dim);
    memset(gpu_buffer_map(t->ml), 0xff, 8 * rows * SPLITS);
fail:
    return status;
}

static enum sluice_status attend(struct ops *ops, const struct self_test *t)
{
    enum sluice_status status;
    struct gpu_command *cmd;
    uint64_t tick;
    struct kv_segment segment = {.k = gpu_range_all(t->k), .v = gpu_range_all(t->v), .capacity = CAPACITY};
    TRY(gpu_command_begin(ops->device, &cmd));
    op_attend(ops, cmd, &t->shape, gpu_range_all(t->q), TOKENS, CONTEXT - TOKENS, &segment, 0, CONTEXT, SPLIT_TOKENS, 0,
              SPLITS, gpu_range_all(t->o), gpu_range_all(t->ml));
    TRY(gpu_command_submit(cmd, &tick));
    TRY(gpu_wait(ops->device, tick));
fail:
    return status;
}

// The positions of a run that count: those of the row's code, or all where there are none.
struct expected {
    uint32_t positions[SPLIT_TOKENS], count;
    float maximum;
};

static struct expected expect(const struct self_test *t, uint32_t token, uint32_t head, uint32_t split)
{
    struct expected e = {.count = 0};
    uint32_t begin = split * SPLIT_TOKENS, end = u32_min(begin + SPLIT_TOKENS, CONTEXT - TOKENS + token + 1);
    uint32_t code = query_code(token, head), kv_head = head / (HEADS / KV_HEADS);
    for (uint32_t p = begin; p < end; p++)
        if (key_code(p, kv_head) == code)
            e.positions[e.count++] = p;
    if (e.count > 0)
        e.maximum = QUERY * KEY * sqrtf((float)t->shape.head_dim);
    else
        for (uint32_t p = begin; p < end; p++)
            e.positions[e.count++] = p;
    return e;
}

// Where a maximum moved from 0 to the code's score, less than 1e-20 of what was summed before remains.
static bool near(float got, float want)
{
    return fabsf(got - want) < 1e-6f; // not for NaN
}

static bool row_right(const struct self_test *t, uint32_t token, uint32_t head, uint32_t split)
{
    size_t row = (token * HEADS + head) * SPLITS + split;
    const float *ml = (const float *)gpu_buffer_map(t->ml) + 2 * row;
    const float *o = (const float *)gpu_buffer_map(t->o) + row * t->shape.head_dim;
    struct expected e = expect(t, token, head, split);
    if (!near(ml[0], e.maximum) || !near(ml[1], (float)e.count))
        return false;
    for (uint32_t d = 0; d < t->shape.head_dim; d++) {
        int sum = 0;
        for (uint32_t i = 0; i < e.count; i++)
            sum += value(e.positions[i], head / (HEADS / KV_HEADS), d);
        if (!near(o[d], (float)sum))
            return false;
    }
    return true;
}

static bool results_right(const struct self_test *t)
{
    bool right = true;
    for (uint32_t i = 0; i < TOKENS * HEADS * SPLITS && right; i++)
        right = row_right(t, i / SPLITS / HEADS, i / SPLITS % HEADS, i % SPLITS);
    return right;
}

bool coop_attention_is_right(struct ops *ops)
{
    enum sluice_status status = SLUICE_OK;
    uint32_t dim = gpu_device_caps(ops->device)->is_software ? HEAD_DIM_SOFTWARE : HEAD_DIM_MAX;
    struct self_test t = {.shape = {.heads = HEADS, .kv_heads = KV_HEADS, .head_dim = dim, .kv = KV_F16}};
    const struct tuning before = ops->tuning;
    const bool prefill_before = ops->prefill;
    bool right = false;
    ops->tuning.matrix_cores = ops->tuning.matrix_attention = true;
    ops->prefill = true;
    if (coop_attends(ops, &t.shape)) {
        TRY(create(ops, &t));
        TRY(attend(ops, &t));
        right = results_right(&t);
    } else
        right = true; // it will not be asked
fail:
    ops->tuning = before;
    ops->prefill = prefill_before;
    gpu_buffer_destroy(t.q);
    gpu_buffer_destroy(t.k);
    gpu_buffer_destroy(t.v);
    gpu_buffer_destroy(t.o);
    gpu_buffer_destroy(t.ml);
    return right && status == SLUICE_OK;
}
