// Rows of the table: DeltaNet, attention, norms and routing.
#include <stdio.h>

#include "tools/bench/kernel_bench.h"

enum { HIDDEN = 2048, EXPERTS = 512, TOP_K = 10, RUN = 512, CAPACITY = 32768 + RUN };

static const struct attention_shape attention = {
    .heads = 16, .kv_heads = 2, .head_dim = 256, .rotary_dim = 64, .rotary_scale = 1, .kv = KV_F16};
static const struct delta_shape delta = {
    .key_heads = 16, .value_heads = 32, .key_dim = 128, .value_dim = 128, .conv_taps = 4};

// One kernel at one shape: `tokens` of them behind `depth` others.
struct mixer_case {
    const char *name;
    void (*record)(const struct mixer_case *c, struct kernel_bench *b, struct gpu_command *cmd);
    uint32_t tokens, depth;
    double fma_ops, bytes; // per token, and once
    double bytes_once;
};

static struct kv_segment segment_of(const struct kernel_bench *b)
{
    return (struct kv_segment){.k = b->arrays[BENCH_K], .v = b->arrays[BENCH_V], .capacity = CAPACITY};
}

static struct activations floats(const struct kernel_bench *b, enum bench_array array, uint32_t n, uint32_t cols)
{
    return (struct activations){.n = n, .cols = cols, .f32 = b->arrays[array]};
}

static void attend(const struct mixer_case *c, struct kernel_bench *b, struct gpu_command *cmd)
{
    struct kv_segment segment = segment_of(b);
    uint32_t end = c->depth + c->tokens, split = c->tokens == 1 ? op_attend_split_tokens(b->ops, end) : CAPACITY;
    op_attend(b->ops, cmd, &attention, b->arrays[BENCH_IN], c->tokens, c->depth, &segment, 0, end, split, 0,
              (end + split - 1) / split, b->arrays[BENCH_OUT], b->arrays[BENCH_OUT2]);
}

static void merge(const struct mixer_case *c, struct kernel_bench *b, struct gpu_command *cmd)
{
    struct activations y = floats(b, BENCH_OUT2, c->tokens, 4096);
    uint32_t split = op_attend_split_tokens(b->ops, c->depth + 1);
    op_attend_merge(b->ops, cmd, &attention, b->arrays[BENCH_OUT], b->arrays[BENCH_IN2], c->tokens,
                    c->tokens == 1 ? c->depth / split + 1 : 1, b->arrays[BENCH_IN], &y);
}

static void rope(const struct mixer_case *c, struct kernel_bench *b, struct gpu_command *cmd)
{
    struct kv_segment segment = segment_of(b);
    struct gpu_range w = b->arrays[BENCH_WEIGHT];
    op_rope_store(b->ops, cmd, &attention, b->arrays[BENCH_IN], b->arrays[BENCH_IN2], b->arrays[BENCH_IN2], w, w, 1e-6f,
                  w, c->tokens, c->depth, &segment, b->arrays[BENCH_OUT]);
}

static void conv(const struct mixer_case *c, struct kernel_bench *b, struct gpu_command *cmd)
{
    op_conv_seq(b->ops, cmd, &delta, b->arrays[BENCH_IN], c->tokens, b->arrays[BENCH_WEIGHT], b->arrays[BENCH_STATE],
                b->arrays[BENCH_OUT]);
}

static void scan(const struct mixer_case *c, struct kernel_bench *b, struct gpu_command *cmd)
{
    struct gpu_range w = b->arrays[BENCH_WEIGHT];
    op_delta_scan(b->ops, cmd, &delta, b->arrays[BENCH_IN], b->arrays[BENCH_SMALL], c->tokens, w, w,
                  b->arrays[BENCH_STATE], b->arrays[BENCH_OUT]);
}

static void delta_norm(const struct mixer_case *c, struct kernel_bench *b, struct gpu_command *cmd)
{
    struct activations y = floats(b, BENCH_OUT, c->tokens, 4096);
    op_delta_norm(b->ops, cmd, &delta, b->arrays[BENCH_IN2], b->arrays[BENCH_IN], b->arrays[BENCH_WEIGHT], 1e-6f, &y);
}

static void norm(const struct mixer_case *c, struct kernel_bench *b, struct gpu_command *cmd)
{
    struct activations y = floats(b, BENCH_OUT, c->tokens, HIDDEN);
    op_norm_rms(b->ops, cmd, b->arrays[BENCH_IN], b->arrays[BENCH_WEIGHT], 1e-6f, &y);
}

static void quantize(const struct mixer_case *c, struct kernel_bench *b, struct gpu_command *cmd)
{
    struct activations x = floats(b, BENCH_IN, c->tokens, HIDDEN);
    x.q8 = b->arrays[BENCH_Q8];
    x.q8_scales = b->arrays[BENCH_SCALES];
    op_quantize_q8(b->ops, cmd, &x);
}

static void route(const struct mixer_case *c, struct kernel_bench *b, struct gpu_command *cmd)
{
    op_moe_route(b->ops, cmd, b->arrays[BENCH_SMALL], c->tokens, EXPERTS, TOP_K, true, b->arrays[BENCH_OUT],
                 b->arrays[BENCH_OUT2]);
}

