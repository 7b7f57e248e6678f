#include "runtime/model/scratch.h"

#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/integer.h"
#include "runtime/base/mem.h"

enum {
    BATCH_MAX = 512, // enough rows to amortise reading the trunk's weights
    BATCH_UNIT = 64, // 64 rows of u32 begin at every device's offset alignment
    BLOCK_TOKENS_MAX = 4096,
    DECODE_ROWS_MAX = 8,
    REQUESTS_MAX = 64,
};
static const uint64_t LOGIT_BYTES = (uint64_t)64 << 20;

// A range to be planned: ranges are written after all slabs are allocated.
struct request {
    struct slab *slab;
    uint32_t place;
    struct gpu_range *range;
};

struct planner {
    struct scratch *scratch;
    uint32_t count, capacity;
    struct request *requests; // owned
};

static enum sluice_status want(struct planner *planner, struct slab *slab, struct gpu_range *range, uint64_t rows,
                               uint64_t row_bytes)
{
    if (rows * row_bytes == 0)
        return SLUICE_OK;
    uint64_t bytes = rows * row_bytes + DECODE_ROWS_MAX * ROW_PITCH_FLOATS * 4ull; // mixer.c pads the rows of a decode
    if (planner->count == planner->capacity) {
        uint32_t capacity = planner->capacity ? 2 * planner->capacity : REQUESTS_MAX;
        struct request *grown = mem_realloc(planner->requests, capacity, sizeof *grown);
        if (!grown)
            return SLUICE_ERR_MEMORY;
        planner->requests = grown;
        planner->capacity = capacity;
    }
    struct request *request = &planner->requests[planner->count];
    *request = (struct request){.slab = slab, .range = range};
    if (bytes > slab_range_bytes_max(slab))
        return error_set(SLUICE_ERR_BUDGET, "an array of %llu bytes exceeds the device's largest binding; lower --ctx",
                         (unsigned long long)bytes);
    enum sluice_status status = slab_plan(slab, bytes, &request->place);
    if (status == SLUICE_OK)
        planner->count++;
    return status;
}

static enum sluice_status want_activations(struct planner *planner, struct activations *x, uint32_t rows, uint32_t cols,
                                           bool f32, bool q8)
{
    struct slab *slab = &planner->scratch->device;
    x->n = rows;
    x->cols = cols;
    enum sluice_status status = SLUICE_OK;
    if (f32)
        TRY(want(planner, slab, &x->f32, rows, 4ull * cols));
    if (q8 && cols % 32 == 0) { // other widths have no 8-bit form and stay f32
        TRY(want(planner, slab, &x->q8, rows, cols));
        TRY(want(planner, slab, &x->q8_scales, rows, cols / 32 * 8ull));
    }
fail:
    return status;
}

// The widest row of a sub-batch, in floats.
static uint32_t widest(const struct model_config *c, const struct scratch_limits *limits)
{
    uint32_t width = u32_max(c->full_count ? model_qg_rows(c) : 0, c->linear_count ? model_qkvz_rows(c) : 0);
    uint32_t partial =
        c->full_count ? model_attention_dim(c) * limits->segments_max : 0; // one partial result per segment
    return u32_max(u32_max(u32_max(width, c->hidden_size), u32_max(limits->inter_max, c->experts)), partial);
}

// Rows of all blocks together.
static uint32_t pass_rows(const struct scratch_limits *limits)
{
    CHECK(limits->pass_tokens > 0 && limits->pass_tokens <= limits->capacity_tokens);
    return u32_max(limits->pass_tokens, DECODE_ROWS_MAX);
}

static enum sluice_status choose_sizes(struct scratch *s, const struct model_config *c,
                                       const struct scratch_limits *limits)
{
    uint64_t largest = slab_range_bytes_max(&s->device);
    uint64_t pad = DECODE_ROWS_MAX * ROW_PITCH_FLOATS * 4ull;
    largest -= pad < largest ? pad : 0;
    uint64_t batch = largest / (4ull * widest(c, limits));
    uint64_t logit_bytes = largest < LOGIT_BYTES ? largest : LOGIT_BYTES;
    uint64_t logit_rows = logit_bytes / (4ull * c->vocab_size);
    if (batch < DECODE_ROWS_MAX || logit_rows < DECODE_ROWS_MAX)
        return error_set(SLUICE_ERR_BUDGET, "the device's largest binding (%llu bytes) is too small for this model",
                         (unsigned long long)largest);
    uint32_t tokens = pass_rows(limits);
    s->batch = u32_min((uint32_t)(batch < BATCH_MAX ? batch : BATCH_MAX), tokens);
    bool aligned = s->batch >= BATCH_UNIT; // then sub-batches may begin in mid-block
    if (aligned && s->batch < tokens)
        s->batch = s->batch / BATCH_UNIT * BATCH_UNIT;
    uint64_t row_max = 4ull * u32_max(c->hidden_size, u32_max(c->top_k, c->expert_intermediate));
    uint64_t block = largest / row_max;
    block = block < BLOCK_TOKENS_MAX ? block : BLOCK_TOKENS_MAX;
    block = aligned ? u32_min((uint32_t)block, tokens) / s->batch * s->batch : s->batch;
    s->block_tokens = u32_max((uint32_t)block, s->batch);
    s->logit_rows = u32_min((uint32_t)(logit_rows < s->batch ? logit_rows : s->batch), BATCH_MAX);
    s->moe_rows = u32_max(s->block_tokens, DECODE_ROWS_MAX * c->top_k);
    s->block_count = u32_divide_up(tokens, s->block_tokens);
    // A row of a prefill has one partial result per segment of the KV cache, a decoded token one per split.
    s->partial_rows = u32_max(s->batch * limits->segments_max,
                              limits->capacity_tokens / ATTEND_SPLIT_TOKENS + limits->segments_max + 1);
    return SLUICE_OK;
}

