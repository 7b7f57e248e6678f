#include "runtime/ops/tuning.h"

#include <string.h>

#include "runtime/base/check.h"

enum { STAGE_WORDS = 4000 };

// A software driver runs 8 lanes at a time and pays about as much for reading one value of x as for dozens of
// multiplications, so there each lane takes several rows; it also compiles long stretches of code slowly and badly, so
// loops stay rolled and variants few. Kernels with quads (32 KiB of shared memory less some) have many lanes that share
// the work of preparing x. GPUs read x through the scalar or constant path and want all their lanes on different rows.
// With 8 columns in f32 AMD's compiler runs out of scalar registers, and with 8 of a pair Intel's out of all.
static struct matmul_tuning matmul_default(const struct gpu_caps *caps)
{
    if (caps->is_software)
        return (struct matmul_tuning){.lanes = 8,
                                      .rows_per_lane = 4,
                                      .columns = {{{1, 4}, {1, 2}}, {{1, 2, 3, 4, 8}, {1, 2, 3, 4, 8}}},
                                      .slabs = true,
                                      .split_tiles = true,
                                      .stage_words = caps->has_int64 ? STAGE_WORDS : 0,
                                      .stage_lanes = 64};
    uint32_t lanes = caps->subgroup_size > 32 ? 64 : 32;
    bool slices_fit = lanes * MATMUL_SLICES_MAX <= caps->max_invocations;
    return (struct matmul_tuning){.lanes = lanes,
                                  .rows_per_lane = 1,
                                  .columns = {{{1, 2, 4}, {1, 2, 4}}, {{1, 2, 4, 8}, {1, 2, 4}}},
                                  .slice_columns_max = slices_fit ? 4 : 0,
                                  .slabs = true,
                                  .integer_dot = true,
                                  .unrolled = true};
}

// A GPU: as many rows as registers allow, and for heads of 256 dimensions 64 lanes: with 32 Intel's compiler spills,
// and so it does with rows of several tokens and more unrolling. The software driver: many, so that its slow fetches
// matter less, but only for documents that repay the seconds which compiling that takes; its 8 lanes at a time, 4
// positions each, read a block of K from front to back.
static struct attend_tuning attend_default(const struct gpu_caps *caps)
{
    if (caps->is_software)
        return (struct attend_tuning){.rows_max = 8,
                                      .rows_max_long = 32,
                                      .lanes = 32,
                                      .keys = 4,
                                      .group = 8,
                                      .splits_enough = 16,
                                      .unroll_few = 4,
                                      .unroll_many = 2,
                                      .unroll_mixed_max = 4,
                                      .warm = true,
                                      .wide = caps->has_int64};
    return (struct attend_tuning){.rows_max = 8,
                                  .rows_max_long = 8,
                                  .lanes = 64,
                                  .keys = 2,
                                  .unroll_few = 2,
                                  .unroll_many = 2,
                                  .unroll_mixed_max = 1};
}

// Half a part of the rows per lane puts more lanes to work on a GPU, and takes half of the registers (with a whole one
// Intel's compiler spills); whole columns need no barrier per token. On the software driver more columns per lane would
// take long to compile.
static struct delta_tuning delta_default(const struct gpu_caps *caps)
{
    if (caps->is_software)
        return (struct delta_tuning){.lane_columns = 2, .whole_columns = true, .row_lanes = 1, .staged = 16};
    return (struct delta_tuning){.lane_columns = 1, .row_lanes = 2};
}

struct tuning tuning_default(const struct gpu_caps *caps)
{
    return (struct tuning){.matmul = matmul_default(caps),
                           .attend = attend_default(caps),
                           .delta = delta_default(caps),
                           .matrix_attention = caps->matrix_cores};
}

const char *tuning_path_name(uint32_t path)
{
    return path == TUNING_PATH_INTEGER_DOT    ? "integer dot products"
           : path == TUNING_PATH_SLICES       ? "sums in slices"
           : path == TUNING_PATH_QUADS        ? "products of 64-bit integers"
           : path == TUNING_PATH_MATRIX_CORES ? "products on matrix cores"
                                              : "attention on matrix cores";
}

