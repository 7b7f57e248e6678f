#include "runtime/ops/coop.h"
#include "shaders/mixer_params.h"

enum { HEAD_DIM_NARROW = 128 };

_Static_assert((int)OPS_HEAD_DIM_MAX == ROUND_HEAD_DIM_MAX, "kernels have room for the largest head");

// From so many positions on the tuning for long documents holds; up to so many rows the one for few.
enum { ROWS_FEW = 8, LONG = 4096 };

static const enum shader_id rope_shaders[] = {
    [KV_F16] = SHADER_ROPE_STORE_F16, [KV_F32] = SHADER_ROPE_STORE_F32, [KV_Q8] = SHADER_ROPE_STORE_Q8};
static const enum shader_id attend_shaders[] = {
    [KV_F16] = SHADER_ATTEND_F16, [KV_F32] = SHADER_ATTEND_F32, [KV_Q8] = SHADER_ATTEND_Q8};
static const enum shader_id attend_wide_shaders[] = {
    [KV_F16] = SHADER_ATTEND_F16_WIDE, [KV_F32] = SHADER_ATTEND_F32, [KV_Q8] = SHADER_ATTEND_Q8_WIDE};

uint64_t kv_block_bytes(enum kv_type type, uint32_t head_dim)
{
    static const uint32_t values[] = {[KV_F16] = 2, [KV_F32] = 4, [KV_Q8] = 1};
    uint64_t scales = type == KV_Q8 ? (uint64_t)head_dim / 32 * 4 : 0;
    return KV_BLOCK * ((uint64_t)head_dim * values[type] + scales);
}

static void shape_check(const struct ops *ops, const struct attention_shape *shape, uint32_t tokens)
{
    CHECK(shape->kv_heads > 0 && shape->heads % shape->kv_heads == 0);
    CHECK(shape->heads >= shape->kv_heads && shape->heads / shape->kv_heads <= OPS_HEADS_PER_KV_MAX);
    CHECK(shape->head_dim > 0 && shape->head_dim % 8 == 0 && shape->head_dim <= OPS_HEAD_DIM_MAX);
    CHECK(shape->kv != KV_Q8 || shape->head_dim % 32 == 0);
    CHECK(shape->rotary_dim % 2 == 0 && shape->rotary_dim <= shape->head_dim);
    CHECK(shape->heads + shape->kv_heads <= ops->caps->max_groups_y && shape->kv_heads <= ops->caps->max_groups_z);
    CHECK((uint64_t)tokens * (shape->heads / shape->kv_heads) <= ops->caps->max_groups_x);
}

static void segment_check(const struct attention_shape *shape, const struct kv_segment *segment)
{
    uint64_t bytes = segment->capacity / KV_BLOCK * shape->kv_heads * kv_block_bytes(shape->kv, shape->head_dim);
    CHECK(segment->first % KV_BLOCK == 0 && segment->capacity > 0 && segment->capacity % KV_BLOCK == 0);
    CHECK(segment->k.bytes >= bytes && segment->v.bytes >= bytes);
}

static uint32_t position_place(const struct attention_shape *shape)
{
    CHECK(shape->positions.bytes == 0 || shape->position_place < shape->positions.bytes / 4);
    return shape->positions.bytes ? shape->position_place : NO_PLACE;
}

static uint64_t rows_bytes(const struct attention_shape *shape, uint32_t tokens)
{
    return 4ull * tokens * shape->heads * shape->head_dim;
}

void op_rope_store(struct ops *ops, struct gpu_command *cmd, const struct attention_shape *shape, struct gpu_range qg,
                   struct gpu_range k, struct gpu_range v, struct gpu_range q_norm, struct gpu_range k_norm, float eps,
                   struct gpu_range frequencies, uint32_t tokens, uint32_t first_position,
                   const struct kv_segment *segment, struct gpu_range q_out)
{
    uint64_t kv_bytes = 4ull * tokens * shape->kv_heads * shape->head_dim;
    shape_check(ops, shape, tokens);
    segment_check(shape, segment);
    CHECK(qg.bytes >= 2 * rows_bytes(shape, tokens) && q_out.bytes >= rows_bytes(shape, tokens));
    CHECK(k.bytes >= kv_bytes && v.bytes >= kv_bytes && frequencies.bytes >= 2ull * shape->rotary_dim);
    CHECK(q_norm.bytes >= 4ull * shape->head_dim && k_norm.bytes >= 4ull * shape->head_dim);
    CHECK(first_position <= (1u << 24) && tokens <= (1u << 24) - first_position); // exact in f32
    struct rope_push push = {.heads = shape->heads,
                             .kv_heads = shape->kv_heads,
                             .head_dim = shape->head_dim,
                             .rotary_dim = shape->rotary_dim,
                             .rotary_scale = shape->rotary_scale,
                             .eps = eps,
                             .first_position = first_position,
                             .position_place = position_place(shape),
                             .segment_first = segment->first,
                             .segment_tokens = segment->capacity};
    struct gpu_range ranges[] = {
        qg,          k,          v,          q_norm, k_norm,
        frequencies, segment->k, segment->v, q_out,  shape->positions.bytes ? shape->positions : frequencies};
    ops_dispatch(ops, cmd,
                 &(struct ops_dispatch){.shader = rope_shaders[shape->kv],
                                        .ranges = ranges,
                                        .range_count = 10,
                                        .push = &push,
                                        .push_bytes = sizeof push,
                                        .groups_x = tokens,
                                        .groups_y = shape->heads + shape->kv_heads,
                                        .groups_z = 1});
}