static enum sluice_status want_block(struct planner *planner, const struct model_config *c,
                                     const struct scratch_limits *limits, struct scratch_block *block)
{
    enum sluice_status status;
    struct scratch *s = planner->scratch;
    uint32_t n = block->capacity;
    bool q8 = limits->quantise_experts && c->hidden_size % 32 == 0;
    TRY(want(planner, &s->device, &block->h, n, 4ull * c->hidden_size));
    TRY(want_activations(planner, &block->x, n, c->hidden_size, !q8, q8));
    TRY(want(planner, &s->upload, &block->tokens, n, 4));
    TRY(want(planner, &s->readback, &block->ids, n, 4ull * c->top_k));
    TRY(want(planner, &s->readback, &block->weights, n, 4ull * c->top_k));
    TRY(want(planner, &s->upload, &block->pick_row, n, 4ull * c->top_k));
    TRY(want(planner, &s->upload, &block->pick_weight, n, 4ull * c->top_k));
fail:
    return status;
}

static enum sluice_status want_blocks(struct planner *planner, const struct model_config *c,
                                      const struct scratch_limits *limits)
{
    struct scratch *s = planner->scratch;
    s->blocks = mem_alloc(s->block_count, sizeof *s->blocks);
    if (!s->blocks)
        return SLUICE_ERR_MEMORY;
    uint32_t tokens = pass_rows(limits);
    for (uint32_t i = 0; i < s->block_count; i++) {
        s->blocks[i].capacity = u32_min(s->block_tokens, tokens - i * s->block_tokens);
        enum sluice_status status = want_block(planner, c, limits, &s->blocks[i]);
        if (status < 0)
            return status;
    }
    return SLUICE_OK;
}

static enum sluice_status want_mixers(struct planner *planner, const struct model_config *c,
                                      const struct scratch_limits *limits)
{
    enum sluice_status status;
    struct scratch *s = planner->scratch;
    struct slab *d = &s->device;
    uint32_t n = s->batch;
    uint32_t attention = c->full_count ? model_attention_dim(c) : 0;
    uint32_t linear = c->linear_count ? model_linear_value_dim(c) : 0;
    TRY(want(planner, d, &s->wide, n,
             4ull * u32_max(c->full_count ? model_qg_rows(c) : 0, c->linear_count ? model_qkvz_rows(c) : 0)));
    TRY(want_activations(planner, &s->mixed, n, u32_max(attention, linear), true, limits->quantise_trunk));
    if (c->linear_count) {
        TRY(want(planner, d, &s->ba, n, 4ull * model_ba_rows(c)));
        TRY(want(planner, d, &s->conv, n, 4ull * model_conv_channels(c)));
        TRY(want(planner, d, &s->delta, n, 4ull * linear));
    }
    if (c->full_count) {
        TRY(want(planner, d, &s->q, n, 4ull * attention));
        TRY(want(planner, d, &s->k, n, 4ull * model_kv_dim(c)));
        TRY(want(planner, d, &s->v, n, 4ull * model_kv_dim(c)));
        TRY(want(planner, d, &s->partial_o, s->partial_rows, 4ull * attention));
        TRY(want(planner, d, &s->partial_ml, s->partial_rows, 8ull * c->heads));
        TRY(want(planner, &s->upload, &s->positions_in, DECODE_ROWS_MAX, 4));
        TRY(want(planner, d, &s->positions, DECODE_ROWS_MAX, 4));
    }
fail:
    return status;
}