uint32_t tuning_paths(const struct tuning *t)
{
    return (t->matmul.integer_dot ? TUNING_PATH_INTEGER_DOT : 0u) |
           (t->matmul.slice_columns_max ? TUNING_PATH_SLICES : 0u) | (t->matrix_cores ? TUNING_PATH_MATRIX_CORES : 0u) |
           (t->matmul.stage_words ? TUNING_PATH_QUADS : 0u) | (t->matrix_attention ? TUNING_PATH_MATRIX_ATTENTION : 0u);
}

void tuning_without(struct tuning *t, uint32_t mask)
{
    if (mask & TUNING_PATH_INTEGER_DOT)
        t->matmul.integer_dot = false;
    if (mask & TUNING_PATH_SLICES)
        t->matmul.slice_columns_max = 0;
    if (mask & TUNING_PATH_MATRIX_CORES)
        t->matrix_cores = false;
    if (mask & TUNING_PATH_QUADS)
        t->matmul.stage_words = 0;
    if (mask & TUNING_PATH_MATRIX_ATTENTION)
        t->matrix_attention = false;
}

bool tuning_is_valid(const struct tuning *t, const struct gpu_caps *caps)
{
    const struct matmul_tuning *m = &t->matmul;
    uint32_t slice_lanes = m->slice_columns_max ? MATMUL_SLICES_MAX : 1;
    bool fits = caps->is_software || m->lanes <= 32 || m->lanes <= caps->subgroup_size;
    return fits && m->lanes > 0 && m->rows_per_lane > 0 && m->lanes * m->rows_per_lane % 32 == 0 &&
           m->lanes * slice_lanes <= caps->max_invocations && (m->stage_words == 0 || caps->has_int64) &&
           m->stage_lanes <= caps->max_invocations && (!t->attend.wide || caps->has_int64) &&
           (!(t->matrix_cores || t->matrix_attention) || caps->matrix_cores);
}

// --- knobs ----------------------------------------------------------------------------------------------------------

#define MEMBER(member) offsetof(struct tuning, member), sizeof(((struct tuning *)0)->member) / 4

// Quads win on processors that multiply vectors of 64-bit integers (AVX-512). Some software drivers' loads by lane keep
// the processor from fetching ahead, and touching the next weights makes them much faster; others lose by it.
static const struct tuning_knob knobs_software[] = {
    {"matmul.stage_words", MEMBER(matmul.stage_words), 2, TUNING_TRIAL_VECTOR, {{0}, {STAGE_WORDS}}},
    {"matmul.read_ahead", MEMBER(matmul.read_ahead), 2, TUNING_TRIAL_VECTOR, {{0}, {1}}},
};

// The first is how a workgroup covers rows: lanes and rows per lane. Choices whose kernels spill registers with one of
// the compilers that tools/offline-compile asks are not among these: two rows per lane on Intel, loops that are not
// unrolled on Intel and AMD, 64 lanes where subgroups are narrower (tuning_is_valid).
static const struct tuning_knob knobs_gpu[] = {
    {"matmul.lanes",
     offsetof(struct tuning, matmul.lanes),
     2,
     2,
     TUNING_TRIAL_VECTOR | TUNING_TRIAL_MATRIX,
     {{32, 1}, {64, 1}}},
    {"matmul.slice_columns_max", MEMBER(matmul.slice_columns_max), 3, TUNING_TRIAL_VECTOR, {{0}, {1}, {4}}},
    {"matmul.integer_dot", MEMBER(matmul.integer_dot), 2, TUNING_TRIAL_VECTOR | TUNING_TRIAL_MATRIX, {{0}, {1}}},
    {"matmul.columns_q8", MEMBER(matmul.columns[1][0]), 2, TUNING_TRIAL_MATRIX, {{1, 2, 4}, {1, 2, 4, 8}}},
    {"matrix_cores", MEMBER(matrix_cores), 2, TUNING_TRIAL_MATRIX, {{0}, {1}}}, // last, so that the others are settled
};

const struct tuning_knob *tuning_knobs(const struct gpu_caps *caps, uint32_t *count)
{
    *count = caps->is_software ? sizeof knobs_software / sizeof *knobs_software : sizeof knobs_gpu / sizeof *knobs_gpu;
    return caps->is_software ? knobs_software : knobs_gpu;
}

uint32_t *tuning_knob_values(const struct tuning_knob *knob, struct tuning *tuning)
{
    CHECK(knob->offset + 4 * knob->width <= sizeof *tuning);
    return (uint32_t *)(void *)((char *)tuning + knob->offset);
}