uint32_t op_attend_split_tokens(const struct ops *ops, uint32_t context)
{
    uint32_t tokens = ATTEND_SPLIT_TOKENS, enough = ops->tuning.attend.splits_enough;
    while (enough > 0 && context / tokens >= 2 * enough)
        tokens *= 2;
    return tokens;
}

void op_attend(struct ops *ops, struct gpu_command *cmd, const struct attention_shape *shape, struct gpu_range q,
               uint32_t tokens, uint32_t first_position, const struct kv_segment *segment, uint32_t begin, uint32_t end,
               uint32_t split_tokens, uint32_t split0, uint32_t splits, struct gpu_range partial_o,
               struct gpu_range partial_ml)
{
    shape_check(ops, shape, tokens);
    segment_check(shape, segment);
    CHECK(begin >= segment->first && end > begin && end - segment->first <= segment->capacity);
    CHECK(split_tokens > 0 && split_tokens % KV_BLOCK == 0);
    uint32_t split_count = u32_divide_up(end - begin, split_tokens);
    CHECK(split0 <= splits && split_count <= splits - split0 && split_count <= ops->caps->max_groups_y);
    CHECK(q.bytes >= rows_bytes(shape, tokens) && partial_o.bytes >= splits * rows_bytes(shape, tokens));
    CHECK(partial_ml.bytes >= 8ull * tokens * shape->heads * splits);
    const struct attend_tuning *tuning = &ops->tuning.attend;
    uint32_t rows_max = end - begin < LONG ? tuning->rows_max : tuning->rows_max_long;
    uint32_t rows = tokens * (shape->heads / shape->kv_heads), tile_rows = 1;
    while (tile_rows < rows_max && tile_rows < rows)
        tile_rows *= 2;
    uint32_t unroll = tile_rows <= ROWS_FEW ? tuning->unroll_few : tuning->unroll_many;
    uint32_t group = shape->heads / shape->kv_heads, tiles = group % tile_rows == 0 ? group / tile_rows : 0;
    unroll = tiles ? unroll : u32_min(unroll, tuning->unroll_mixed_max);
    unroll = shape->head_dim % (4 * unroll) == 0 ? unroll : 2;
    uint32_t lanes = shape->head_dim > HEAD_DIM_NARROW ? tuning->lanes : 32;
    struct attend_push push = {.heads = shape->heads,
                               .kv_heads = shape->kv_heads,
                               .tokens = tokens,
                               .first_position = first_position,
                               .position_place = position_place(shape),
                               .segment_first = segment->first,
                               .segment_tokens = segment->capacity,
                               .begin = begin,
                               .end = end,
                               .split_tokens = split_tokens,
                               .split0 = split0,
                               .splits = splits};
    struct gpu_range ranges[] = {q,         segment->k, segment->v,
                                 partial_o, partial_ml, shape->positions.bytes ? shape->positions : q};
    if (shape->positions.bytes) // each row's own position is the end for it
        push.end = segment->first + segment->capacity;
    if (coop_attends(ops, shape)) {
        CHECK(shape->positions.bytes == 0);
        coop_attend(ops, cmd, shape, &push, ranges, split_count);
        return;
    }
    ops_dispatch(ops, cmd,
                 &(struct ops_dispatch){.shader = (tuning->wide ? attend_wide_shaders : attend_shaders)[shape->kv],
                                        .constants = {shape->head_dim, tile_rows, tuning->keys, unroll, tuning->warm,
                                                      lanes, tiles, tuning->group},
                                        .constant_count = 8,
                                        .ranges = ranges,
                                        .range_count = 6,
                                        .push = &push,
                                        .push_bytes = sizeof push,
                                        .groups_x = u32_divide_up(rows, tile_rows),
                                        .groups_y = split_count,
                                        .groups_z = shape->kv_heads});
}

void op_attend_merge(struct ops *ops, struct gpu_command *cmd, const struct attention_shape *shape,
                     struct gpu_range partial_o, struct gpu_range partial_ml, uint32_t tokens, uint32_t splits,
                     struct gpu_range qg, const struct activations *y)
{
    shape_check(ops, shape, tokens);
    CHECK(splits > 0 && y->n == tokens && y->cols == shape->heads * shape->head_dim);
    CHECK(partial_o.bytes >= splits * rows_bytes(shape, tokens) && y->f32.bytes >= rows_bytes(shape, tokens));
    CHECK(partial_ml.bytes >= 8ull * tokens * shape->heads * splits && qg.bytes >= 2 * rows_bytes(shape, tokens));
    struct attend_merge_push push = {.heads = shape->heads, .head_dim = shape->head_dim, .splits = splits};
    bool rounds = ops_head_rounds(shape->head_dim, y);
    struct gpu_range ranges[] = {partial_o, partial_ml, qg, y->f32, y->q8, y->q8_scales};
    ops_dispatch(ops, cmd,
                 &(struct ops_dispatch){.shader = rounds ? SHADER_ATTEND_MERGE_Q8 : SHADER_ATTEND_MERGE,
                                        .ranges = ranges,
                                        .range_count = rounds ? 6 : 4,
                                        .push = &push,
                                        .push_bytes = sizeof push,
                                        .groups_x = tokens,
                                        .groups_y = shape->heads,
                                        .groups_z = 1});
    if (!rounds)
        op_quantize_q8(ops, cmd, y);
}