// Lists of one layer's sweep: per (token, expert) row its token and at worst a tile of its own; per block and expert
// what alignment costs. Where a binding cannot hold that, experts come in smaller groups (moe_group.c waits when the
// room is used up).
static enum sluice_status want_lists(struct planner *planner, const struct model_config *c,
                                     const struct scratch_limits *limits)
{
    struct scratch *s = planner->scratch;
    uint64_t tokens = pass_rows(limits), largest = slab_range_bytes_max(&s->upload) / 2;
    uint64_t row_bytes = 4 + sizeof(struct moe_tile), align = 512;
    uint64_t all = tokens * c->top_k * row_bytes + (align + row_bytes) * c->experts * s->block_count;
    uint64_t one = s->block_count * (s->block_tokens * row_bytes + align) + 4ull * s->block_tokens * c->top_k;
    uint64_t groups = all <= largest ? c->experts : largest / one;
    if (groups == 0)
        return error_set(SLUICE_ERR_BUDGET,
                         "%llu tokens of context are too many for this device's bindings; lower --ctx",
                         (unsigned long long)tokens);
    s->group_experts = (uint32_t)groups;
    return want(planner, &s->upload, &s->lists, 1, all < largest ? all : largest);
}

static enum sluice_status want_rest(struct planner *planner, const struct model_config *c,
                                    const struct scratch_limits *limits)
{
    enum sluice_status status;
    struct scratch *s = planner->scratch;
    struct slab *d = &s->device;
    uint32_t n = s->batch;
    TRY(want_activations(planner, &s->normed, n, c->hidden_size, true,
                         limits->quantise_trunk || limits->quantise_experts));
    TRY(want_activations(planner, &s->inter, n, limits->inter_max, true, limits->quantise_trunk));
    TRY(want(planner, d, &s->ffn, n, 4ull * c->hidden_size));
    TRY(want(planner, &s->readback, &s->logits, s->logit_rows, 4ull * c->vocab_size));
    TRY(want(planner, &s->readback, &s->hidden, n, 4ull * c->hidden_size));
    if (c->moe_count) {
        TRY(want(planner, d, &s->router, n, 4ull * c->experts));
        TRY(want(planner, d, &s->shared_gate, n, 4));
        TRY(want_activations(planner, &s->act, s->moe_rows, c->expert_intermediate, true, limits->quantise_experts));
        TRY(want(planner, d, &s->y, s->moe_rows, 4ull * c->hidden_size));
        TRY(want_lists(planner, c, limits));
    }
fail:
    return status;
}

static enum sluice_status allocate_all(struct planner *planner)
{
    enum sluice_status status;
    struct scratch *s = planner->scratch;
    TRY(slab_allocate(&s->device));
    TRY(slab_allocate(&s->upload));
    TRY(slab_allocate(&s->readback));
    for (uint32_t i = 0; i < planner->count; i++)
        *planner->requests[i].range = slab_range(planner->requests[i].slab, planner->requests[i].place);
fail:
    return status;
}

enum sluice_status scratch_create(struct gpu_device *device, const struct model_config *config,
                                  const struct scratch_limits *limits, bool allocate, struct scratch *scratch,
                                  uint64_t *bytes)
{
    enum sluice_status status;
    memset(scratch, 0, sizeof *scratch);
    struct planner planner = {.scratch = scratch};
    slab_init(&scratch->device, device, GPU_MEMORY_DEVICE, "activations");
    slab_init(&scratch->upload, device, GPU_MEMORY_UPLOAD, "lists");
    slab_init(&scratch->readback, device, GPU_MEMORY_READBACK, "results");
    TRY(choose_sizes(scratch, config, limits));
    TRY(want_blocks(&planner, config, limits));
    TRY(want_mixers(&planner, config, limits));
    TRY(want_rest(&planner, config, limits));
    if (bytes)
        *bytes = scratch->device.bytes;
    if (allocate)
        TRY(allocate_all(&planner));
    mem_free(planner.requests);
    return SLUICE_OK;
fail:
    mem_free(planner.requests);
    scratch_finish(scratch);
    return status;
}

void scratch_finish(struct scratch *scratch)
{
    mem_free(scratch->blocks);
    slab_finish(&scratch->device);
    slab_finish(&scratch->upload);
    slab_finish(&scratch->readback);
    memset(scratch, 0, sizeof *scratch);
}

struct activations activations_rows(const struct activations *x, uint32_t n)
{
    CHECK(n <= x->n);
    struct activations rows = *x;
    rows.n = n;
    return rows;
}

struct activations activations_cols(const struct activations *x, uint32_t n, uint32_t cols)
{
    CHECK(cols <= x->cols);
    struct activations rows = activations_rows(x, n);
    rows.cols = cols;
    if (cols % 32 != 0)
        rows.q8 = rows.q8_scales = (struct gpu_range){0};
    return rows;
}