static void gated_add(const struct mixer_case *c, struct kernel_bench *b, struct gpu_command *cmd)
{
    op_gated_add(b->ops, cmd, b->arrays[BENCH_IN], b->arrays[BENCH_SMALL], 1, c->tokens, HIDDEN, b->arrays[BENCH_OUT]);
}

// Scores and values of one position: 4 operations for each of 16 * 256 values of q, and K and V of 2 * 256 values each
// in f16.
#define ATTEND(tokens, depth)                                                                                     \
    {                                                                                                             \
        "attend", attend, tokens, depth, 4.0 * 16 * 256 * ((depth) + 0.5 * ((tokens) + 1.0)), 4.0 * 2 * 16 * 256, \
            2.0 * 2 * 2 * 256 * ((depth) + (tokens))                                                              \
    }

// The state once in and out; per token and value head 7 operations for each of its elements.
#define SCAN(tokens)                                                                                   \
    {                                                                                                  \
        "delta_scan", scan, tokens, 0, 7.0 * 32 * 128 * 128, 4.0 * (8192 + 4096), 8.0 * 32 * 128 * 128 \
    }

static const struct mixer_case cases[] = {
    ATTEND(1, 512),
    ATTEND(1, 8192),
    ATTEND(1, 32767),
    ATTEND(RUN, 0),
    ATTEND(RUN, 8192),
    {"attend_merge", merge, 1, 512, 4096 * 2.0, 4096 * 12.0, 0},
    {"attend_merge", merge, 1, 32767, 4096 * 63 * 2.0, 4096 * 65 * 4.0, 0},
    {"attend_merge", merge, RUN, 0, 4096 * 2.0, 4096 * 12.0, 0},
    {"rope_store", rope, 1, 32767, 5120 * 4.0, 9216 * 8.0, 0},
    {"rope_store", rope, RUN, 0, 5120 * 4.0, 9216 * 8.0, 0},
    SCAN(1),
    SCAN(RUN),
    {"conv_seq", conv, 1, 0, 8192 * 8.0, 8192 * 8.0, 8192 * 4.0 * 10},
    {"conv_seq", conv, RUN, 0, 8192 * 8.0, 8192 * 8.0, 8192 * 4.0 * 10},
    {"delta_norm", delta_norm, 1, 0, 4096 * 6.0, 4096 * 12.0, 0},
    {"delta_norm", delta_norm, RUN, 0, 4096 * 6.0, 4096 * 12.0, 0},
    {"norm_rms", norm, 1, 0, HIDDEN * 4.0, HIDDEN * 8.0, HIDDEN * 4.0},
    {"norm_rms", norm, RUN, 0, HIDDEN * 4.0, HIDDEN * 8.0, HIDDEN * 4.0},
    {"quantize_q8", quantize, 1, 0, HIDDEN * 2.0, HIDDEN * 5.25, 0},
    {"quantize_q8", quantize, RUN, 0, HIDDEN * 2.0, HIDDEN * 5.25, 0},
    {"moe_route", route, 1, 0, EXPERTS * 4.0, EXPERTS * 4.0 + TOP_K * 8.0, 0},
    {"moe_route", route, RUN, 0, EXPERTS * 4.0, EXPERTS * 4.0 + TOP_K * 8.0, 0},
    {"gated_add", gated_add, 1, 0, HIDDEN * 2.0, HIDDEN * 12.0, 0},
    {"gated_add", gated_add, RUN, 0, HIDDEN * 2.0, HIDDEN * 12.0, 0},
};

struct call {
    const struct mixer_case *mixer;
    struct kernel_bench *bench;
};

static void record(void *user, struct gpu_command *cmd)
{
    struct call *call = user;
    ops_set_prefill(call->bench->ops, call->mixer->tokens > 1);
    call->mixer->record(call->mixer, call->bench, cmd);
}

enum sluice_status mixer_cases_run(struct kernel_bench *b)
{
    enum sluice_status status = SLUICE_OK;
    static const enum bench_array needed[] = {BENCH_IN,   BENCH_IN2, BENCH_SMALL,  BENCH_WEIGHT, BENCH_STATE, BENCH_OUT,
                                              BENCH_OUT2, BENCH_Q8,  BENCH_SCALES, BENCH_K,      BENCH_V};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct mixer_case *c = &cases[i];
        char name[64];
        struct call call = {c, b};
        struct work work = {.bytes = c->tokens * c->bytes + c->bytes_once, .fma_ops = c->tokens * c->fma_ops};
        if (c->depth)
            snprintf(name, sizeof name, "%s x%u at %u", c->name, c->tokens, c->depth);
        else
            snprintf(name, sizeof name, "%s x%u", c->name, c->tokens);
        if (!bench_wants(b, name))
            continue;
        TRY(bench_need(b, needed, sizeof needed / sizeof *needed));
        TRY(bench_measure(b, name, work, record, &call));
    }
fail:
    return status;
}
